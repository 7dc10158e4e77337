"""One video's features in whatever form a caller has them, read piece by piece."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from case_jax.data.feature_files import FeatureFiles, read_snippets
from case_jax.data.files import check_finite
from case_jax.data.packed import DTYPES
from case_jax.errors import InputError

__all__ = ["Features", "GivenVideo", "open_video"]

# What one video may be given as: stream -> (T_v, D), or the streams side by side in one array.
Features = Mapping[str, Any] | np.ndarray


class GivenVideo(NamedTuple):
    """A video whose shapes are right.

    Attributes:
        length: T_v.
        read: reads the snippets from a first one to an end, stream -> (R, D) float32; raises an `InputError`
            where a number is not finite.
    """

    length: int
    read: Callable[[int, int], dict[str, np.ndarray]]


def open_video(features: Features, widths: Mapping[str, int], name: str) -> GivenVideo:
    """Checks the shapes of a video that is to be read.

    Args:
        features: `Features`, arrays in memory, maps of files, or `FeatureFiles`.
        widths: stream -> D.
        name: what messages call the video.

    Raises:
        InputError: if a stream is missing, of another width or of another length, or holds no real numbers.
    """
    arrays: Mapping[str, Any]
    if isinstance(features, FeatureFiles):
        arrays, names = features, {stream: str(source) for stream, source in features.sources.items()}
    elif isinstance(features, Mapping):
        arrays, names = features, {stream: f"{name}[{stream!r}]" for stream in widths}
    else:
        array = _as_array(features, sum(widths.values()), widths, name)

        def divide(begin: int, end: int) -> dict[str, np.ndarray]:
            together = _read(array, begin, end, name)
            parts = np.split(together, [*itertools.accumulate(widths.values())][:-1], axis=1)
            return dict(zip(widths, parts))

        return GivenVideo(len(array), divide)

    for stream in widths:
        if stream not in arrays:
            raise InputError(f"{name}: has no stream {stream!r}; expected {', '.join(widths)}")
    opened = {
        stream: _as_array(arrays[stream], width, {stream: width}, names[stream])
        for stream, width in widths.items()
    }
    first = next(iter(opened))
    length = len(opened[first])
    for stream, array in opened.items():
        if len(array) != length:
            raise InputError(
                f"{names[stream]}: has {len(array)} snippets; expected {length} as in {names[first]}"
            )

    def read(begin: int, end: int) -> dict[str, np.ndarray]:
        if isinstance(features, FeatureFiles):
            # Opened again each time, so that no map of a long file holds on to what was read.
            return {stream: read_snippets(features, stream, np.arange(begin, end)) for stream in widths}
        return {stream: _read(array, begin, end, names[stream]) for stream, array in opened.items()}

    return GivenVideo(length, read)


def _as_array(array: Any, width: int, widths: Mapping[str, int], name: str) -> Any:
    """Something with the shape (T_v, ``width``) and a dtype of real numbers, as it is if it has them."""
    if not (isinstance(getattr(array, "dtype", None), np.dtype) and hasattr(array, "__getitem__")):
        try:
            array = np.asarray(array)
        except (ValueError, TypeError):
            raise InputError(f"{name}: is no array; expected (snippets, {width}) numbers") from None
    if array.dtype.kind not in "fiu" and array.dtype != DTYPES["bfloat16"]:
        raise InputError(f"{name}: holds {array.dtype} values; expected (snippets, {width}) numbers")
    if len(array.shape) != 2 or not array.shape[0]:
        raise InputError(f"{name}: has shape {tuple(array.shape)}; expected (snippets, {width})")
    if array.shape[1] != width:
        together = " and ".join(f"{stream} ({d})" for stream, d in widths.items())
        expected = f"{width} as in training" if len(widths) == 1 else f"{width}, {together} side by side"
        raise InputError(f"{name}: has {array.shape[1]} channels; expected {expected}")
    return array


def _read(array: Any, begin: int, end: int, name: str) -> np.ndarray:
    """(end - begin, D) float32 rows of an array, if they are finite."""
    with np.errstate(over="ignore"):  # an overflow shows as infinite below
        values = np.asarray(array[begin:end]).astype(np.float32, copy=False)
    check_finite(values, name, range(begin, end))
    return values
