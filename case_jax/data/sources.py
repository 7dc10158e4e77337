"""Where one stream of one video is, and its features as every part of the code sees them.

Whatever the format of a file, what is odd about its array is seen to here: numbers without a type, several
crops, channels in rows, streams side by side, and a snippet more than the other stream has.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import ml_dtypes
import numpy as np

from case_jax.data.crops import MeanOfCrops, crops_first
from case_jax.data.formats import format_of
from case_jax.data.info import AS_STORED, Reading
from case_jax.errors import InputError

__all__ = ["Source", "check_finite", "open_source", "read_source", "select_part"]

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_RESCALED = 100  # the number of snippets that videos are usually rescaled to


class Source(NamedTuple):
    """Where one stream of one video is.

    Attributes:
        path: the file.
        key: the name of the array in a file that holds several by name; None for the only one.
        columns: the stream's channels if streams stand side by side in one array: the first channel, the one
            after the last, and how many the array must have.
        reading: how the file's array is to be taken.
        length: T_v, if the other streams have fewer snippets than the file.
    """

    path: Path
    key: str | None = None
    columns: tuple[int, int, int] | None = None
    reading: Reading = AS_STORED
    length: int | None = None

    def __str__(self) -> str:
        """The source's name in messages."""
        item = "" if self.key is None else f": {format_of(self.path).item} {self.key!r}"
        return f"{self.path}{item}"

    @property
    def whole(self) -> "Source":
        """The array of all streams and all snippets in which this one is."""
        return self._replace(columns=None, length=None)


def open_source(source: Source) -> np.ndarray:
    """Opens one stream's features; those of mapped formats (.npy) are not read yet.

    Args:
        source: where the features are. If they are rescaled and the array has 100 columns but another number
            of rows, its columns are the snippets.

    Returns:
        (T_v, D) array; its values are not checked. The mean of several crops is a `MeanOfCrops`, which is
        indexed by snippets as an array is.

    Raises:
        InputError: if the file is missing, unreadable, empty or not numeric, or its array has another shape.
    """
    form = format_of(source.path)
    if source.key is not None and form.keys is None:
        raise InputError(
            f"{source.path}: holds one array without a name; expected one per stream, under the stream's name"
        )
    array = _as_numbers(source, form.open(source.path, source.key))
    if 0 in array.shape or array.ndim not in (2, 3):
        raise InputError(f"{source}: has shape {array.shape}; {form.expected}")
    if array.ndim == 3:
        if source.reading.crops == "none":
            raise InputError(
                f"{source}: has shape {array.shape}; {form.expected}, or, if an axis holds crops of the "
                'frames, "crops": "mean" in dataset.json'
            )
        array = crops_first(array, source.reading.crops, str(source))
    if source.reading.rescaled and array.shape[-1] == _RESCALED != array.shape[-2]:
        array = array.swapaxes(-1, -2)
    return select_part(source, array if array.ndim == 2 else cast(np.ndarray, MeanOfCrops(array)))


def select_part(source: Source, features: np.ndarray) -> np.ndarray:
    """The channels and snippets of one source in an array of all.

    Args:
        source: says which columns, and how many snippets; without them, the array is returned unchanged.
        features: (snippets, channels) of the whole array, as `open_source` returns it.

    Returns:
        (T_v, D) view.

    Raises:
        InputError: if the array is not as wide as those of other videos.
    """
    begin, end, width = source.columns or (0, features.shape[1], features.shape[1])
    if features.shape[1] != width:
        raise InputError(f"{source}: has {features.shape[1]} channels; expected {width} as in other videos")
    if isinstance(features, MeanOfCrops):
        return cast(np.ndarray, features.part(source.length, begin, end))
    return features[: source.length, begin:end]


def read_source(source: Source, out: np.ndarray | None = None) -> np.ndarray:
    """Reads one stream's features and checks their values.

    Args:
        source: where the features are.
        out: (T_v, D) float array to read into; default a new float32 array.

    Returns:
        (T_v, D): ``out``, or float32 in C order.

    Raises:
        InputError: as `open_source`, and if a value is not finite.
    """
    opened = open_source(source)
    if out is None:
        out = np.empty(opened.shape, np.float32)
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused below
        out[:] = np.asarray(opened, np.float32)
    check_finite(out, str(source))
    return out


def check_finite(
    features: np.ndarray, path: str | os.PathLike, snippets: Sequence[int] | np.ndarray | None = None
) -> None:
    """Refuses features with a value that is not finite.

    Args:
        features: (T, D) rows of a file.
        path: the file, for the message.
        snippets: (T,) int, each row's position in the file; default 0 .. T-1.

    Raises:
        InputError: naming the first such value.
    """
    finite = np.isfinite(features)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        snippet = row if snippets is None else snippets[row]
        raise InputError(
            f"{path}: snippet {snippet}, channel {column} is {features[row, column]}; expected finite numbers"
        )


def _as_numbers(source: Source, array: np.ndarray) -> np.ndarray:
    """The array as numbers; those that numpy wrote of bfloat16 have lost their type on the way."""
    dtype = array.dtype
    if dtype.kind in "fiu" or dtype == _BFLOAT16:
        return array
    expected = format_of(source.path).expected
    untyped = dtype.kind == "V" and dtype.itemsize == 2 and dtype.names is None and dtype.subdtype is None
    if not untyped:
        raise InputError(f"{source}: holds {dtype} values; {expected}")
    if source.reading.dtype != "bfloat16":
        raise InputError(
            f"{source}: holds {dtype} values, which may be bfloat16; {expected}, or "
            '"dtype": "bfloat16" in dataset.json'
        )
    return array.view(_BFLOAT16)
