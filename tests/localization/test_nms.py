import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.localization.detections import Detections
from case_jax.localization.nms import _first_come, published_soft_nms, standard_soft_nms

many = settings(max_examples=50, deadline=None, derandomize=True)
# Whole seconds and few scores give ties in both, duplicates, zero lengths and tIoUs that equal a threshold.
ROW = st.tuples(
    st.sampled_from([0.0, 0.1, 0.5, 0.6, 0.9]) | st.floats(0, 1),
    st.integers(0, 12),
    st.integers(0, 9),
).map(lambda row: (row[0], float(row[1]), float(row[1] + row[2])))
ROWS = st.lists(ROW, max_size=20)
THRESHOLD = st.sampled_from([0.0, 0.25, 0.4, 0.5, 1.0])


def as_detections(rows, label=3):
    score, start, end = np.array(rows, np.float64).reshape(-1, 3).T
    return Detections(np.full(len(rows), label), start, end, score)


def as_rows(found):
    return np.stack([found.score, found.start, found.end], axis=1)


def slow_tiou(a, b, extra):
    shared = max(0.0, min(a[2], b[2]) - max(a[1], b[1]) + extra)
    union = (a[2] - a[1] + extra) + (b[2] - b[1] + extra) - shared
    return shared / union if union > 0 else 0.0


def slow_published(rows, threshold, alpha):
    pool = sorted(rows, key=lambda row: -row[0])
    kept, suppressed = [], []
    while pool:
        best, *pool = pool
        kept.append(best)
        stay = []
        for row in pool:
            overlap = slow_tiou(best, row, 1.0)
            if overlap >= threshold:
                suppressed.append((row[0] * math.exp(-(overlap**2) / alpha), *row[1:]))
            else:
                stay.append(row)
        pool = stay
    return np.array(kept + suppressed).reshape(-1, 3)


def slow_bodla(rows, alpha, threshold=None):
    """Figure 2 of the Soft-NMS paper with the Gaussian weight; the threshold is not in the paper."""
    pool, result = list(rows), []
    while pool:
        best = max(pool, key=lambda row: row[0])  # the first of the best
        pool.remove(best)
        result.append(best)
        overlaps = [slow_tiou(best, row, 0.0) for row in pool]
        if threshold is not None:
            overlaps = [overlap if overlap >= threshold else 0.0 for overlap in overlaps]
        decays = [math.exp(-(overlap**2) / alpha) for overlap in overlaps]
        pool = [(row[0] * decay, *row[1:]) for row, decay in zip(pool, decays)]
    return np.array(result).reshape(-1, 3)


@many
@given(rows=ROWS, threshold=THRESHOLD, alpha=st.sampled_from([0.35, 1.0]))
def test_published_agrees_with_its_loop(rows, threshold, alpha):
    found = published_soft_nms(as_detections(rows), threshold=threshold, alpha=alpha)
    expected = slow_published(rows, threshold, alpha)
    np.testing.assert_allclose(as_rows(found), expected, rtol=1e-13, atol=1e-300)
    assert set(found.label) <= {3}


@pytest.mark.parametrize("name", ["infer_init_T64", "infer_trained_T750", "infer_trained_T750_base"])
def test_published_agrees_with_the_recordings(golden, name):
    recorded = json.loads((golden / f"{name}.json").read_text())
    *_, threshold, alpha, _ = np.load(golden / f"{name}.npz")["params"]
    for before, after in zip(recorded["before_nms"], recorded["after_nms"], strict=True):
        found = as_detections([row[1:] for row in before], label=int(before[0][0]))
        result = published_soft_nms(found, threshold=threshold, alpha=alpha)
        np.testing.assert_array_equal(result.label, [row[0] for row in after])
        expected = [row[1:] for row in after]
        np.testing.assert_allclose(as_rows(result), expected, rtol=0, atol=1e-9)


def test_published_suppresses_once_and_standard_again_and_again():
    rows = [(0.9, 0, 10), (0.8, 0, 10), (0.7, 0, 10)]
    once = published_soft_nms(as_detections(rows), threshold=0.4, alpha=0.5)
    np.testing.assert_allclose(once.score, [0.9, 0.8 * math.exp(-2), 0.7 * math.exp(-2)])
    again = standard_soft_nms(as_detections(rows), threshold=0.4, alpha=0.5)
    np.testing.assert_allclose(again.score, [0.9, 0.8 * math.exp(-2), 0.7 * math.exp(-4)])


