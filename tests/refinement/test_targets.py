import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.localization.detections import Detections
from case_jax.localization.rescoring import PartMeans
from case_jax.refinement.settings import RefinementConfig
from case_jax.refinement.targets import distinct, examples_of, pseudo_instances, raw_detections

CONFIG = RefinementConfig(num_proposals=6)


def found(*rows):
    """Detections from (label, start, end, score)."""
    columns = np.array(rows, np.float64).reshape(-1, 4).T
    return Detections(columns[0].astype(np.int64), *columns[1:])


def test_the_same_segment_is_proposed_once_by_its_surest_class():
    detections = found((0, 0, 10, 0.3), (1, 0, 10.5, 0.9), (0, 0, 5, 0.5), (1, 20, 30, 0.4))
    assert distinct(detections, 10).tolist() == [1, 2, 3]
    assert distinct(detections, 2).tolist() == [1, 2]
    assert distinct(found(), 2).tolist() == []


def test_pseudo_instances_are_fused_from_the_surest_detections_of_the_videos_classes():
    detections = found(
        (0, 0, 10, 0.8),
        (0, 1, 10, 0.4),  # agrees with the first: tIoU 0.9
        (0, 0, 3, 0.6),  # overlaps with it by 0.3, which is too much for an instance of its own
        (0, 20, 24, 0.5),
        (0, 40, 50, 0.3),  # less than half as sure as the first
        (1, 60, 70, 9.0),  # of another class
    )
    instances = pseudo_instances(detections, np.array([1.0, 0.0]), surest=0.5)
    assert instances.label.tolist() == [0, 0]
    assert instances.start.tolist() == pytest.approx([1 * 0.4 / 1.2, 20])
    assert instances.end.tolist() == pytest.approx([10, 24])
    assert instances.weight.tolist() == pytest.approx([1, 0.5 / 0.8])


@pytest.mark.parametrize(
    "detections",
    [found(), found((1, 0, 5, 0.5)), found((0, 0, 5, -0.1))],
    ids=["none", "other class", "negative"],
)
def test_without_a_sure_detection_of_its_classes_a_video_has_no_pseudo_instance(detections):
    assert pseudo_instances(detections, np.array([1.0, 0.0]), surest=0.5).label.size == 0


def test_examples_know_the_classes_that_a_video_lacks_and_guess_the_others():
    features = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    detections = found((0, 0, 10, 0.8), (1, 0, 4, 0.6), (0, 12, 20, 0.1), (0, 4, 10, 0.3))
    examples = examples_of(features, detections, np.array([1.0, 0.0]), duration=20.0, config=CONFIG)
    # The instance is 0 to 10 (the last detection agrees: 0.6), fused to (0 * 0.8 + 4 * 0.3) / 1.1 .. 10.
    start = 4 * 0.3 / 1.1
    overlaps = [(10 - start) / 10, (4 - start) / 10, 6 / (10 - start), 0.0]
    targets = np.clip((np.array(overlaps) - 0.3) / 0.4, 0, 1)
    np.testing.assert_allclose(examples.targets[:4, 0], targets, rtol=1e-5)
    np.testing.assert_array_equal(examples.targets[:, 1], 0)
    np.testing.assert_allclose(examples.weights[:4, 0], np.where(targets > 0, 1.0, 0.3), rtol=1e-6)
    np.testing.assert_array_equal(examples.weights[:, 1], [1, 1, 1, 1, 0, 0])  # certain; and filled up
    np.testing.assert_array_equal(examples.weights[4:], 0)
    by_score = np.array([[0, 10], [0, 4], [4, 10], [12, 20]]) / 2  # two seconds a sample
    four = np.repeat(features[:, None], 4, axis=1)
    expected = np.stack(PartMeans(four, flank=0.25)(*by_score.T), axis=1)
    np.testing.assert_allclose(examples.parts[:4], expected, atol=1e-6)


def test_order_of_examples_is_by_score():
    features = np.zeros((10, 1), np.float32)
    examples = examples_of(
        features, found((0, 0, 2, 0.1), (0, 10, 20, 0.9)), np.zeros(1), duration=20.0, config=CONFIG
    )
    assert examples.extras[0].tolist() == pytest.approx([np.log(0.5) / 2 + 1, 0, 1], abs=1e-5)


def test_everything_that_is_proposed_is_raw():
    """Classes below the run's own threshold, and overlapping proposals with scores as they were."""
    fused = np.full((16, 2), 0.01)
    fused[4:8] = (0.9, 0.03)
    config = CaseConfig(upsampling=1, class_threshold=0.9, proposal_thresholds=(0.5,))
    detections = raw_detections(fused, np.array([0.9, 0.1]), duration=16.0, config=config)
    assert set(detections.label) == {0, 1}
    of_first = detections.score[(detections.label == 0) & (detections.end - detections.start == 4)]
    np.testing.assert_allclose(of_first, of_first[0], rtol=1e-6)  # nothing is suppressed
    assert of_first.size > 1
