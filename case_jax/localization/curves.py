"""What a trained run says of a video over time, for people to look at."""

from typing import NamedTuple

import numpy as np

__all__ = ["Curves"]


class Curves(NamedTuple):
    """Scores of one video's N sampled snippets, in order of time."""

    times: np.ndarray  # (N,) seconds at which each snippet starts
    attention: np.ndarray  # (N,) P^A, mean over streams
    transformed: np.ndarray | None  # (N,) P^T, mean over streams; None without clusters
    mixed: np.ndarray | None  # (N,) P^M; None without clusters
    classes: np.ndarray  # (N, G) the fused T-CAS, in [0, 1], which is localised
