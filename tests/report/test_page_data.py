import base64
import json

import numpy as np
import pytest

from case_jax.data.dataset import Annotation, Video
from case_jax.data.info import DatasetInfo
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores
from case_jax.report import page_data

NUM_VIDEOS, SIZE, NUM_CLASSES, NUM_CLUSTERS = 9, 12, 5, 300
INFO = DatasetInfo(tuple(f"class {i}" for i in range(NUM_CLASSES)), ("rgb",))


def _scores(rng, num_videos=NUM_VIDEOS, size=SIZE, num_classes=NUM_CLASSES, num_clusters=NUM_CLUSTERS):
    draw = lambda *shape: rng.uniform(size=(num_videos, *shape)).astype(np.float32)  # noqa: E731
    clusters = draw(size, num_clusters)
    clusters /= clusters.sum(axis=-1, keepdims=True)
    return VideoScores(
        draw(size, num_classes), draw(num_classes), draw(size), draw(size), draw(size), clusters
    )


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    videos, detections = [], {}
    for i in range(NUM_VIDEOS):
        annotation = Annotation(f"class {i % 3}", 1.0, 2.5)
        videos.append(Video(f"v{i}", {"rgb": np.zeros((10 + i, 2), np.float32)}, (annotation,)))
        count = 6
        start = rng.uniform(0, 3, count)
        detections[f"v{i}"] = Detections(
            rng.integers(0, NUM_CLASSES, count), start, start + 1, rng.uniform(size=count)
        )
    quality = {f"v{i}": ((7 * i) % NUM_VIDEOS) / NUM_VIDEOS for i in range(NUM_VIDEOS)}
    return videos, _scores(rng), detections, quality


def _rows(entry):
    return np.frombuffer(base64.b64decode(entry["tracks"]), np.uint8).reshape(-1, SIZE)


def test_tracks_hold_the_scores_to_a_byte(world):
    videos, scores, detections, quality = world
    for i, entry in enumerate(page_data.videos(videos, scores, detections, quality, INFO)):
        attention, transformed, mixed, high, low, *classes = _rows(entry)
        for track, values in (
            (attention, scores.attention),
            (transformed, scores.transformed_foreground),
            (mixed, scores.mixed_foreground),
        ):
            np.testing.assert_allclose(track / 255, values[i], atol=0.5 / 255 + 1e-7)
        np.testing.assert_array_equal(256 * high.astype(int) + low, scores.clusters[i].argmax(axis=-1))
        assert len(classes) == len(entry["classes"]) == NUM_CLASSES
        for track, label in zip(classes, entry["classes"]):
            np.testing.assert_allclose(track / 255, scores.fused[i, :, label], atol=0.5 / 255 + 1e-7)


def test_segments_are_those_of_the_video_the_surest_first(world):
    videos, scores, detections, quality = world
    for i, entry in enumerate(page_data.videos(videos, scores, detections, quality, INFO)):
        assert entry["seconds"] == pytest.approx((10 + i) * 16 / 25)
        assert entry["truth"] == [[i % 3, 1.0, 2.5]]
        assert entry["quality"] == round(quality[f"v{i}"], 4)
        expected = sorted(zip(*(c.tolist() for c in detections[f"v{i}"])), key=lambda d: -d[3])
        np.testing.assert_allclose(entry["found"], expected, atol=5.1e-4)
        assert entry["classes"][0] == i % 3  # what is annotated comes first


def test_without_clusters_there_is_only_attention(world):
    videos, scores, detections, quality = world
    scores = scores._replace(transformed_foreground=None, mixed_foreground=None, clusters=None)
    for entry in page_data.videos(videos, scores, detections, quality, INFO):
        assert len(_rows(entry)) == 1 + NUM_CLASSES


