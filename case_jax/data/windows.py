"""Windows of videos of any length: which snippets are sampled, and reading them in blocks."""

from collections.abc import Mapping

import numpy as np

from case_jax.data.given import GivenVideo
from case_jax.data.packed import allocate_rows

__all__ = ["bucket", "fill_up", "read_window", "sample_window"]

_SMALLEST_BUCKET = 64  # snippets


def sample_window(
    length: int, index: int, num_windows: int, num_snippets: int
) -> tuple[np.ndarray, np.ndarray]:
    """The samples of one window.

    Args:
        length: T_v, snippets of the video.
        index: which window, from 0.
        num_windows: n.
        num_snippets: T.

    Returns:
        The distinct snippets that are sampled, int64, and for each of the T samples which of them it is,
        (T,) int32.
    """
    samples = np.arange(index * num_snippets, (index + 1) * num_snippets, dtype=np.int64)
    # The formula of `uniform_indices`, with integers that are large enough for any video.
    distinct, which = np.unique(samples * length // (num_windows * num_snippets), return_inverse=True)
    return distinct, which.astype(np.int32)


def read_window(
    video: GivenVideo, distinct: np.ndarray, begin: int, end: int, *, at_once: int
) -> dict[str, np.ndarray]:
    """Reads all snippets of a window, which checks them, and keeps the R sampled ones.

    Args:
        video: the video.
        distinct: (R,) snippets that are sampled, rising.
        begin: first snippet of the window.
        end: the snippet after its last one.
        at_once: snippets to read at a time.

    Returns:
        stream -> (R, D).
    """
    end = max(end, distinct[-1] + 1)  # where snippets repeat, the last sample may be of the next window
    parts = []
    for first in range(begin, end, at_once):
        rows = video.read(first, min(first + at_once, end))
        wanted = distinct[(distinct >= first) & (distinct < first + at_once)] - first
        parts.append({stream: values[wanted] for stream, values in rows.items()})
    return {stream: np.concatenate([part[stream] for part in parts]) for stream in parts[0]}


def bucket(count: int, num_snippets: int) -> int:
    """Snippets that a window of ``count`` distinct ones is padded to: 64, 128, 256 ... or T."""
    size = _SMALLEST_BUCKET
    while size < count:
        size *= 2
    return min(size, num_snippets)


def fill_up(rows: Mapping[str, np.ndarray], size: int, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Pads (R, D) arrays with zeros to (size, D) arrays of another dtype."""
    filled = {}
    for stream, values in rows.items():
        filled[stream] = allocate_rows(size, values.shape[1], dtype)
        filled[stream][: len(values)] = values
        filled[stream][len(values) :] = 0
    return filled
