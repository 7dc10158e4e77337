import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import interp1d

from case_jax.config import CaseConfig
from case_jax.localization.proposals import kept_classes, proposals, upsample

GOLDEN = ["infer_init_T64", "infer_trained_T750", "infer_trained_T750_base"]
many = settings(max_examples=50, deadline=None, derandomize=True)


def slow_proposals(sequence, video_scores, classes, seconds, thresholds, flank, weight):
    """Rows (label, score, start, end), run by run."""
    rows = []
    for column, label in enumerate(classes):
        values = [float(v) for v in sequence[:, column]]
        for threshold in thresholds:
            runs = itertools.groupby(range(len(values)), key=lambda p: values[p] > threshold)
            for run in [list(positions) for above, positions in runs if above]:
                a, b, n = run[0], run[-1], len(run)
                left = range(max(0, int(a - flank * n)), a)
                right = range(b + 1, min(int(b + flank * n), len(values) - 1) + 1)
                outside = [values[p] for p in (*left, *right)]
                inner = sum(values[p] for p in run) / n
                outer = sum(outside) / len(outside) if outside else 0.0
                score = inner - outer + weight * video_scores[label]
                rows.append((label, score, a * seconds, (b + 1) * seconds))
    return np.array(rows).reshape(-1, 4)


def as_rows(found):
    return np.stack([found.label, found.score, found.start, found.end], axis=1)


@many
@given(
    # Values equal to a threshold, and between thresholds.
    sequence=arrays(
        np.float64,
        st.tuples(st.integers(1, 60), st.integers(1, 3)),
        elements=st.sampled_from([0.0, 0.3, 0.5, 0.51, 0.8]) | st.floats(-1, 2, width=32),
    ),
    flank=st.sampled_from([0.0, 0.15, 0.25, 0.5, 1.0, 3.0]),
    first_class=st.integers(0, 4),
)
def test_proposals_agree_with_run_by_run(sequence, flank, first_class):
    video_scores = np.linspace(0.2, 0.9, 8)
    classes = first_class + np.arange(sequence.shape[1])
    thresholds = (0.3, 0.5, 0.7)
    expected = slow_proposals(sequence, video_scores, classes, 0.04, thresholds, flank, 0.2)
    found = proposals(
        sequence,
        video_scores,
        classes=classes,
        seconds_per_position=0.04,
        thresholds=thresholds,
        flank=flank,
        video_score_weight=0.2,
    )
    np.testing.assert_allclose(as_rows(found), expected, rtol=0, atol=1e-12)
    assert found.label.dtype == np.int64
    assert found.score.dtype == found.start.dtype == found.end.dtype == np.float64


def test_proposals_by_hand():
    # A run of 4 (mean 0.8) with flanks int(3 - 0.5 * 4) .. 2 and 7 .. int(6 + 0.5 * 4).
    values = np.array([0.9, 0.1, 0.3, 0.7, 0.7, 0.9, 0.9, 0.2, 0.4, 0.0])
    found = proposals(
        values[:, None],
        np.array([0.0, 0.0, 0.5]),
        classes=np.array([2]),
        seconds_per_position=2.0,
        thresholds=[0.5, 0.9],
        flank=0.5,
        video_score_weight=0.2,
    )
    np.testing.assert_allclose(
        as_rows(found),
        [[2, 0.9 - 0 + 0.1, 0, 2], [2, 0.8 - (0.1 + 0.3 + 0.2 + 0.4) / 4 + 0.1, 6, 14]],
        atol=1e-12,
    )


def test_a_run_without_flanks_is_scored_by_its_inside_only():
    found = proposals(
        np.full((40, 1), 0.6),
        np.ones(1),
        classes=np.array([0]),
        seconds_per_position=0.5,
        thresholds=[0.1, 0.6],  # the run is not strictly above the second one
        flank=0.15,
        video_score_weight=0.2,
    )
    np.testing.assert_allclose(as_rows(found), [[0, 0.8, 0, 20]], atol=1e-12)


@many
@given(
    sequence=arrays(
        np.float32, st.tuples(st.integers(2, 30), st.integers(1, 3)), elements=st.floats(-2, 2, width=32)
    ),
    factor=st.integers(1, 30),
)
def test_upsample_agrees_with_scipy(sequence, factor):
    grid = np.arange(len(sequence) * factor) / factor
    exact = sequence.astype(np.float64)
    expected = interp1d(np.arange(len(sequence)), exact, axis=0, fill_value="extrapolate")(grid)
    result = upsample(sequence, factor)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


def test_upsample_repeats_a_single_sample():
    np.testing.assert_array_equal(upsample(np.array([[0.25, 1.0]]), 3), [[0.25, 1.0]] * 3)


@pytest.mark.parametrize(
    "scores, expected",
    [
        ([0.3, 0.1, 0.6], [0, 2]),
        ([0.25, 0.24999, 0.9], [0, 2]),  # reached by equality
        ([0.1, 0.2, 0.2], [1]),  # none: the first of the best
        ([0.9, 0.9], [0, 1]),
    ],
)
def test_kept_classes(scores, expected):
    assert kept_classes(np.array(scores), 0.25).tolist() == expected


def test_no_class_may_be_kept():
    assert kept_classes(np.array([0.1, 0.2]), 0.25, or_best=False).size == 0
    assert kept_classes(np.array([0.1, 0.3]), 0.25, or_best=False).tolist() == [1]


@pytest.mark.parametrize("name", GOLDEN)
def test_published_upsampling_and_proposals(golden, name):
    arrays_ = np.load(golden / f"{name}.npz")
    recorded = json.loads((golden / f"{name}.json").read_text())["before_nms"]
    num_snippets, scale, flank, class_threshold, *_, fps = arrays_["params"]
    config = CaseConfig()
    assert (scale, flank, class_threshold) == (
        config.upsampling,
        config.flank,
        config.class_threshold,
    )

    # The published code localises the annotated classes and counts each as 1.
    video_scores = arrays_["label"][0]
    classes = kept_classes(video_scores, class_threshold)
    assert [int(rows[0][0]) for rows in recorded] == classes.tolist()
    sequence = upsample(arrays_["combined_cas"][0][:, classes], int(scale))
    expected = arrays_["upsampled_pred_classes"][..., 0]
    np.testing.assert_allclose(sequence, expected, rtol=0, atol=1e-6)

    duration = float(arrays_["vid_num_seg"]) * 16 / fps
    found = proposals(
        sequence,
        video_scores,
        classes=classes,
        seconds_per_position=duration / (num_snippets * scale),
        thresholds=config.proposal_thresholds,
        flank=flank,
        video_score_weight=config.video_score_weight,
    )
    label, score, start, end = np.array([row for rows in recorded for row in rows]).T
    np.testing.assert_array_equal(found.label, label)
    np.testing.assert_allclose(found.start, start, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.end, end, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.score, score, rtol=0, atol=1e-5)