def test_of_many_classes_annotated_and_found_ones_are_kept():
    rng = np.random.default_rng(1)
    info = DatasetInfo(tuple(f"class {i}" for i in range(60)), ("rgb",))
    scores = _scores(rng, 1, SIZE, 60, 4)
    annotations = tuple(Annotation(f"class {i}", 0.0, 1.0) for i in range(30, 55))
    video = Video("v", {"rgb": np.zeros((9, 2), np.float32)}, annotations)
    found = Detections(np.array([3, 4]), np.zeros(2), np.ones(2), np.array([0.2, 0.9]))
    few = video._replace(annotations=annotations[:2])
    (entry,) = page_data.videos([few], scores, {"v": found}, {}, info)
    assert entry["classes"][:4] == [30, 31, 4, 3]
    assert len(entry["classes"]) == len(set(entry["classes"])) == page_data.MAX_CLASSES
    likely = [c for c in np.argsort(-scores.video[0]).tolist() if c not in (30, 31, 4, 3)]
    assert entry["classes"][4:] == likely[: page_data.MAX_CLASSES - 4]
    (entry,) = page_data.videos([video], scores, {"v": found}, {}, info)
    assert entry["classes"] == list(range(30, 55))
    assert entry["quality"] is None


def test_too_many_videos_leave_an_even_choice(world):
    videos, scores, detections, quality = world
    everything = page_data.videos(videos, scores, detections, quality, INFO)
    size = max(len(json.dumps(entry)) for entry in everything)
    some = page_data.videos(videos, scores, detections, quality, INFO, max_bytes=5 * size)
    assert sum(len(json.dumps(entry)) for entry in some) <= 5 * size
    assert len(some) >= 4
    names = [entry["name"] for entry in some]
    assert names == sorted(names, key=lambda name: int(name[1:]))  # still in the data's order
    chosen = sorted(quality[name] for name in names)
    assert chosen[0] == min(quality.values())
    assert chosen[-1] == max(quality.values())
    assert np.ptp(np.diff(chosen)) <= 1 / NUM_VIDEOS + 1e-9


def test_clusters_against_loops(world):
    videos, scores, _, _ = world
    rng = np.random.default_rng(2)
    scores = _scores(rng, num_clusters=4)
    labels = rng.uniform(size=(4, 2))
    found = page_data.clusters(labels, scores, videos, INFO)
    assert [c.number for c in found] == np.argsort(-labels[:, 0]).tolist()
    for cluster in found:
        total = acting = 0.0
        for i in range(len(videos)):
            length = (10 + i) * 16 / 25
            for t in range(SIZE):
                second = (t + 0.5) * length / SIZE
                total += scores.clusters[i, t, cluster.number]
                acting += scores.clusters[i, t, cluster.number] * (1.0 <= second < 2.5)
        assert cluster.foreground == labels[cluster.number, 0]
        assert cluster.soft_share == pytest.approx(total / (NUM_VIDEOS * SIZE), rel=1e-5)
        assert cluster.in_action == pytest.approx(acting / total, rel=1e-5)


def test_curves():
    metrics = [{"step": 50, "average": 0.25}]
    history = [
        {"step": s, "metrics": {"loss": 1.0 * s, "loss_video": 2.0, "entropy_clusters": 0.5}}
        for s in range(1, 1001)
    ]
    losses, quality, entropy = page_data.curves(metrics, history)
    assert [s["name"] for s in losses["series"]] == ["loss", "video"]
    assert quality["series"][0]["points"] == [[50, 25.0]]
    assert [s["name"] for s in entropy["series"]] == ["H(Q^C), clusters"]
    points = losses["series"][0]["points"]
    assert len(points) == 334
    assert points[0] == [3, 2.0]  # the mean of steps 1 to 3
    assert points[-1] == [1000, 1000.0]


def test_a_run_without_training_has_no_curves():
    assert page_data.curves([], []) == []
    assert [c["title"] for c in page_data.curves([{"step": 1, "average": 0.5}], [])] == [
        "Average mAP on the test videos"
    ]
