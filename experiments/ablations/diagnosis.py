"""How well attention and clusters tell actions from background, measured against the annotations."""

import numpy as np

from case_jax.data.dataset import Dataset, in_action
from case_jax.data.samplers import uniform_indices
from case_jax.training.state import TrainState
from experiments.ablations.runs import Laboratory

__all__ = ["area_under_curve", "diagnose", "sampled_truth"]


def diagnose(lab: Laboratory, state: TrainState) -> dict[str, float]:
    """Looks at a trained state with the eyes of the test split's annotations.

    Args:
        lab: whose test split it is.
        state: a trained state.

    Returns:
        In % of sampled test snippets: "true", inside an action; "AUC P^A" and, with classified clusters, "AUC
        P^T", see `area_under_curve`; "purity", of their cluster's more frequent kind. And clusters: "called"
        foreground by Q^C, and those that "are", by most of their snippets.
    """
    with_clusters = state.config.ccc
    scores = lab.evaluator.score(state, foreground="mixed" if with_clusters else "attention")
    truth = sampled_truth(lab.dataset, state.config.num_snippets)
    found = {
        "true": 100 * float(truth.mean()),
        "AUC P^A": 100 * area_under_curve(np.asarray(scores.attention), truth),
    }
    if with_clusters:
        own = np.asarray(scores.clusters).argmax(axis=-1)
        sizes, inside = (
            np.bincount(own.reshape(-1), weights=weights, minlength=state.config.num_clusters)
            for weights in (None, truth.reshape(-1))
        )
        found |= {
            "AUC P^T": 100 * area_under_curve(np.asarray(scores.transformed_foreground), truth),
            "purity": 100 * float(np.maximum(inside, sizes - inside).sum() / truth.size),
            "called": float((np.asarray(state.cluster_labels)[:, 0] > 0.5).sum()),
            "are": float((2 * inside > sizes).sum()),
        }
    return found


def sampled_truth(dataset: Dataset, num_snippets: int) -> np.ndarray:
    """(V, T) bool: whether an annotated action is on in the middle of each sampled test snippet."""
    rows = []
    for video in dataset.test.videos:
        positions = np.asarray(uniform_indices(np.int32(video.num_snippets), num_snippets))
        seconds = (positions + 0.5) * video.seconds(dataset.info) / video.num_snippets
        rows.append(in_action(video.annotations, seconds))
    return np.stack(rows)


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores higher than a negative, equal scores counted half.

    Args:
        scores: any shape.
        positive: bool of the same shape.

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
