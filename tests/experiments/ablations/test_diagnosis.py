import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.dataset import Annotation, Dataset, Split, Video
from case_jax.data.info import DatasetInfo
from case_jax.method.scores import VideoScores
from experiments.ablations.diagnosis import area_under_curve, diagnose, sampled_truth


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
@settings(deadline=None)
def test_the_area_is_the_share_of_pairs_in_the_right_order(points):
    scores, positive = np.array([p[0] for p in points], float), np.array([p[1] for p in points])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    area = area_under_curve(scores, positive)
    assert np.isnan(area) if not pairs else area == pytest.approx(np.mean(pairs))


INFO = DatasetInfo(classes=("Jump",), streams=("acc",), frames_per_second=1, frames_per_snippet=1)
VIDEO = Video("v", {"acc": np.zeros((8, 2), np.float32)}, (Annotation("Jump", 2.0, 5.0),))
DATASET = Dataset(INFO, Split("train", ()), Split("test", (VIDEO,)))


def test_truth_is_read_in_the_middle_of_sampled_snippets():
    truth = sampled_truth(DATASET, 4)
    assert truth.tolist() == [[False, True, True, False]]  # snippets 0, 2, 4, 6


def diagnosed(scores, labels, *, ccc):
    """The diagnosis of some scores, and with which foreground probability they were asked for."""
    asked = []

    def score(state, *, foreground):
        asked.append(foreground)
        return scores

    state = types.SimpleNamespace(
        config=types.SimpleNamespace(ccc=ccc, num_snippets=4), cluster_labels=np.asarray(labels)
    )
    lab = types.SimpleNamespace(dataset=DATASET, evaluator=types.SimpleNamespace(score=score))
    return diagnose(lab, state), asked


def test_a_diagnosis_compares_foreground_and_clusters_with_the_annotations():
    attention = np.array([[0.1, 0.9, 0.2, 0.3]])  # snippets 1 and 2 lie in an action
    transformed = np.array([[0.1, 0.9, 0.8, 0.3]])
    clusters = np.eye(3)[[[0, 1, 1, 1]]]
    scores = VideoScores(None, None, attention, transformed, None, clusters)
    found, asked = diagnosed(scores, [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9]], ccc=True)
    assert asked == ["mixed"]
    assert found == pytest.approx(
        {"true": 50, "AUC P^A": 75, "AUC P^T": 100, "purity": 75, "called": 2, "are": 1}
    )


def test_without_clusters_only_the_attention_is_diagnosed():
    scores = VideoScores(None, None, np.array([[0.1, 0.9, 0.2, 0.3]]), None, None, None)
    found, asked = diagnosed(scores, np.zeros((3, 2)), ccc=False)
    assert asked == ["attention"]
    assert found == pytest.approx({"true": 50, "AUC P^A": 75})
