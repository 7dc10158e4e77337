"""Features of several crops of each frame, whose mean over the crops is what training sees."""

from typing import Any

import numpy as np

from case_jax.data.info import Crops
from case_jax.errors import InputError

__all__ = ["MeanOfCrops", "crops_first"]

_USUAL = (5, 10)  # crops: the corners and the centre, and their mirror images


class MeanOfCrops:
    """The (T_v, D) mean over crops, computed in float32 of the snippets that are asked for.

    It is indexed along its first axis like an array, so that a memory map of all crops stays on disk.
    """

    dtype = np.dtype(np.float32)
    ndim = 2

    def __init__(self, crops: np.ndarray):
        """Takes the (crops, T_v, D) array."""
        self._crops = crops
        self.shape = crops.shape[1:]

    def __len__(self) -> int:
        """T_v."""
        return self.shape[0]

    def __getitem__(self, snippets: Any) -> np.ndarray:
        """The rows of some snippets: an integer, a slice, or (R,) integers; float32."""
        with np.errstate(over="ignore"):  # an overflow becomes infinite, which the values' check refuses
            return np.asarray(np.mean(self._crops[:, snippets], axis=0, dtype=np.float32))

    def part(self, length: int | None, begin: int, end: int) -> "MeanOfCrops":
        """The first ``length`` snippets, or all, of the channels from ``begin`` to ``end``."""
        return MeanOfCrops(self._crops[:, :length, begin:end])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """All rows."""
        return self[:].astype(dtype or self.dtype, copy=False)


def crops_first(array: np.ndarray, crops: Crops, where: str) -> np.ndarray:
    """The view of an array of three axes whose first axis is the crops.

    Args:
        array: (crops, T_v, D) or (T_v, crops, D).
        crops: which axis holds the crops. For "mean" it is the one of 5 or 10; if neither is, the first one,
            if it is no longer than the second.
        where: the array's name in messages.

    Raises:
        InputError: if the shape does not tell.
    """
    usual = [size in _USUAL for size in array.shape[:2]]
    first, second = usual if any(usual) else (array.shape[0] <= array.shape[1], False)
    if crops == "mean" and first == second:
        raise InputError(
            f"{where}: has shape {array.shape}, in which the first or the second axis may be the crops; "
            'expected "crops": "mean_first" or "mean_second" in dataset.json'
        )
    is_second = crops == "mean_second" or (crops == "mean" and second)
    return array.swapaxes(0, 1) if is_second else array
