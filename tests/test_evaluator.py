import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.dataset import Annotation, Split, Video
from case_jax.data.info import DatasetInfo
from case_jax.evaluator import (
    Evaluator,
    detect,
    evaluate_predictions,
    false_alarms_of,
    predict,
    score_split,
)
from case_jax.localization.detections import Detections, to_activitynet
from case_jax.training.state import create_train_state

CONFIG = CaseConfig(num_snippets=16, hidden_dim=8, num_clusters=4, batch_size=3)
INFO = DatasetInfo(classes=("Jump", "Run"), streams=("rgb", "flow"))
WIDTHS = {"rgb": 6, "flow": 4}
LENGTHS = (1, 5, 16, 40, 2)  # shorter than T, as long, and longer


@pytest.fixture(scope="module")
def state():
    state = create_train_state(CONFIG, jax.random.key(0), stream_widths=WIDTHS, num_classes=2)
    foreground = jnp.linspace(0, 1, CONFIG.num_clusters)
    return state.replace(cluster_labels=jnp.stack([foreground, 1 - foreground], axis=1))


@pytest.fixture(scope="module")
def videos():
    rng = np.random.default_rng(0)
    return [
        Video(
            f"video{i}",
            {s: rng.standard_normal((length, width), np.float32) for s, width in WIDTHS.items()},
            (Annotation("Jump", 0.0, 0.64 * length),),
        )
        for i, length in enumerate(LENGTHS)
    ]


def test_videos_score_together_as_each_does_alone(state, videos):
    together = score_split(state, videos)
    assert together.fused.shape == (5, 16, 2)
    assert together.clusters.shape == (5, 16, 4)
    for i, video in enumerate(videos):
        alone = score_split(state, [video])
        for name in together._fields:
            if name == "projected":  # there is no second stage
                assert together.projected is None
                continue
            expected = getattr(alone, name)[0]
            np.testing.assert_allclose(getattr(together, name)[i], expected, rtol=0, atol=1e-6, err_msg=name)


def test_a_video_of_one_snippet_is_the_same_all_the_time(state, videos):
    scores = score_split(state, videos[:1])
    assert np.isfinite(scores.fused).all()
    np.testing.assert_allclose(scores.fused[0], np.repeat(scores.fused[0, :1], 16, axis=0), atol=1e-6)
    for detection in predict(state, videos[:1], INFO)["results"]["video0"]:
        assert detection["segment"] == pytest.approx([0.0, 0.64])


def test_the_foreground_follows_from_the_config(state, videos):
    baseline = state.replace(config=CaseConfig(**{**vars(CONFIG), "clustering_assisted_testing": False}))
    np.testing.assert_array_equal(
        score_split(state, videos).fused, score_split(state, videos, foreground="mixed").fused
    )
    by_attention = score_split(state, videos, foreground="attention").fused
    np.testing.assert_array_equal(score_split(baseline, videos).fused, by_attention)
    assert not np.allclose(score_split(state, videos).fused, by_attention, atol=1e-3)


@pytest.mark.slow
def test_without_clusters_there_are_no_cluster_scores(videos):
    config = CaseConfig(**{**vars(CONFIG), "scc": False, "ccc": False, "clustering_assisted_testing": False})
    state = create_train_state(config, jax.random.key(0), stream_widths=WIDTHS, num_classes=2)
    scores = score_split(state, videos[:2])
    assert scores.fused.shape == (2, 16, 2)
    assert (scores.transformed_foreground, scores.mixed_foreground, scores.clusters) == (None, None, None)


def test_predictions_are_the_detections_in_seconds(state, videos):
    detections = detect(state, videos, INFO)
    predictions = predict(state, videos, INFO)
    assert list(detections) == list(predictions["results"]) == [video.name for video in videos]
    for video in videos:
        found, entries = detections[video.name], predictions["results"][video.name]
        assert [INFO.classes[label] for label in found.label] == [e["label"] for e in entries]
        np.testing.assert_array_equal(
            np.stack([found.start, found.end], axis=1).reshape(-1, 2),
            np.array([e["segment"] for e in entries]).reshape(-1, 2),
        )
        assert (found.start >= 0).all()
        assert (found.start < found.end).all()
        assert (found.end <= video.num_snippets * 0.64 + 1e-9).all()
        assert np.isfinite(found.score).all()
    assert sum(map(len, predictions["results"].values()))


