import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.annotations import read_ground_truth, subset_of
from case_jax.data.load import load_dataset
from case_jax.evaluation.matching import Segments, detected_segments, make_segments
from case_jax.evaluation.mean_average_precision import DetectionMap, average_over, detection_map
from case_jax.localization.detections import Detections, read_predictions, to_activitynet

THUMOS_TIOU = np.arange(1, 8) / 10


def slow_tiou(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union > 0 else 0.0


def slow_ap(hits, instances):
    """The textbook (VOC 2011) area: envelope of precision, summed where recall changes."""
    precision, recall, found = [0.0], [0.0], 0
    for rank, hit in enumerate(hits, start=1):
        found += hit
        precision.append(found / rank)
        recall.append(found / instances)
    precision.append(0.0)
    recall.append(1.0)
    for i in reversed(range(len(precision) - 1)):
        precision[i] = max(precision[i], precision[i + 1])
    steps = [i for i in range(1, len(recall)) if recall[i] != recall[i - 1]]
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in steps)


def slow_detection_map(truth, found, thresholds):
    """(G, Q) from rows (video, label, start, end[, score]), one detection after the other."""
    classes = sorted({row[1] for row in truth})
    table = np.zeros((len(classes), len(thresholds)))
    for q, threshold in enumerate(thresholds):
        for g, name in enumerate(classes):
            free = [row for row in truth if row[1] == name]
            instances, hits = len(free), []
            ranked = sorted(
                (row for row in found if row[1] == name),
                key=lambda row: (-row[4], row[0], row[2], row[3]),
            )
            for video, _, start, end, _ in ranked:
                best, best_tiou = None, 0.0
                for candidate in free:
                    overlap = slow_tiou((start, end), candidate[2:4])
                    if candidate[0] == video and overlap >= threshold and overlap > best_tiou:
                        best, best_tiou = candidate, overlap
                if best is not None:  # by identity: two equal ground truths are two
                    free = [candidate for candidate in free if candidate is not best]
                hits.append(best is not None)
            table[g, q] = slow_ap(hits, instances)
    return table


def as_segments(rows):
    columns = list(zip(*rows)) or [()] * 4
    scores = columns[4] if len(columns) == 5 else np.zeros(len(rows))
    return Segments(
        np.array(columns[0], str),
        np.array(columns[1], str),
        *(np.array(column, np.float64) for column in (*columns[2:4], scores)),
    )


# Few places, lengths and scores: ties of every kind, duplicates, touching and zero-length segments.
SPAN = st.tuples(st.integers(0, 7), st.integers(0, 4)).map(lambda s: (s[0] / 2, (s[0] + s[1]) / 2))
TRUTH = st.tuples(st.sampled_from("uv"), st.sampled_from("ac"), SPAN).map(lambda r: (*r[:2], *r[2]))
FOUND = st.tuples(
    st.sampled_from("uvw"), st.sampled_from("abcd"), SPAN, st.sampled_from([0.2, 0.5, 0.9])
).map(lambda r: (*r[:2], *r[2], r[3]))
CROWD = st.tuples(SPAN, st.sampled_from([0.2, 0.9])).map(lambda r: ("u", "a", *r[0], r[1]))
TIOU = [0.1, 1 / 3, 0.5, 0.75, 1.0]


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    truth=st.lists(TRUTH, min_size=1, max_size=10),
    found=st.lists(FOUND, max_size=12) | st.lists(CROWD, min_size=8, max_size=25),
)
def test_agrees_with_one_detection_after_the_other_in_any_input_order(truth, found):
    expected = slow_detection_map(truth, found, TIOU)
    result = detection_map(as_segments(truth), as_segments(found), TIOU)
    assert result.classes == tuple(sorted({row[1] for row in truth}))
    np.testing.assert_allclose(result.per_class, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.per_tiou, expected.mean(axis=0), rtol=0, atol=1e-12)
    assert result.average == pytest.approx(expected.mean(), abs=1e-12)

    order = np.random.default_rng(len(found)).permutation(len(found))
    shuffled = detection_map(as_segments(truth), as_segments([found[i] for i in order]), TIOU)
    np.testing.assert_array_equal(shuffled.per_class, result.per_class)


