"""All snippets of many videos in one array per stream, from which a device can gather batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import ml_dtypes
import numpy as np

from case_jax.data.feature_files import FeatureFiles, video_length
from case_jax.data.problems import Problems
from case_jax.data.sources import read_source

if TYPE_CHECKING:  # reading features does not need jax
    import jax

__all__ = ["DTYPES", "PackedFeatures", "allocate_rows", "first_rows", "pack", "read_packed"]

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}

# XLA uses a host array without copying it if the array starts at a multiple of this many bytes.
_ALIGNMENT = 64


class PackedFeatures(NamedTuple):
    """V videos of any lengths, one after another, without padding; R is the sum of their lengths."""

    rows: Mapping[str, jax.Array | np.ndarray]  # stream -> (R, D) float32 or bfloat16
    first: jax.Array | np.ndarray  # (V,) int32, row of each video's first snippet
    lengths: jax.Array | np.ndarray  # (V,) int32, T_v

    @property
    def num_bytes(self) -> int:
        """The memory that the features take, in bytes."""
        return sum(rows.nbytes for rows in self.rows.values())


def pack(
    videos: Sequence[Mapping[str, np.ndarray]], streams: Sequence[str], dtype: str = "float32"
) -> PackedFeatures:
    """Copies videos into one array per stream, in host memory.

    Args:
        videos: V >= 1 videos, stream -> (T_v, D).
        streams: which streams, in order.
        dtype: "float32" or "bfloat16".

    Returns:
        `PackedFeatures` of numpy arrays.

    Example:
        >>> packed = pack([{"rgb": np.zeros((2, 5))}, {"rgb": np.ones((3, 5))}], ["rgb"])
        >>> packed.rows["rgb"].shape, packed.first.tolist(), packed.lengths.tolist()
        ((5, 5), [0, 2], [2, 3])
    """
    lengths = np.array([len(video[streams[0]]) for video in videos], np.int32)
    rows = {}
    for name in streams:
        rows[name] = allocate_rows(lengths.sum(), videos[0][name].shape[1], DTYPES[dtype])
        np.concatenate([video[name] for video in videos], out=rows[name], casting="same_kind")
    return PackedFeatures(rows, first_rows(lengths), lengths)


def read_packed(
    videos: Sequence[FeatureFiles], streams: Sequence[str], dtype: str = "float32"
) -> tuple[PackedFeatures, list[dict[str, np.ndarray]]]:
    """Reads whole videos from disk into one array per stream, so that memory holds them only once.

    Args:
        videos: V >= 1 videos, from `case_jax.data.feature_files.check_shapes`.
        streams: which streams, in order.
        dtype: "float32" or "bfloat16".

    Returns:
        The packed features; and per video, stream -> its (T_v, D) view of them. Neither can be written to.

    Raises:
        InputError: if a value is not finite or a file has changed meanwhile.
    """
    lengths = np.array([video_length(video) for video in videos], np.int32)
    first = first_rows(lengths)
    views: list[dict[str, np.ndarray]] = [{} for _ in videos]
    rows, problems = {}, Problems()
    for stream in streams:
        width = videos[0][stream].shape[1]
        rows[stream] = allocate_rows(int(lengths.sum()), width, DTYPES[dtype])
        for video, begin, length in zip(videos, first, lengths):
            with problems.noting():
                read_source(video.sources[stream], out=rows[stream][begin : begin + length])
        rows[stream].flags.writeable = False  # a device may share this memory
        for view, begin, length in zip(views, first, lengths):
            view[stream] = rows[stream][begin : begin + length]
    problems.refuse()
    return PackedFeatures(rows, first, lengths), views


def allocate_rows(num_rows: int, width: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised (num_rows, width) array that a CPU device can use without copying it."""
    num_bytes = num_rows * width * dtype.itemsize
    memory = np.empty(num_bytes + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + num_bytes].view(dtype).reshape(num_rows, width)


def first_rows(lengths: np.ndarray) -> np.ndarray:
    """(V,) int32, the row at which each of V videos begins; ``lengths`` is (V,) int, T_v."""
    return (np.cumsum(lengths) - lengths).astype(np.int32)
