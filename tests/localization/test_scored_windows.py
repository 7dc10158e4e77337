"""Windows become whole videos in order, a few windows behind the device; errors stand for their videos."""

import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.localization.scored_windows import ScoredVideo, ScoredWindow, collect


def windows_of(mark, num_windows, fail_at=None):
    """The windows of a video, T = 2 and G = 3, whose scores are ``mark``; one of them may be an error."""
    video = ScoredVideo(num_windows, 2, 3, float(mark))
    for number in range(num_windows):
        if number == fail_at:
            yield InputError(f"video {mark}")
            return
        yield ScoredWindow(video, number, np.full((2, 3), 10 * mark + number), np.full(3, mark))


def test_videos_are_whole_and_in_order():
    windows = [*windows_of(1, 3), *windows_of(2, 1), *windows_of(3, 2)]
    videos = list(collect(iter(windows)))
    assert [video.duration for video in videos] == [1.0, 2.0, 3.0]
    assert videos[0].fused[:, 0].tolist() == [10, 10, 11, 11, 12, 12]
    assert videos[2].scores.tolist() == [[3, 3, 3], [3, 3, 3]]
    assert not any(video.missing for video in videos)


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_an_error_stands_for_its_video(fail_at):
    windows = [*windows_of(1, 2), *windows_of(2, 3, fail_at), *windows_of(3, 1)]
    first, error, last = collect(iter(windows))
    assert (first.duration, last.duration) == (1.0, 3.0)
    assert str(error) == "video 2"


def test_an_error_of_the_windows_themselves_comes_after_the_videos_before_it():
    def windows():
        yield from windows_of(1, 2)
        yield from windows_of(2, 1)
        raise InputError("nothing follows")

    found = []
    with pytest.raises(InputError, match="nothing follows"):
        found.extend(collect(windows()))
    found = collect(windows())
    assert [next(found).duration, next(found).duration] == [1.0, 2.0]


def test_a_window_is_collected_two_windows_later():
    taken = []

    def windows():
        for window in (*windows_of(1, 1), *windows_of(2, 1), *windows_of(3, 1), *windows_of(4, 1)):
            taken.append(window.video.duration)
            yield window

    found = collect(windows())
    assert next(found).duration == 1.0
    assert taken == [1.0, 2.0, 3.0]
