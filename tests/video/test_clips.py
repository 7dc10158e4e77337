import dataclasses

import numpy as np
import pytest

from case_jax.data.extraction import Source
from case_jax.errors import InputError
from case_jax.video.clips import VideoClips, identity_of
from tests.helpers.extraction import SMALL
from tests.helpers.videos import number_in, numbered, write_images, write_video

SIZE = (48, 48)


def taken(path, **settings):
    """The numbers of each clip's frames, and what is known of the video."""
    clips = VideoClips(path, dataclasses.replace(SMALL, **settings))
    numbers = []
    for clip in clips:
        assert clip["rgb"].shape == (1, 16, 48, 48, 3)
        assert clip["rgb"].dtype == np.uint8
        numbers.append([number_in(frame) for frame in clip["rgb"][0]])
    return numbers, clips.video


def snippets_by_hand(count, stride, tail):
    """The frames of each snippet of a video of ``count`` frames, straight from the definition."""
    starts = [s for s in range(0, count, stride) if s + 16 <= count]
    covered = starts[-1] + 16 if starts else 0
    if not starts or (tail == "repeat" and covered < count):
        starts.append(starts[-1] + stride if starts else 0)
    return [[min(frame, count - 1) for frame in range(start, start + 16)] for start in starts]


@pytest.mark.parametrize("count", [1, 7, 16, 17, 31, 32, 45])
@pytest.mark.parametrize("stride, tail", [(16, "drop"), (16, "repeat"), (8, "repeat"), (5, "drop")])
def test_snippets_are_those_of_the_definition(tmp_path, count, stride, tail):
    path = write_images(tmp_path / "images", [numbered(n, SIZE) for n in range(count)])
    numbers, video = taken(path, stride=stride, tail=tail)
    assert numbers == snippets_by_hand(count, stride, tail)
    extraction = dataclasses.replace(SMALL, stride=stride, tail=tail)
    assert video.snippets == len(numbers) == extraction.num_snippets(count)
    assert (video.frames, video.repeated, video.skipped, video.broken) == (count, 0, 0, None)


@pytest.mark.parametrize("tail", ["drop", "repeat"])
def test_a_stride_may_be_longer_than_a_snippet(tmp_path, tail):
    path = write_images(tmp_path / "images", [numbered(n, SIZE) for n in range(50)])
    numbers, _ = taken(path, stride=20, tail=tail)
    assert [clip[0] for clip in numbers] == ([0, 20] if tail == "drop" else [0, 20, 40])
    assert numbers[-1][-1] == (35 if tail == "drop" else 49)


def test_frames_are_chosen_by_time(tmp_path):
    path = write_video(tmp_path / "v.mp4", 40, rate=30, size=SIZE)
    clips = VideoClips(path, SMALL)  # 25 frames/s
    numbers = [[number_in(frame) for frame in clip["rgb"][0]] for clip in clips]
    # The small number keeps a time stamp that is rounded down from being the frame before.
    assert numbers[0] == [int(k / 25 * 30 + 1e-6) for k in range(16)]
    assert clips.video.fps == 25
    assert clips.video.seconds == pytest.approx(40 / 30, abs=0.05)


@pytest.mark.parametrize("crops, count", [("center", 1), ("ten", 10)])
def test_both_streams_see_the_same_frames(tmp_path, crops, count):
    path = write_video(tmp_path / "v.mp4", 20, size=(64, 56))
    sources = {"rgb": Source("r", "0"), "flow": Source("f", "1")}
    extraction = dataclasses.replace(SMALL, weights=sources, flow="dis", crops=crops, tail="repeat")
    shapes = [{s: a.shape for s, a in clip.items()} for clip in VideoClips(path, extraction)]
    assert shapes == [{"rgb": (count, 16, 48, 48, 3), "flow": (count, 16, 48, 48, 2)}] * len(shapes)
    assert len(shapes) == extraction.num_snippets(17)  # 20 frames at 30 frames/s are 17 at 25


def test_what_is_known_is_known_at_the_end(tmp_path):
    clips = VideoClips(write_images(tmp_path / "v", [numbered(1, SIZE)]), SMALL)
    with pytest.raises(RuntimeError, match="have not all been taken"):
        clips.video  # noqa: B018
    list(clips)
    assert clips.video.snippets == 1


def test_an_identity_changes_with_the_file(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"12")
    size, changed = identity_of(path)
    assert size == 2
    path.write_bytes(b"123")
    assert identity_of(path) != (size, changed)
    folder = write_images(tmp_path / "images", [numbered(1, SIZE)] * 2)
    assert identity_of(folder)[0] == sum(image.stat().st_size for image in folder.iterdir())
    with pytest.raises(InputError, match=r"missing.mp4: cannot be read"):
        identity_of(tmp_path / "missing.mp4")
