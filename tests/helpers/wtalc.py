"""Files of the W-TALC line, as Python 2 and 3 write them."""

import io
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.files import npy_header

__all__ = ["COLUMNS", "FEATURES", "object_npy", "objects", "write_wtalc"]


def objects(*items: Any) -> np.ndarray:
    """(V,) array of V objects, also where numpy would make them an array of more axes."""
    array = np.empty(len(items), object)
    for place, item in enumerate(items):
        array[place] = item
    return array


def object_npy(array: np.ndarray, protocol: int | str) -> bytes:
    """An array of objects as a .npy file.

    Args:
        array: the array.
        protocol: of the pickle, or "python 2", whose text and numbers are bytes.
    """
    if protocol == "python 2":
        content = _dumps(array).replace(b"numpy._core", b"numpy.core")
        return npy_header("'|O'", shape=f"({', '.join(f'{n}L' for n in array.shape)},)", data=content)
    return npy_header("'|O'", shape=str(array.shape), data=pickle.dumps(array, protocol))


def _dumps(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    _Python2(buffer, 2).dump(array)
    return buffer.getvalue()


class _Python2(pickle._Pickler):
    """Writes text and bytes alike, as the one kind that Python 2 has."""

    def save(self, value, save_persistent_id=True):
        if type(value) not in (str, bytes):
            return super().save(value, save_persistent_id)
        if known := self.memo.get(id(value)):
            return self.write(self.get(known[0]))
        content = value if isinstance(value, bytes) else value.encode()
        short = len(content) < 256
        length = struct.pack("<B" if short else "<i", len(content))
        self.write((pickle.SHORT_BINSTRING if short else pickle.BINSTRING) + length + content)
        self.memoize(value)


def _features(length: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(length, 8)).astype(np.float32)


FEATURES = objects(*(_features(length, seed) for seed, length in enumerate((5, 40, 9, 7))))
# As Thumos14reduced has them: names in bytes, labels in text.
COLUMNS = {
    "videoname": np.array(
        [
            b"video_validation_0000051",
            b"video_validation_0000160",
            b"video_test_0000004",
            b"video_test_0000270",
        ]
    ),
    "subset": np.array([b"validation", b"validation", b"test", b"test"]),
    "classlist": np.array([b"CliffDiving", b"Diving", b"HammerThrow"]),
    "labels_all": objects(["Diving", "CliffDiving"], [], ["HammerThrow"], ["HammerThrow"]),
    "labels": objects(
        ["Diving", "CliffDiving"], ["HammerThrow"], ["HammerThrow", "HammerThrow"], ["HammerThrow"]
    ),
    "segments": objects([[0.1, 1.2], [0.1, 1.2]], [[3.0, 20.5]], [[1, 2.5], [3.0, 4.5]], [[0.5, 4.0]]),
    "duration": np.array([[3.3], [25.7], [6.0], [4.6]]),
}


def write_wtalc(
    folder: Path,
    *,
    name: str = "Thumos14reduced",
    protocol: int | str = 4,
    features: np.ndarray = FEATURES,
    **columns: np.ndarray | None,
) -> Path:
    """Writes a small data set: two videos that train and two that test.

    Args:
        folder: made if needed.
        name: of the data set.
        protocol: as in `object_npy`.
        features: V arrays.
        **columns: what differs from `COLUMNS`; None for a file that is missing.

    Returns:
        The folder.
    """
    annotations = folder / f"{name}-Annotations"
    annotations.mkdir(parents=True)
    files = {annotations / f"{column}.npy": array for column, array in {**COLUMNS, **columns}.items()}
    for path, array in {**files, folder / f"{name}-I3D-JOINTFeatures.npy": features}.items():
        if array is not None and array.dtype.hasobject:
            path.write_bytes(object_npy(array, protocol))
        elif array is not None:
            np.save(path, array)
    return folder
