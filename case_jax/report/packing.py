"""Scores as bytes, as the scripts of the pages unpack them."""

import base64
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["as_bytes", "pack"]


def as_bytes(values: npt.ArrayLike) -> np.ndarray:
    """Values in [0, 1] as uint8, in steps of 1 / 255."""
    return np.rint(255 * np.clip(np.asarray(values, np.float64), 0, 1)).astype(np.uint8)


def pack(rows: Sequence[np.ndarray]) -> str:
    """Base64 of uint8 rows, one after the other."""
    return base64.b64encode(np.concatenate(rows).tobytes()).decode()
