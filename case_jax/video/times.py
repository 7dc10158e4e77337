"""Which frames of a video are shown at regular times, from the frames' time stamps alone."""

import math
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

__all__ = ["LONGEST", "StampError", "Stamped", "Timed", "choose", "number_of_times", "settle"]

Frame = TypeVar("Frame")

# Matroska rounds time stamps to 1 ms. A frame may therefore be stamped up to half of that too late, and would
# miss the very time that it was made for.
_LATE = 1e-3  # seconds

LONGEST = 3600.0  # seconds for which one frame may be shown; beyond, the time stamps are damaged
_RESTART = 1.0  # seconds; a clock that goes back further was set anew


class Stamped(NamedTuple, Generic[Frame]):
    """A frame with what its file says of its place in time."""

    time: float | None  # seconds; None if the file does not tell
    length: float | None  # seconds for which the frame is shown; None if the file does not tell
    frame: Frame


class Timed(NamedTuple, Generic[Frame]):
    """A frame with its place in the time of the video, which begins at 0."""

    time: float  # seconds
    length: float  # seconds for which the frame is shown if no other follows, > 0
    frame: Frame


class StampError(ValueError):
    """Time stamps make no sense."""


def settle(stamped: Iterable[Stamped[Frame]], period: float) -> Iterator[Timed[Frame]]:
    """Makes time stamps start at 0 and never go back.

    A frame without a time stamp follows where the frame before it ends. A time stamp that goes back by up to
    a second takes the time of the frame before it, which is then not shown. One that goes back further says
    that a clock was set anew, as in files that were joined: there, too, the frame follows where the frame
    before it ends, and the later ones move with it.

    Args:
        stamped: frames in the order in which they are shown.
        period: seconds from a frame to the next at the video's own rate.

    Yields:
        The same frames; times from 0 in seconds that never fall, lengths above 0 (``period`` where the file
        tells none).

    Raises:
        StampError: if time jumps forward by more than an hour; frames before the jump are yielded first.
    """
    zero: float | None = None  # the time stamp of time 0
    before = end = 0.0  # where the frame before this one begins and ends
    for time, length, frame in stamped:
        if time is None:
            settled = end
        else:
            if zero is None or time - zero < before - _RESTART:
                zero = time - end
            settled = max(time - zero, before)
            if settled - before > LONGEST:
                raise StampError(f"its time stamps jump by {settled - before:.0f} s")
        if length is None or not 0 < length <= LONGEST:
            length = period
        before, end = settled, settled + length
        yield Timed(settled, length, frame)


def choose(timed: Iterable[Timed[Frame]], fps: float) -> Iterator[tuple[Frame, int]]:
    """Says of each frame at how many of the times 0, 1 / fps, 2 / fps, ... it is the one shown.

    The frame shown at a time is the last whose time stamp is at most 1 ms after it. The times end where the
    last frame's length ends. Videos of a higher rate thus lose frames in a regular pattern, those of a
    lower rate repeat them in one; no frame is repeated while another close by is skipped.

    Args:
        timed: frames as `settle` yields them.
        fps: times per second, > 0.

    Yields:
        (frame, number of times), the number being 0 for a frame that is skipped.

    Example:
        >>> thirty_a_second = [Timed(k / 30, 1 / 30, k) for k in range(12)]
        >>> [frame for frame, times in choose(thirty_a_second, fps=25) for _ in range(times)]
        [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    """
    done = 0
    before: Timed[Frame] | None = None
    for this in timed:
        if before is not None:
            upto = number_of_times(this.time, fps)
            yield before.frame, max(upto - done, 0)
            done = max(upto, done)
        before = this
    if before is not None:
        upto = number_of_times(before.time + before.length, fps)
        # The first frame is shown at time 0, however short it is.
        yield before.frame, max(upto - done, 0 if done else 1)


def number_of_times(duration: float, fps: float) -> int:
    """How many of the times 0, 1 / fps, 2 / fps, ... lie before ``duration``, within 1 ms.

    This is ``duration * fps`` rounded up, so a video of n frames at its own rate has n.

    Args:
        duration: seconds.
        fps: times per second, > 0.

    Returns:
        The number, 0 or more.

    Example:
        >>> number_of_times(5.0, fps=25), number_of_times(151 / 30, fps=25)
        (125, 126)
    """
    return max(math.ceil((duration - _LATE) * fps), 0)
