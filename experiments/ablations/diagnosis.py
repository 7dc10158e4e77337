"""How well attention and clusters separate actions from background, measured against the annotations."""

import numpy as np

from case_jax.data.dataset import Dataset, in_action
from case_jax.data.samplers import uniform_indices
from case_jax.evaluation.clusters import summarise_clusters
from case_jax.training.state import TrainState
from experiments.ablations.runs import Laboratory

__all__ = ["area_under_curve", "diagnose", "sampled_truth"]


def diagnose(lab: Laboratory, state: TrainState) -> dict[str, float]:
    """Compares a trained state's foreground with the annotations of the test split.

    Args:
        lab: the laboratory, whose test split is used.
        state: a trained state.

    Returns:
        Percentages of the sampled test snippets: "true" lie in an action; "AUC P^A" and, with CCC, "AUC P^T"
        are `area_under_curve`; with CCC, "purity" are of their cluster's more frequent kind. With CCC also
        numbers of clusters: those "called" foreground by Q^C, and those that "are" foreground, because most
        of their members lie in actions.
    """
    with_clusters = state.config.ccc
    scores = lab.evaluator.score(state, foreground="mixed" if with_clusters else "attention")
    truth = sampled_truth(lab.dataset, state.config.num_snippets)
    found = {
        "true": 100 * float(truth.mean()),
        "AUC P^A": 100 * area_under_curve(np.asarray(scores.attention), truth),
    }
    if with_clusters:
        summary = summarise_clusters(scores.clusters, truth)
        found |= {
            "AUC P^T": 100 * area_under_curve(np.asarray(scores.transformed_foreground), truth),
            "purity": 100 * summary.purity,
            "called": float((np.asarray(state.cluster_labels)[:, 0] > 0.5).sum()),
            "are": float(summary.num_foreground),
        }
    return found


def sampled_truth(dataset: Dataset, num_snippets: int) -> np.ndarray:
    """Whether an annotated action is on in the middle of each sampled test snippet.

    Args:
        dataset: its test split has V videos.
        num_snippets: T, how many snippets are sampled from each video.

    Returns:
        (V, T) bool.
    """
    rows = []
    for video in dataset.test.videos:
        positions = np.asarray(uniform_indices(np.int32(video.num_snippets), num_snippets))
        seconds = (positions + 0.5) * video.seconds(dataset.info) / video.num_snippets
        rows.append(in_action(video.annotations, seconds))
    return np.stack(rows)


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve: the probability that a positive scores higher than a negative.

    Equal scores count as half.

    Args:
        scores: (...) float.
        positive: (...) bool, the same shape.

    Returns:
        In [0, 1]; NaN if there are no positives or no negatives.

    Example:
        >>> area_under_curve(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
        0.875
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    positive = positive.reshape(-1)
    num_positive, num_negative = positive.sum(), (~positive).sum()
    if not num_positive or not num_negative:
        return float("nan")
    rank_sum = mean_rank[inverse.reshape(-1)][positive].sum()
    return float((rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))
