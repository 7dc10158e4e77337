"""Short marks that tell features apart: whether those on disk are still the ones that a result was made of.

Times of modification may lie: `cp -p`, `rsync -a` and `tar x` give new files old times. So a mark also holds
what is in a few places of the features. Features that were extracted, scaled or ordered anew differ
everywhere, so few places suffice.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from case_jax.data.sources import Source

__all__ = ["FilesMark", "mark_of_arrays", "mark_of_files", "spread"]

_PLACES = 4  # looked at in each stream: the beginning, the end and between
_PLACES_OF_MANY = 32  # in a file of many arrays
_BLOCK = 4096  # bytes read at each place of a file
_SIZE = 8  # bytes of a digest


class FilesMark(NamedTuple):
    """What is known of one video's features on disk without reading all of them."""

    changed: int  # when the latest of its files was modified, ns
    digest: str  # hexadecimal; of the files' sizes and times, and of a few places in each


def mark_of_files(sources: Mapping[str, Source]) -> FilesMark:
    """Marks one video's features, whatever their format, by a few small reads.

    Args:
        sources: stream -> where it is. What is wrong with a file is not told here but where it is opened.
    """
    digest, changed = hashlib.blake2b(digest_size=_SIZE), 0
    for stream, source in sources.items():
        digest.update(repr((stream, source.key, source.columns)).encode(errors="surrogateescape"))
        with contextlib.suppress(OSError):
            status = os.stat(source.path)
            changed = max(changed, status.st_mtime_ns)
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
            if stat.S_ISREG(status.st_mode):  # to open a pipe would block
                # A file of many arrays is as good as new to all of its videos when it changes.
                count = _PLACES if source.key is None else _PLACES_OF_MANY
                digest.update(_sample_file(source.path, status.st_size, count))
    return FilesMark(changed, digest.hexdigest())


def _sample_file(path: str | os.PathLike, size: int, count: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return b"".join(os.pread(descriptor, _BLOCK, at) for at in spread(max(1, size - _BLOCK + 1), count))
    finally:
        os.close(descriptor)


def mark_of_arrays(streams: Mapping[str, np.ndarray], length: int, dtype: np.dtype) -> str:
    """Marks one video's features in memory, by a few snippets of each stream; no file's form or time counts.

    Args:
        streams: stream -> (T_v, D).
        length: T_v.
        dtype: values are rounded to it first, so that features in memory and on disk have the same mark.

    Returns:
        A digest, hexadecimal.
    """
    digest = hashlib.blake2b(digest_size=_SIZE)
    for stream, features in streams.items():
        with np.errstate(over="ignore"):
            rows = np.asarray(features[spread(length)]).astype(np.float32).astype(dtype)
        digest.update(f"{stream} {length} {rows.shape}".encode())
        digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()


def spread(length: int, count: int = _PLACES) -> list[int]:
    """At most ``count`` >= 2 positions in a sequence, from the first to the last, about equally far apart.

    Example:
        >>> spread(10), spread(2)
        ([0, 3, 6, 9], [0, 1])
    """
    return sorted({i * (length - 1) // (count - 1) for i in range(count)})
