import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.load import load_dataset
from case_jax.evaluation.matching import make_segments
from case_jax.evaluation.mean_average_precision import DetectionMap, average_over, detection_map
from case_jax.localization.detections import read_predictions
from tests.helpers.segments import CROWD, FOUND, TIOU, TRUTH, as_segments, slow_detection_map, take

THUMOS_TIOU = np.arange(1, 8) / 10


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    truth=st.lists(TRUTH, min_size=1, max_size=10),
    found=st.lists(FOUND, max_size=12) | st.lists(CROWD, min_size=8, max_size=25),
)
def test_agrees_with_plain_loops_in_any_input_order(truth, found):
    expected = slow_detection_map(truth, found, TIOU)
    result = detection_map(as_segments(truth), as_segments(found), TIOU)
    assert result.classes == tuple(sorted({row[1] for row in truth}))
    np.testing.assert_allclose(result.per_class, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.per_tiou, expected.mean(axis=0), rtol=0, atol=1e-12)
    assert result.average == pytest.approx(expected.mean(), abs=1e-12)

    order = np.random.default_rng(len(found)).permutation(len(found))
    shuffled = detection_map(as_segments(truth), as_segments([found[i] for i in order]), TIOU)
    np.testing.assert_array_equal(shuffled.per_class, result.per_class)


def test_agrees_with_plain_loops_where_many_detections_compete_for_many_instances():
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


@pytest.mark.parametrize("truth, tiou", [([], [0.5]), ([("v", "a", 0, 1)], [])])
def test_without_ground_truth_or_thresholds_it_is_an_error(truth, tiou):
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


def test_real_thumos14_detections(real):
    truth, found = real.truth_segments, real.found_segments
    assert found.score.size == 19827
    result = detection_map(truth, found, THUMOS_TIOU)
    expected = "0.66253474 0.60235689 0.52026820 0.42989168 0.34295393 0.23083844 0.12878001"
    assert " ".join(f"{value:.8f}" for value in result.per_tiou) == expected
    assert f"{result.average:.8f}" == "0.41680341"
    assert len(result.classes) == 20

    order = np.random.default_rng(0).permutation(found.score.size)
    shuffled = detection_map(truth, take(found, order), THUMOS_TIOU)
    np.testing.assert_array_equal(shuffled.per_class, result.per_class)


def test_published_detections_on_the_inertial_set(shared_data):
    folder = shared_data / "inertial"
    truth = make_segments(load_dataset(folder).test.ground_truth())
    found = make_segments(read_predictions(folder / "published" / "result.json"))
    expected = json.loads((folder / "published" / "map.json").read_text())
    result = detection_map(truth, found, THUMOS_TIOU)
    np.testing.assert_allclose(result.per_tiou, expected["map"], rtol=0, atol=5.1e-9)
    assert result.average == pytest.approx(expected["average"], abs=5.1e-9)
