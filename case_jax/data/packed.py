"""All snippets of many videos in one array per stream, where a device can gather batches from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import ml_dtypes
import numpy as np

if TYPE_CHECKING:  # reading features does not need jax
    import jax

__all__ = ["DTYPES", "PackedFeatures", "allocate_rows", "pack"]

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}

# XLA takes a host array as it is, without a copy, if it starts at a multiple of this many bytes.
_ALIGNMENT = 64


class PackedFeatures(NamedTuple):
    """V videos of any lengths, one after another, without padding; R = their snippets together."""

    rows: Mapping[str, jax.Array | np.ndarray]  # stream -> (R, D) float32 or bfloat16
    first: jax.Array | np.ndarray  # (V,) int32, row of each video's first snippet
    lengths: jax.Array | np.ndarray  # (V,) int32, T_v

    @property
    def num_bytes(self) -> int:
        """Memory that the features take."""
        return sum(rows.nbytes for rows in self.rows.values())


def allocate_rows(num_rows: int, width: int, dtype: np.dtype) -> np.ndarray:
    """An uninitialised (num_rows, width) array that a CPU device can use without copying it."""
    num_bytes = num_rows * width * dtype.itemsize
    memory = np.empty(num_bytes + _ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + num_bytes].view(dtype).reshape(num_rows, width)


def pack(
    videos: Sequence[Mapping[str, np.ndarray]], streams: Sequence[str], dtype: str = "float32"
) -> PackedFeatures:
    """Copies videos into one array per stream, in host memory.

    Args:
        videos: V >= 1 videos, stream name -> (T_v, D).
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


def first_rows(lengths: np.ndarray) -> np.ndarray:
    """(V,) int32 row at which each of V videos of these lengths begins."""
    return (np.cumsum(lengths) - lengths).astype(np.int32)
