import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.errors import InputError
from case_jax.evaluation.error_analysis import analyse_errors
from case_jax.evaluation.matching import (
    class_slices,
    detected_segments,
    make_segments,
    match,
    overlapping_pairs,
    rank,
)
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.evaluation.per_video import per_video_ap
from case_jax.evaluation.protocols import map_by_protocol
from case_jax.evaluation.recall import average_recall
from case_jax.localization.detections import Detections, to_activitynet
from tests.helpers.names import ODD_NAMES
from tests.helpers.segments import CROWD, FOUND, TIOU, TRUTH, as_segments, ranked, slow_hits, slow_tiou, take

many = settings(max_examples=60, deadline=None, derandomize=True)
ROWS = {
    "truth": st.lists(TRUTH, min_size=1, max_size=10),
    "found": st.lists(FOUND, max_size=12) | st.lists(CROWD, min_size=8, max_size=25),
}


@many
@given(**ROWS)
def test_matches_are_those_of_one_detection_after_the_other(truth, found):
    instances = as_segments(truth)
    classes, truth_label = np.unique(instances.label, return_inverse=True)
    detections, label = rank(as_segments(found), classes)
    hit = match(instances, truth_label, detections, label, np.array(TIOU))
    for name, of_class in zip(classes.tolist(), class_slices(label, len(classes))):
        rows = list(zip(*(column[of_class].tolist() for column in detections)))
        assert rows == ranked(found, name)
        for q, threshold in enumerate(TIOU):
            assert hit[q, of_class].tolist() == slow_hits(truth, found, name, threshold)


@many
@given(**ROWS)
def test_overlapping_pairs_are_all_pairs_with_an_overlap_in_the_order_of_choice(truth, found):
    instances = as_segments(truth)
    classes, truth_label = np.unique(instances.label, return_inverse=True)
    detections, label = rank(as_segments(found), classes)
    rows = list(zip(*(column.tolist() for column in detections)))
    expected = [
        (d, i, slow_tiou(row[2:4], other[2:4]))
        for d, row in enumerate(rows)
        for i, other in enumerate(truth)
        if row[:2] == other[:2] and slow_tiou(row[2:4], other[2:4]) > 0
    ]
    pairs = overlapping_pairs(instances, truth_label, detections, label)
    assert list(zip(*(column.tolist() for column in pairs))) == sorted(
        expected, key=lambda pair: (pair[0], -pair[2], pair[1])
    )


def test_equal_tiou_goes_to_the_earlier_ground_truth():
    left, right = ("v", "a", 0, 4), ("v", "a", 4, 8)
    # The first detection overlaps both equally, the second only the left one.
    found = as_segments([("v", "a", 2, 6, 0.9), ("v", "a", 0, 3, 0.8)])
    assert detection_map(as_segments([left, right]), found, [0.3]).average == 0.5
    assert detection_map(as_segments([right, left]), found, [0.3]).average == 1.0


def test_a_threshold_is_reached_by_an_equal_tiou():
    truth = as_segments([("v", "a", 0, 10)])
    result = detection_map(truth, as_segments([("v", "a", 0, 3, 1.0)]), [0.3, 0.3 + 1e-9])
    assert result.per_tiou.tolist() == [1.0, 0.0]


def test_make_segments_keeps_order_and_takes_an_empty_mapping():
    segments = make_segments(
        {
            "w": [{"label": "b", "segment": (1, 2), "score": 0.5}],
            "empty": [],
            "v": [{"label": "a", "segment": [0, 3]}, {"label": "b", "segment": [4, 5]}],
        }
    )
    assert [column.tolist() for column in segments] == [
        ["w", "v", "v"],
        ["b", "a", "b"],
        [1.0, 0.0, 4.0],
        [2.0, 3.0, 5.0],
        [0.5, 0.0, 0.0],
    ]
    truth = as_segments([("v", "a", 0, 1)])
    assert detection_map(truth, make_segments({}), [0.5]).per_class.tolist() == [[0.0]]