def test_published_counts_one_second_more():
    # tIoU 1/5 as lengths go, 2/6 with one second more.
    rows = [(0.9, 0, 3), (0.5, 2, 5)]
    for threshold, lowered in ((0.25, True), (0.34, False)):
        found = published_soft_nms(as_detections(rows), threshold=threshold, alpha=1.0)
        assert found.score[1] == pytest.approx(0.5 * math.exp(-1 / 9) if lowered else 0.5)
        assert standard_soft_nms(as_detections(rows), threshold=threshold, alpha=1.0).score[1] == 0.5


@many
@given(rows=ROWS, threshold=THRESHOLD, alpha=st.sampled_from([0.35, 1.0]))
def test_standard_agrees_with_its_loop_and_at_threshold_0_with_bodla_et_al(rows, threshold, alpha):
    for standard, literal in ((0.0, None), (threshold, threshold)):
        found = standard_soft_nms(as_detections(rows), threshold=standard, alpha=alpha)
        expected = slow_bodla(rows, alpha, literal)
        np.testing.assert_allclose(as_rows(found), expected, rtol=1e-12, atol=1e-300)


@many
@given(rows=ROWS, threshold=THRESHOLD)
def test_standard_invariants(rows, threshold):
    before = as_detections(rows)
    untouched = Detections(*(column.copy() for column in before))
    after = standard_soft_nms(before, threshold=threshold, alpha=0.35)
    for column, copy in zip(before, untouched):
        np.testing.assert_array_equal(column, copy)
    assert np.all(np.diff(after.score) <= 0)
    segments = list(zip(before.start, before.end))
    assert sorted(segments) == sorted(zip(after.start, after.end))
    # Scores never grow, for the equal segments taken together, best with best.
    for segment in set(segments):
        old = np.sort(before.score[[s == segment for s in segments]])
        new = np.sort(after.score[[s == segment for s in zip(after.start, after.end)]])
        assert np.all(new <= old)
    if rows:
        assert after.score[0] == before.score.max()


@pytest.mark.parametrize("soft_nms", [published_soft_nms, standard_soft_nms])
def test_distant_detections_keep_their_scores(soft_nms):
    rows = [(0.2, 0, 1), (0.8, 10, 12), (0.5, 20, 29)]
    found = soft_nms(as_detections(rows), threshold=0.1, alpha=0.35)
    np.testing.assert_array_equal(as_rows(found), sorted(rows, reverse=True))


def upper_triangle(count):
    flat = st.lists(st.booleans(), min_size=count**2, max_size=count**2)
    return flat.map(lambda bits: np.triu(np.reshape(np.array(bits, bool), (count, count)), k=1))


@many
@given(conflicts=st.integers(0, 12).flatmap(upper_triangle))
def test_first_come_agrees_with_a_loop(conflicts):
    kept = []
    for i in range(len(conflicts)):
        if not any(conflicts[j, i] for j in kept):
            kept.append(i)
    assert np.flatnonzero(_first_come(conflicts)).tolist() == kept


def test_first_come_follows_the_longest_chain():
    # Each conflicts with the next alone: every other one is kept.
    assert _first_come(np.eye(50, k=1, dtype=bool)).tolist() == [True, False] * 25


@pytest.mark.parametrize("count", [255, 256, 257, 600])
@pytest.mark.parametrize("threshold", [0.1, 0.4])
def test_published_agrees_with_its_loop_on_many(count, threshold):
    rng = np.random.default_rng(count)
    start = rng.uniform(0, 200, count).round(1)
    rows = np.stack([rng.random(count).round(2), start, start + rng.uniform(0.5, 30, count).round(1)], axis=1)
    assert len(set(rows[:, 0])) < count  # some scores are equal
    found = published_soft_nms(as_detections(rows), threshold=threshold, alpha=0.35)
    expected = slow_published([tuple(row) for row in rows.tolist()], threshold, 0.35)
    np.testing.assert_allclose(as_rows(found), expected, rtol=1e-13, atol=0)
    assert 2 < np.count_nonzero(np.isin(found.score, rows[:, 0])) < count
