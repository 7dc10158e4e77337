"""One video's features as a caller of the localizer hands them over, read piece by piece."""

import itertools
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from case_jax.data.feature_files import FeatureFiles, check_lengths, read_snippets
from case_jax.data.info import DatasetInfo
from case_jax.data.packed import DTYPES
from case_jax.data.sources import check_finite
from case_jax.errors import InputError

__all__ = ["Features", "GivenVideo", "open_video", "snippet_seconds"]

# One video: stream -> (T_v, D), or one array of the streams side by side.
Features = Mapping[str, Any] | np.ndarray

_SECONDS = 1e-15, 1e15  # shortest and longest snippet, far from where times overflow


class GivenVideo(NamedTuple):
    """A video whose shapes were checked.

    Attributes:
        length: T_v; of streams whose lengths differ by one snippet, the shorter one's.
        read: takes a first snippet and the one after the last; returns stream -> (R, D) float32; raises
            `InputError` if a number is not finite.
    """

    length: int
    read: Callable[[int, int], dict[str, np.ndarray]]


def open_video(features: Features, widths: Mapping[str, int], name: str) -> GivenVideo:
    """Checks the shapes of a video that is to be read.

    Args:
        features: arrays in memory, memory maps or `FeatureFiles`; see `Features`. Any real dtype.
        widths: stream -> D.
        name: the video's name in messages.

    Returns:
        `GivenVideo`.

    Raises:
        InputError: if a stream is missing, has another width, a length that differs by more than one snippet,
            or does not hold real numbers.
    """
    if isinstance(features, FeatureFiles):
        return _open_files(features, widths, name)
    if isinstance(features, Mapping):
        return _open_streams(features, widths, name)
    return _open_side_by_side(features, widths, name)


def snippet_seconds(info: DatasetInfo, fps: float | None, frames_per_snippet: float | None) -> float:
    """Seconds from the start of a snippet to the start of the next.

    Args:
        info: the facts of the run's data, which fill in for what is None.
        fps: frames per second of the videos.
        frames_per_snippet: distance in frames between the starts of consecutive snippets.

    Raises:
        InputError: if a number is not a positive finite one, both make snippets of absurd lengths, or one of
            them is None and ``info`` cannot tell it.
    """
    given = {"fps": fps, "frames_per_snippet": frames_per_snippet}
    for name, value in given.items():
        if value is None:
            if info.rescaled:
                raise InputError(
                    f"{name}: is missing, and the run's features were rescaled, which tell no time; "
                    "expected fps and frames_per_snippet of these videos"
                )
            continue
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (number and 0 < value < math.inf):
            raise InputError(f"{name}: is {value!r}; expected a finite number above 0")
    if fps is None:
        fps = info.frames_per_second
    if frames_per_snippet is None:
        frames_per_snippet = info.frames_per_snippet
    try:
        seconds = float(frames_per_snippet) / float(fps)
    except OverflowError:
        seconds = math.inf
    if not _SECONDS[0] <= seconds <= _SECONDS[1]:
        raise InputError(
            f"frames_per_snippet: is {frames_per_snippet} with {fps} fps; expected snippets of seconds"
        )
    return seconds


def _open_files(files: FeatureFiles, widths: Mapping[str, int], name: str) -> GivenVideo:
    named = {stream: str(source) for stream, source in files.sources.items()}
    opened = _check_streams(files, widths, name, named)

    def read(begin: int, end: int) -> dict[str, np.ndarray]:
        # Opened again each time, so that no memory map of a long file holds on to the pages read.
        return {stream: read_snippets(files, stream, np.arange(begin, end)) for stream in widths}

    return GivenVideo(min(map(len, opened.values())), read)


def _open_streams(streams: Mapping[str, Any], widths: Mapping[str, int], name: str) -> GivenVideo:
    named = {stream: f"{name}[{stream!r}]" for stream in widths}
    opened = _check_streams(streams, widths, name, named)

    def read(begin: int, end: int) -> dict[str, np.ndarray]:
        return {stream: _read(array, begin, end, named[stream]) for stream, array in opened.items()}

    return GivenVideo(min(map(len, opened.values())), read)


def _open_side_by_side(features: Any, widths: Mapping[str, int], name: str) -> GivenVideo:
    array = _as_array(features, sum(widths.values()), widths, name)
    ends = [*itertools.accumulate(widths.values())]

    def read(begin: int, end: int) -> dict[str, np.ndarray]:
        parts = np.split(_read(array, begin, end, name), ends[:-1], axis=1)
        return dict(zip(widths, parts))

    return GivenVideo(len(array), read)


def _check_streams(
    streams: Mapping[str, Any], widths: Mapping[str, int], name: str, named: Mapping[str, str]
) -> dict[str, Any]:
    """Stream -> array, of lengths that differ by at most one; ``named`` is how messages call each."""
    for stream in widths:
        if stream not in streams:
            raise InputError(f"{name}: has no stream {stream!r}; expected {', '.join(widths)}")
    opened = {
        stream: _as_array(streams[stream], width, {stream: width}, named[stream])
        for stream, width in widths.items()
    }
    check_lengths({stream: len(array) for stream, array in opened.items()}, named)
    return opened


def _as_array(array: Any, width: int, widths: Mapping[str, int], name: str) -> Any:
    """The array unchanged if it has shape (T_v, ``width``) and real numbers; otherwise as numpy takes it."""
    if not (isinstance(getattr(array, "dtype", None), np.dtype) and hasattr(array, "__getitem__")):
        try:
            array = np.asarray(array)
        except (ValueError, TypeError):
            raise InputError(f"{name}: is not an array; expected (snippets, {width}) numbers") from None
    if array.dtype.kind not in "fiu" and array.dtype != DTYPES["bfloat16"]:
        raise InputError(f"{name}: holds {array.dtype} values; expected (snippets, {width}) numbers")
    if len(array.shape) != 2 or not array.shape[0]:
        raise InputError(f"{name}: has shape {tuple(array.shape)}; expected (snippets, {width})")
    if array.shape[1] != width:
        together = " and ".join(f"{stream} ({d})" for stream, d in widths.items())
        turned = ", which it has as rows," if array.shape[0] == width else ""
        expected = (
            f"{width}{turned} as in training" if len(widths) == 1 else f"{width}, {together} side by side"
        )
        raise InputError(f"{name}: has {array.shape[1]} channels; expected {expected}")
    return array


def _read(array: Any, begin: int, end: int, name: str) -> np.ndarray:
    """(end - begin, D) float32 rows of an array; refuses values that are not finite."""
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused below
        values = np.asarray(array[begin:end]).astype(np.float32, copy=False)
    check_finite(values, name, range(begin, end))
    return values
