import json

import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.info import THUMOS14
from case_jax.localization.detect import localize_video
from case_jax.localization.detections import to_activitynet
from case_jax.localization.nms import published_soft_nms, standard_soft_nms
from case_jax.localization.proposals import proposals, upsample


@pytest.mark.parametrize("name", ["infer_init_T64", "infer_trained_T750", "infer_trained_T750_base"])
def test_published_detections(golden, name):
    arrays = np.load(golden / f"{name}.npz")
    recorded = json.loads((golden / f"{name}.json").read_text())
    found = localize_video(
        arrays["combined_cas"][0],
        arrays["label"][0],
        duration=float(arrays["vid_num_seg"]) * THUMOS14.seconds_per_snippet,
        config=CaseConfig(),
    )
    label, score, start, end = np.array([row for rows in recorded["after_nms"] for row in rows]).T
    np.testing.assert_array_equal(found.label, label)
    np.testing.assert_allclose(found.score, score, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.start, start, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.end, end, rtol=0, atol=1e-4)

    written = to_activitynet({"v": found}, THUMOS14.classes)["results"]["v"]
    assert [d["label"] for d in written] == [d["label"] for d in recorded["result"]]
    for part in ("score", "segment"):
        expected = [d[part] for d in recorded["result"]]
        np.testing.assert_allclose([d[part] for d in written], expected, rtol=0, atol=1e-4)


@pytest.fixture
def fused():
    """(40, 3) smooth sequences with several runs each."""
    time = np.linspace(0, 6 * np.pi, 40)[:, None]
    return 0.5 + 0.45 * np.sin(time * np.array([1.0, 0.7, 1.6])) * np.cos(0.2 * time)


@pytest.mark.parametrize(
    "config",
    [
        CaseConfig(),
        CaseConfig(video_score="probability"),
        CaseConfig(nms="standard"),
        CaseConfig(
            class_threshold=0.5,
            upsampling=3,
            proposal_thresholds=(0.4, 0.8),
            flank=0.5,
            video_score_weight=0.7,
            video_score="probability",
            nms_threshold=0.1,
            nms_alpha=0.8,
        ),
    ],
)
def test_every_setting_of_the_config_reaches_its_stage(fused, config):
    scores = np.array([0.6, 0.2, 0.4])
    classes = [label for label in range(3) if scores[label] >= config.class_threshold]
    soft_nms = published_soft_nms if config.nms == "published" else standard_soft_nms
    expected = []
    for label in classes:
        sequence = upsample(fused[:, [label]], config.upsampling)
        found = proposals(
            sequence,
            scores if config.video_score == "probability" else np.ones(3),
            classes=np.array([label]),
            seconds_per_position=25.6 / (40 * config.upsampling),
            thresholds=config.proposal_thresholds,
            flank=config.flank,
            video_score_weight=config.video_score_weight,
        )
        assert len(found.score) > 3
        expected.append(soft_nms(found, threshold=config.nms_threshold, alpha=config.nms_alpha))
    found = localize_video(fused, scores, duration=25.6, config=config)
    for column, *parts in zip(found, *expected):
        np.testing.assert_allclose(column, np.concatenate(parts), rtol=1e-12)
    assert found.start.min() >= 0
    assert found.end.max() <= 25.6 + 1e-9


def test_the_best_class_is_localised_where_no_class_reaches_the_threshold(fused):
    found = localize_video(fused, np.array([0.1, 0.2, 0.15]), duration=10.0, config=CaseConfig())
    assert set(found.label) == {1}


@pytest.mark.parametrize(
    "changes, found",
    [
        ({"action_threshold": 0.46}, set()),
        ({"action_threshold": 0.44}, {1, 2}),  # these have a quarter or more of the 0.45 of any action
        ({"action_threshold": 0.46, "always_localize": "yes"}, {1, 2}),
        ({"action_threshold": 0.44, "class_threshold": 0.5}, {1}),
        ({"action_threshold": 0.44, "class_threshold": 0.5, "always_localize": "no"}, set()),
        ({"action_free": "auto"}, {1}),
        ({"action_free": "auto", "always_localize": "no"}, set()),
        ({"action_free": "leave_out", "action_threshold": 1.0}, {1}),
    ],
)
def test_nothing_may_be_found_in_a_video(fused, changes, found):
    config = CaseConfig(**{"action_free": "learn", **changes})
    detections = localize_video(fused, np.array([0.1, 0.2, 0.15]), duration=10.0, config=config)
    assert set(detections.label.tolist()) == found


def test_a_class_that_reaches_no_threshold_gives_no_detection():
    found = localize_video(np.zeros((5, 2)), np.ones(2), duration=3.2, config=CaseConfig())
    assert [column.size for column in found] == [0] * 4


def test_a_detection_in_a_single_snippet_lasts_the_whole_video():
    found = localize_video(np.array([[0.35]]), np.ones(1), duration=0.64, config=CaseConfig())
    np.testing.assert_allclose(found.start, [0, 0, 0])
    np.testing.assert_allclose(found.end, [0.64] * 3)