def test_agrees_where_many_detections_contend_for_many_ground_truths():
    rng = np.random.default_rng(0)
    start = rng.integers(0, 60, 400)
    spans = np.stack([start, start + rng.integers(1, 30, 400)], axis=1).tolist()
    truth = [("v", "a", *span) for span in spans[:60]]
    found = [("v", "a", *span, score) for span, score in zip(spans[60:], rng.random(340).round(2))]
    result = detection_map(as_segments(truth), as_segments(found), TIOU)
    expected = slow_detection_map(truth, found, TIOU)
    np.testing.assert_allclose(result.per_class, expected, rtol=0, atol=1e-12)
    assert 0.2 < result.average < 1


@pytest.mark.parametrize(
    "hits, instances, expected",
    [
        ([1, 1, 1], 3, 1.0),
        ([1, 0, 1], 3, 1 / 3 + 1 / 3 * 2 / 3),
        ([0, 1, 1, 0], 3, 2 / 3 * 2 / 3),  # the envelope lifts the first hit's 1/2 to 2/3
        ([0, 0, 0, 1], 1, 1 / 4),
        ([0, 0], 2, 0.0),
        ([], 2, 0.0),
    ],
)
def test_average_precision_by_hand(hits, instances, expected):
    truth = [("v", "a", 10 * i, 10 * i + 5) for i in range(instances)]
    places = iter(truth)
    found = [(*(next(places) if hit else ("v", "a", -9, -8)), 1 - 0.1 * i) for i, hit in enumerate(hits)]
    result = detection_map(as_segments(truth), as_segments(found), [0.5])
    np.testing.assert_allclose(result.per_class, [[expected]], rtol=1e-15)


def test_equal_tiou_goes_to_the_earlier_ground_truth():
    left, right = ("v", "a", 0, 4), ("v", "a", 4, 8)
    # The first detection touches both alike, the second only the left one.
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


@pytest.mark.parametrize("truth, tiou", [([], [0.5]), ([("v", "a", 0, 1)], [])])
def test_nothing_to_measure_is_an_error(truth, tiou):
    with pytest.raises(ValueError, match="needs at least one ground truth and one tIoU threshold"):
        detection_map(as_segments(truth), as_segments([]), tiou)


def test_average_over_a_range_of_thresholds():
    per_class = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], [0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]])
    result = DetectionMap(THUMOS_TIOU, ("a", "b"), per_class)
    assert average_over(result, 0.1, 0.5) == pytest.approx(0.6)
    assert average_over(result, 0.3, 0.7) == pytest.approx(0.4)
    assert average_over(result, 0.1, 0.7) == pytest.approx(result.average)
    assert average_over(result, 0.5, 0.5) == pytest.approx(0.4)
    assert average_over(result, 0.5, 0.9) is None
    # Thresholds between the tenths, as ActivityNet's, do not count.
    fine = DetectionMap(np.array([0.5, 0.55, 0.6]), ("a",), np.array([[1.0, 0.0, 0.5]]))
    assert average_over(fine, 0.5, 0.6) == pytest.approx(0.75)


def test_real_thumos14_detections(shared_data):
    folder = shared_data / "thumos14"
    truth = subset_of(read_ground_truth(folder / "gt.json"), "test", path=folder / "gt.json")
    truth = {
        video: [{"label": a.label, "segment": (a.start, a.end)} for a in annotations]
        for video, annotations in truth.items()
    }
    found = make_segments(read_predictions(folder / "detections_crnet.json"))
    assert found.score.size == 19827
    result = detection_map(make_segments(truth), found, THUMOS_TIOU)
    expected = "0.66253474 0.60235689 0.52026820 0.42989168 0.34295393 0.23083844 0.12878001"
    assert " ".join(f"{value:.8f}" for value in result.per_tiou) == expected
    assert f"{result.average:.8f}" == "0.41680341"
    assert len(result.classes) == 20

    order = np.random.default_rng(0).permutation(found.score.size)
    shuffled = detection_map(
        make_segments(truth), Segments(*(column[order] for column in found)), THUMOS_TIOU
    )
    np.testing.assert_array_equal(shuffled.per_class, result.per_class)


def test_published_detections_on_the_inertial_set(shared_data):
    folder = shared_data / "inertial"
    truth = make_segments(load_dataset(folder).test.ground_truth())
    found = make_segments(read_predictions(folder / "published" / "result.json"))
    expected = json.loads((folder / "published" / "map.json").read_text())
    result = detection_map(truth, found, THUMOS_TIOU)
    np.testing.assert_allclose(result.per_tiou, expected["map"], rtol=0, atol=5.1e-9)
    assert result.average == pytest.approx(expected["average"], abs=5.1e-9)