def test_perfect_predictions_score_1(videos):
    split = Split("test", tuple(videos))
    entries = {v.name: [{"label": "Jump", "segment": [0, 0.64 * v.num_snippets], "score": 1}] for v in videos}
    result = evaluate_predictions({"results": entries}, split, [0.5, 1.0])
    assert result.classes == ("Jump",)
    assert result.per_tiou.tolist() == [1.0, 1.0]
    nothing = evaluate_predictions({"results": {}}, split, [0.5])
    assert nothing.average == 0


def test_false_alarms_are_counted_in_the_videos_without_any_action(videos):
    info = DatasetInfo(classes=("Jump", "Run"))
    nothing = Detections(*(np.zeros(0, kind) for kind in (np.int64, float, float, float)))
    twice = Detections(np.array([0, 1]), np.zeros(2), np.ones(2), np.array([0.9, 0.4]))
    exact = Detections(np.array([0]), np.zeros(1), np.array([0.64 * 5]), np.array([0.5]))
    free = Split("test", (*videos[:2], videos[3]._replace(annotations=())))
    found = {"video0": nothing, "video1": exact, "video3": twice}
    result = false_alarms_of(free, info, found, scores=[0.8, 0.3])
    assert (result.num_videos, result.recall.tolist()) == (1, [0, 0.5])
    np.testing.assert_allclose(result.hours, 40 * 0.64 / 3600)
    np.testing.assert_allclose(result.per_hour, np.array([1, 2]) / result.hours)
    assert false_alarms_of(Split("test", tuple(videos)), info, found) is None


def assert_same_detections(found, expected):
    assert list(found) == list(expected)
    for name, detections in expected.items():
        for ours, theirs in zip(found[name], detections, strict=True):
            np.testing.assert_array_equal(ours, theirs, strict=True)


@pytest.mark.parametrize("on_device", [True, False])
def test_an_evaluator_detects_again_and_again(state, videos, on_device):
    other = state.replace(params=jax.tree.map(lambda array: 2 * array, state.params))
    with Evaluator(Split("test", tuple(videos)), INFO, CONFIG, on_device=on_device) as evaluator:
        for of_state in (state, other, state):
            assert_same_detections(evaluator.detect(of_state), detect(of_state, videos, INFO))
    assert not all(
        np.array_equal(a.score, b.score)
        for a, b in zip(detect(state, videos, INFO).values(), detect(other, videos, INFO).values())
    )


def test_workers_find_the_same_detections_in_the_same_order(state, videos):
    split = Split("test", tuple(videos))
    expected = detect(state, videos, INFO)
    with Evaluator(split, INFO, CONFIG, num_workers=2) as evaluator:
        under_way = [evaluator.start(state) for _ in range(2)]
        for evaluation in under_way:
            assert_same_detections(evaluation.detections(), expected)
            assert evaluation.done()
        # Settings of localisation go to the workers with the state.
        strict = state.replace(config=CaseConfig(**{**vars(CONFIG), "nms": "standard"}))
        assert_same_detections(evaluator.detect(strict), detect(strict, videos, INFO))


def test_an_evaluation_is_done_when_its_detections_are_there(state, videos):
    split = Split("test", tuple(videos))
    with Evaluator(split, INFO, CONFIG) as evaluator:
        assert evaluator.start(state).done()
    with Evaluator(split, INFO, CONFIG, num_workers=1) as evaluator:
        evaluation = evaluator.start(state)
        assert not evaluation.done()  # the worker has to start first
        assert list(evaluation.detections()) == [video.name for video in videos]
        assert evaluation.done()


def test_map_of_detections_is_that_of_their_predictions(state, videos):
    split = Split("test", tuple(videos))
    with Evaluator(split, INFO, CONFIG) as evaluator:
        detections = evaluator.detect(state)
        found = evaluator.map_of(detections, [0.1, 0.3, 0.5])
    expected = evaluate_predictions(to_activitynet(detections, INFO.classes), split, [0.1, 0.3, 0.5])
    assert found.classes == expected.classes == ("Jump",)
    np.testing.assert_array_equal(found.per_class, expected.per_class, strict=True)
    np.testing.assert_array_equal(found.tiou, expected.tiou)
    assert found.average > 0
