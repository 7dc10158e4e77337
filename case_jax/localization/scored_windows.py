"""Windows of videos whose scores a device may still be computing, collected into whole videos."""

import collections
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from case_jax.errors import InputError

__all__ = ["ScoredVideo", "ScoredWindow", "collect"]

# Windows that are given to the device ahead of the one whose video is localised: one runs, one waits.
_AHEAD = 2


class ScoredVideo:
    """The scores of a video of n windows with T samples each, as far as its windows are collected.

    Attributes:
        fused: (n * T, G) float32 activation sequences.
        scores: (n, G) float32 scores of the windows.
        projected: for each second stage (n * T, 4, H) float32, what its first layer makes of the samples.
        duration: of the video, seconds.
        missing: how many windows are not collected.
    """

    def __init__(
        self,
        num_windows: int,
        num_snippets: int,
        num_classes: int,
        duration: float,
        hidden: Sequence[tuple[int, ...]] = (),
    ):
        self.fused = np.empty((num_windows * num_snippets, num_classes), np.float32)
        self.scores = np.empty((num_windows, num_classes), np.float32)
        self.projected = [np.empty((num_windows * num_snippets, *shape), np.float32) for shape in hidden]
        self.duration = duration
        self.missing = num_windows


class ScoredWindow(NamedTuple):
    """One window; its arrays may be those of a device that still computes them."""

    video: ScoredVideo
    number: int  # its place in the video, from 0
    fused: Any  # (T, G)
    scores: Any  # (G,)
    projected: Sequence[Any] = ()  # (T, 4, H) of each second stage

    def collect(self) -> ScoredVideo:
        """Waits for the scores and writes them to the video."""
        begin = self.number * len(self.fused)
        self.video.fused[begin : begin + len(self.fused)] = self.fused
        self.video.scores[self.number] = self.scores
        for whole, part in zip(self.video.projected, self.projected, strict=True):
            whole[begin : begin + len(self.fused)] = part
        self.video.missing -= 1
        return self.video


def collect(windows: Iterator[ScoredWindow | InputError]) -> Iterator[ScoredVideo | InputError]:
    """Collects the windows of one video after another, while the device scores those that follow.

    Args:
        windows: of all videos, in order. An error ends its video: no further window of it follows.

    Yields:
        Each video whose windows are all there, or its error.

    Raises:
        InputError: raised by ``windows`` itself, after all that came before it is yielded.
    """
    under_way: collections.deque[ScoredWindow | InputError] = collections.deque()
    failure = None
    while True:
        try:
            following = next(windows, None)
        except InputError as error:  # nothing follows, but the videos before are finished first
            following, failure = None, error
        if following is not None:
            under_way.append(following)
            if len(under_way) <= _AHEAD:
                continue
        elif not under_way:
            break
        window = under_way.popleft()
        if isinstance(window, InputError):
            yield window
        elif not (video := window.collect()).missing:
            yield video
    if failure is not None:
        raise failure
