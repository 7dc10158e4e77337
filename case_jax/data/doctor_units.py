"""Whether the segments of a data set are in seconds, as far as the lengths of its features tell."""

import math
import statistics
from collections.abc import Mapping, Sequence

from case_jax.data.doctor_findings import Counter, Finding
from case_jax.data.doctor_videos import UsedVideo
from case_jax.data.info import DatasetInfo

__all__ = ["find_other_units", "seconds_of_features"]

_MANY = 0.5  # share of the videos that have a segment behind their end, from which on it is no accident
_FIT = 0.95  # share of the segments that have to lie within their videos for a unit to be likely
_USUAL_RATES = (25.0, 30.0)  # frames per second
_LONG = 10.0  # seconds; videos that are longer have more than their first second


def seconds_of_features(
    info: DatasetInfo, video: UsedVideo, lengths: Mapping[tuple[str, str], int]
) -> float | None:
    """The end of a video as its features tell it; None if they do not.

    Args:
        info: of the data set.
        video: whose end is asked for.
        lengths: (split, video) -> T_v, of the videos whose features could be opened.
    """
    length = lengths.get((video.split, video.name))
    return None if length is None or info.rescaled else length * info.seconds_per_snippet


def find_other_units(
    info: DatasetInfo, used: Sequence[UsedVideo], lengths: Mapping[tuple[str, str], int]
) -> Finding:
    """A finding about segments that seem to be frames, snippets, milliseconds or shares of the video.

    Args:
        info: of the data set.
        used: its videos.
        lengths: as for `seconds_of_features`.

    Returns:
        A finding that counts the segments of all videos, or none. What is done about them names the unit in
        which they would lie within the videos.
    """
    timed: list[tuple[UsedVideo, float]] = []
    for video in used:
        end = seconds_of_features(info, video, lengths) or video.entry.duration
        if end and video.entry.annotations and all(math.isfinite(a.end) for a in video.entry.annotations):
            timed.append((video, end))
    unit = _unit_of([([a.end for a in video.entry.annotations], end) for video, end in timed], info)
    counter = Counter("segments that seem not to be in seconds", f"used as seconds: {unit}")
    if unit is not None:
        for video, end in timed:
            for a in video.entry.annotations:
                counter.add(video.split, f"{video.name} [{a.start}, {a.end}] of {end:.1f} s")
    return counter.finding()


def _unit_of(videos: Sequence[tuple[Sequence[float], float]], info: DatasetInfo) -> str | None:
    """What the segments seem to be; None if they may be seconds.

    Args:
        videos: the ends of a video's segments, and the video's end in seconds, for each video.
        info: of the data set.
    """
    if not videos:
        return None
    step = info.seconds_per_snippet
    behind = sum(max(ends) > end + step for ends, end in videos)
    if behind >= _MANY * len(videos):
        rates = sorted({info.frames_per_second, *_USUAL_RATES})
        units = [
            *([(1 / step, "snippets")] if step < 1 else []),
            *((rate, f"frames at {rate:g} per second") for rate in rates),
            (1000.0, "milliseconds"),
        ]
        for per_second, name in units:
            within = [e / per_second <= end + step for ends, end in videos for e in ends]
            if sum(within) >= _FIT * len(within):
                return f"they would fit as {name}"
        return "no usual unit fits; check the frame rate and stride, too"
    latest = max(e for ends, _ in videos for e in ends)
    if latest <= 1 and statistics.median(end for _, end in videos) >= _LONG:
        return "they would fit as shares of the video, from 0 to 1"
    return None
