import dataclasses
import multiprocessing
import os
import signal

import pytest

from case_jax.errors import InputError
from case_jax.video.workers import take_clips
from tests.helpers.extraction import SMALL
from tests.helpers.videos import number_in, numbered, write_images

LENGTHS = (40, 1, 33)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Folders of images, the second one damaged, and a text file."""
    folder = tmp_path_factory.mktemp("videos")
    paths = []
    for number, length in enumerate(LENGTHS):
        frames = [numbered(50 * number + k, (48, 48)) for k in range(length)]
        paths.append(write_images(folder / str(number), frames))
    (folder / "text.mp4").write_text("no video")
    return [*paths, folder / "text.mp4"]


def gathered(videos, num_workers):
    """Of each video, the first number of each clip, and its end or error."""
    firsts, ends = {number: [] for number in range(len(videos))}, {}
    for taken in take_clips(videos, SMALL, num_workers):
        assert taken.video not in ends, "a clip comes after the end of its video"
        if taken.clip is not None:
            firsts[taken.video].append(number_in(taken.clip["rgb"][0, 0]))
        else:
            ends[taken.video] = taken.error or taken.end
    return firsts, ends


@pytest.mark.parametrize("num_workers", [0, 2])
def test_clips_come_in_order_and_each_video_ends(videos, num_workers):
    firsts, ends = gathered(videos, num_workers)
    assert firsts == {0: [0, 16], 1: [50], 2: [100, 116], 3: []}
    assert [ends[number].frames for number in range(3)] == list(LENGTHS)
    assert ends[3].startswith(f"{videos[3]}: ")
    assert multiprocessing.active_children() == []


def test_processes_end_with_the_one_who_takes(videos):
    clips = take_clips(videos[:1] * 4, dataclasses.replace(SMALL, stride=1), 1)
    next(clips)
    assert len(multiprocessing.active_children()) == 1
    clips.close()
    assert multiprocessing.active_children() == []


def test_a_killed_process_is_an_error(videos):
    clips = take_clips(videos[:1] * 4, dataclasses.replace(SMALL, stride=1), 1)
    next(clips)
    [worker] = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(InputError, match=r"^--num_workers: .*status -9; expected enough memory"):
        list(clips)


def test_no_video_is_no_clip():
    assert list(take_clips([], SMALL, 2)) == []
