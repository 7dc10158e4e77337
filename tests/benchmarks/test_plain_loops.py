import numpy as np
import pytest

from benchmarks import plain_loops
from benchmarks.thumos_shape import make_dataset, scored_videos
from case_jax.config import CaseConfig
from case_jax.data.dataset import as_entries
from case_jax.data.info import THUMOS14
from case_jax.evaluation.matching import make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.localization.detect import localize_video


@pytest.fixture(scope="module")
def videos():
    return scored_videos(5, 200)


def test_loops_find_what_ours_finds(videos):
    config = CaseConfig()
    for video in videos:
        ours = localize_video(video.fused, video.scores, duration=video.duration, config=config)
        loops = np.array(plain_loops.localize_video(video.fused, video.scores, video.duration, config))
        assert len(loops) > 10
        np.testing.assert_array_equal(ours.label, loops[:, 0])
        np.testing.assert_allclose(
            np.stack([ours.score, ours.start, ours.end], axis=1), loops[:, 1:], atol=1e-9
        )


def test_loops_come_to_the_same_map(videos):
    config, rng = CaseConfig(), np.random.default_rng(0)
    truth = {v.name: as_entries(v.annotations) for v in videos}
    entries = {
        v.name: [
            {"label": THUMOS14.classes[c], "score": rng.random(), "segment": [start, end]}
            for c, _, start, end in plain_loops.localize_video(v.fused, v.scores, v.duration, config)
        ]
        for v in videos
    }
    thresholds = [0.1, 0.3, 0.5, 0.7]
    ours = detection_map(make_segments(truth), make_segments(entries), thresholds).per_tiou
    assert 0.05 < ours[0] < 1
    np.testing.assert_allclose(
        plain_loops.mean_average_precision(truth, entries, thresholds), ours, atol=1e-12
    )


def test_made_data_has_the_shape_that_was_asked_for():
    dataset = make_dataset(num_train=3, num_test=2, width=4)
    assert (len(dataset.train.videos), len(dataset.test.videos)) == (3, 2)
    assert dataset.stream_widths == {"rgb": 4, "flow": 4}
    packed = dataset.train.pack(("rgb", "flow"))
    assert packed is dataset.train.packed
    for video, first, length in zip(dataset.train.videos, packed.first, packed.lengths):
        assert video.num_snippets == length > 10
        np.testing.assert_array_equal(video.features["flow"], packed.rows["flow"][first : first + length])
        assert all(0 <= a.start < a.end <= length * 0.64 + 0.64 for a in video.annotations)
    assert {
        v.num_snippets for v in make_dataset(num_train=2, num_test=1, width=1, num_snippets=7).train.videos
    } == {7}
