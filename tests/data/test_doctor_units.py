"""Segments in other units than seconds are seen by the lengths of the features."""

import dataclasses

import numpy as np
import pytest

from case_jax.data.annotations import AnnotatedVideo
from case_jax.data.dataset import Annotation
from case_jax.data.doctor_units import find_other_units
from case_jax.data.doctor_videos import UsedVideo
from case_jax.data.info import DatasetInfo

INFO = DatasetInfo(classes=("Jump",), streams=("rgb",))  # 25 frames per second, 16 per snippet


def examined(factor=1.0, info=INFO, *, duration=False, num_snippets=(60, 150), seed=0):
    """The finding about 30 videos of 1 to 6 segments, whose seconds are multiplied by a factor.

    Args:
        factor: a number, or "share" of the video.
        info: of the data set.
        duration: whether the annotations tell durations, in seconds.
        num_snippets: the range of T_v.
        seed: of the segments.
    """
    rng = np.random.default_rng(seed)
    used, lengths = [], {}
    for i in range(30):
        split, length = ("train", "test")[i % 2], int(rng.integers(*num_snippets))
        seconds = length * info.seconds_per_snippet
        times = np.sort(rng.uniform(0, seconds, (rng.integers(1, 7), 2)), axis=1)
        times *= 1 / seconds if factor == "share" else factor
        annotations = tuple(Annotation("Jump", *map(float, segment)) for segment in times)
        entry = AnnotatedVideo(split, annotations, seconds if duration else None)
        used.append(UsedVideo(split, str(i), entry, {}))
        lengths[split, str(i)] = length
    return find_other_units(info, used, {} if duration else lengths), used


@pytest.mark.parametrize("duration", [False, True])
@pytest.mark.parametrize(
    "factor, unit",
    [
        (25, "frames at 25 per second"),
        (30, "frames at 30 per second"),
        (1000, "milliseconds"),
        (1 / 0.64, "snippets"),
        ("share", "shares of the video, from 0 to 1"),
        (40_000, "no usual unit fits"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_the_unit_is_named(factor, unit, duration, seed):
    finding, used = examined(factor, duration=duration, seed=seed)
    assert unit in finding.then
    assert finding.total == sum(len(video.entry.annotations) for video in used)
    assert "of" in finding.example
    assert not finding.fatal


@pytest.mark.parametrize("seed", range(5))
def test_seconds_are_no_finding(seed):
    for duration in (False, True):
        assert not examined(duration=duration, seed=seed)[0].total
    assert not examined(num_snippets=(1, 3), seed=seed)[0].total  # all within the first seconds


def test_the_data_sets_own_rate_is_tried():
    fast = dataclasses.replace(INFO, frames_per_second=50.0)
    assert "frames at 50 per second" in examined(50, fast)[0].then


def test_one_odd_video_is_no_unit():
    finding, used = examined()
    odd = used[0].entry._replace(annotations=(Annotation("Jump", 0.0, 1e6),))
    lengths = {(video.split, video.name): 150 for video in used}
    used = [used[0]._replace(entry=odd), *used[1:]]
    assert not find_other_units(INFO, used, lengths).total
    assert not finding.total


def test_without_a_length_nothing_is_known():
    rescaled = dataclasses.replace(INFO, rescaled=True)
    _, used = examined(25)
    assert not find_other_units(INFO, used, {}).total
    lengths = {(video.split, video.name): 100 for video in used}
    assert not find_other_units(rescaled, used, lengths).total
    forever = [used[0]._replace(entry=AnnotatedVideo("train", (Annotation("Jump", 0.0, np.inf),)))]
    assert not find_other_units(INFO, forever, lengths).total  # labels without times
