"""Proposals seen as a whole, against loops over snippets in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from case_jax.localization.detections import Detections
from case_jax.localization.rescoring import Judge, PartMeans, ProposalScorer, SnippetMeans, extras, rescore

bounds = st.tuples(st.floats(-3, 12), st.floats(-3, 12)).map(sorted)


def mean_over(samples, start, end):
    """The mean of a step function, of which sample i covers [i, i + 1)."""
    total, length = np.zeros(samples.shape[1:]), 0.0
    for i, sample in enumerate(samples):
        covered = max(0.0, min(end, i + 1) - max(start, i))
        total, length = total + covered * sample, length + covered
    return total / length if length > 1e-6 else 0 * total


@given(st.lists(bounds, min_size=1, max_size=4), st.integers(1, 9))
def test_means_over_segments(segments, count):
    samples = np.random.default_rng(0).standard_normal((count, 3))
    start, end = np.array(segments).T
    means = SnippetMeans(samples)(start, end)
    for row, (a, b) in zip(means, segments):
        if not 0 < min(b, count) - max(a, 0) <= 2e-6:  # so short that rounding decides
            np.testing.assert_allclose(row, mean_over(samples, a, b), atol=1e-6)


def parts_of(samples, a, b, flank):
    """`PartMeans` of one proposal, by the definition."""
    inside, margin, middle = mean_over(samples[:, 0], a, b), max(flank * (b - a), 1.0), (a + b) / 2
    left = mean_over(samples[:, 1], a - margin, a) - mean_over(samples[:, 1], a, b) if a > 0 else 0 * inside
    right = 0 * inside
    if b < len(samples):
        right = mean_over(samples[:, 2], b, b + margin) - mean_over(samples[:, 2], a, b)
    halves = (mean_over(samples[:, 3], middle, b) - mean_over(samples[:, 3], a, middle)) / 2
    return inside, left, right, halves


@pytest.mark.parametrize(
    "start, end", [(2.0, 5.0), (0.0, 4.5), (6.5, 10.0), (0.0, 10.0), (3.25, 3.5), (9.5, 10)]
)
def test_the_parts_of_a_proposal(start, end):
    samples = np.random.default_rng(1).standard_normal((10, 4, 2))
    found = PartMeans(samples, flank=0.25)(np.array([start]), np.array([end]))
    for ours, theirs in zip(found, parts_of(samples, start, end, 0.25), strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=1e-9)


def test_extras_tell_the_length_and_the_ends_of_the_video():
    found = extras(np.array([0.0, 2.0, 0.0]), np.array([5.0, 10.0, 10.0]), 10)
    np.testing.assert_array_equal(found[:, 1:], [[1, 0], [0, 1], [1, 1]])
    np.testing.assert_allclose(found[:, 0], np.log([0.5, 0.8, 1.0]) / 2 + 1, atol=1e-5)


def a_scorer(width, hidden, num_classes):
    """The first layer and the rest, of random numbers."""
    rng = np.random.default_rng(2)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    rest = ProposalScorer(draw(3, hidden), draw(hidden), draw(hidden, num_classes), draw(num_classes), 0.25)
    return draw(width, 4, hidden), rest


@pytest.mark.parametrize("weight", [0.0, 0.15, 1.0])
def test_a_detection_gets_the_geometric_mean_of_its_score_and_its_probability(weight):
    """The network is applied to the proposal's features here, and to every snippet in `rescore`."""
    kernel, scorer = a_scorer(width=5, hidden=6, num_classes=3)
    features = np.random.default_rng(3).standard_normal((8, 5)).astype(np.float32)
    found = Detections(
        np.array([2, 0, 2]), np.array([1.0, 0.0, 6.0]), np.array([5.0, 16.0, 7.0]), np.array([0.5, 0.2, -0.1])
    )
    projected = np.einsum("td,dkh->tkh", features, kernel)
    again = rescore(found, [Judge(scorer, projected)], duration=16.0, weight=weight)
    np.testing.assert_array_equal(
        [again.label, again.start, again.end], [found.label, found.start, found.end]
    )
    for i, (label, start, end, score) in enumerate(zip(*found)):
        four = np.repeat(features[:, None].astype(np.float64), 4, axis=1)
        parts = parts_of(four, start / 2, end / 2, 0.25)  # two seconds a sample
        hidden = sum(part @ kernel[:, k].astype(np.float64) for k, part in enumerate(parts)) + scorer.bias
        hidden += extras(np.array([start / 2]), np.array([end / 2]), 8)[0] @ scorer.extras
        logit = np.maximum(hidden, 0) @ scorer.head[:, label] + scorer.head_bias[label]
        expected = max(score, 1e-6) ** (1 - weight) * 1 / (1 + np.exp(-logit)) ** weight
        assert again.score[i] == pytest.approx(expected, rel=1e-4)


def test_no_detections_stay_none():
    kernel, scorer = a_scorer(width=2, hidden=3, num_classes=2)
    none = Detections(np.zeros(0, np.int64), *np.zeros((3, 0)))
    projected = np.einsum("td,dkh->tkh", np.ones((4, 2), np.float32), kernel)
    assert rescore(none, [Judge(scorer, projected)], duration=4.0, weight=0.5).score.size == 0


def test_several_second_stages_average_their_probabilities():
    found = Detections(np.array([1]), np.array([1.0]), np.array([3.0]), np.array([0.5]))
    samples = np.random.default_rng(4).standard_normal((4, 2)).astype(np.float32)
    judges = []
    for sign in (1, -1):
        kernel, scorer = a_scorer(width=2, hidden=3, num_classes=2)
        judges.append(Judge(scorer, np.einsum("td,dkh->tkh", samples, sign * kernel)))
    alone = [float(rescore(found, [judge], duration=4.0, weight=1.0).score[0]) for judge in judges]
    together = rescore(found, judges, duration=4.0, weight=1.0)
    assert alone[0] != alone[1]
    assert together.score[0] == pytest.approx(np.mean(alone))