def some_detections(count, seed=0):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 9, count)
    return Detections(rng.integers(0, 3, count), start, start + rng.uniform(0, 5, count), rng.random(count))


@pytest.mark.parametrize("counts", [(4, 0, 1, 7), (0,), (0, 0), (), (3,)])
def test_detected_segments_are_those_of_their_predictions(counts):
    classes = ("a", "bb", "a longer name")
    videos = {f"video{i}{'x' * i}": some_detections(count, seed=i) for i, count in enumerate(counts)}
    found = detected_segments(videos, classes)
    expected = make_segments(to_activitynet(videos, classes)["results"])
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.tolist() == theirs.tolist()
    assert found.score.size == sum(counts)
    truth = as_segments([("video0", "a", 0, 5), ("video3xxx", "bb", 1, 4)])
    ours, theirs = (detection_map(truth, segments, TIOU) for segments in (found, expected))
    np.testing.assert_array_equal(ours.per_class, theirs.per_class)


def test_names_that_differ_by_a_space_or_an_accent_are_different_videos_and_classes():
    entry = {"label": "a", "segment": (0, 1), "score": 0.5}
    for one in ODD_NAMES:
        truth = make_segments({one: [entry]})
        for other in ODD_NAMES:
            assert detection_map(truth, make_segments({other: [entry]}), [1.0]).average == (one == other)
    truth = make_segments({"v": [entry | {"label": name} for name in ODD_NAMES]})
    result = detection_map(truth, truth, [1.0])
    assert (result.classes, result.average) == (tuple(sorted(ODD_NAMES)), 1)
    one = Detections(np.arange(len(ODD_NAMES)), *np.tile([[0.0], [1.0], [0.5]], len(ODD_NAMES)))
    assert detection_map(truth, detected_segments({"v": one}, ODD_NAMES), [1.0]).average == 1
    assert detection_map(truth, detected_segments({"v ": one}, ODD_NAMES), [1.0]).average == 0


@pytest.mark.parametrize("name", ["v\0", "\0", "v\0a\0\0"])
def test_a_name_that_ends_in_nul_is_refused_not_shortened(name):
    entry = {"label": "a", "segment": (0, 1), "score": 0.5}
    one = Detections(np.array([0]), np.array([0.0]), np.array([1.0]), np.array([0.5]))
    for kind, flatten in (
        ("video", lambda: make_segments({"v": [entry], name: [entry]})),
        ("class", lambda: make_segments({"v": [entry, entry | {"label": name}]})),
        ("video", lambda: detected_segments({name: one}, ["a"])),
        ("class", lambda: detected_segments({"v": one}, ["a", name])),
    ):
        with pytest.raises(InputError) as caught:
            flatten()
        assert str(caught.value) == (
            f"{kind} {name!r}: ends in a NUL character; expected a name that numpy's text can hold"
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["score", "start", "end"])
def test_scores_and_bounds_that_are_not_finite_are_refused_by_every_measure(field, value):
    good = as_segments([("v", "a", 0, 10, 0.5), ("w", "b", 0, 10, 0.5), ("v", "x", 2, 3, 0.25)])
    column = getattr(good, field).copy()
    column[2] = value
    bad = good._replace(**{field: column})
    known = take(good, slice(2))  # the bad detection's class has no ground truth; it is refused nevertheless
    durations = {"v": 60.0, "w": 60.0}
    measures = {
        protocol: functools.partial(map_by_protocol, protocol)
        for protocol in ("activitynet", "thumos14", "thumos14_kit", "wtalc")
    }
    measures["per video"] = per_video_ap
    measures["errors"] = lambda truth, found, tiou: analyse_errors(
        truth, found, durations, tiou_thresholds=tiou
    )
    measures["recall"] = average_recall
    for name, measure in measures.items():
        kind = "proposals" if name == "recall" else "detections"
        for truth, found, what in ((known, bad, kind), (bad, good, "ground truth")):
            with pytest.raises(ValueError) as caught:
                measure(truth, found, [0.5])
            assert str(caught.value) == f"{what} must have finite scores and bounds, got the {field} {value}"
