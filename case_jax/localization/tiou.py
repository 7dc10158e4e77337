"""Temporal intersection over union, the measure by which suppression and evaluation compare segments."""

import numpy as np

__all__ = ["tiou"]


def tiou(
    start: float | np.ndarray,
    end: float | np.ndarray,
    other_start: np.ndarray,
    other_end: np.ndarray,
    *,
    extra: float = 0.0,
) -> np.ndarray:
    """Temporal intersection over union of segments with other segments, broadcast against each other.

    Args:
        start: (...) starts of segments, in seconds.
        end: (...) ends of the same segments, in seconds.
        other_start: (...) starts of the other segments, in seconds.
        other_end: (...) ends of the other segments, in seconds.
        extra: seconds added to every length, the intersection's included. The published soft-NMS counts
            lengths as end - start + 1.

    Returns:
        (...) float64 in [0, 1]; 0 where the union has no length.

    Example:
        >>> print(tiou(0.0, 4.0, np.array([2.0, 4.0]), np.array([4.0, 6.0])))
        [0.5 0. ]
    """
    shared = np.maximum(0.0, np.minimum(end, other_end) - np.maximum(start, other_start) + extra)
    union = (end - start + extra) + (other_end - other_start + extra) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
