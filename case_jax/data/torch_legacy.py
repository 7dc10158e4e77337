"""State dicts in the files of PyTorch before 1.6, in which the published weights of older networks are.

Such a file is five pickles one after the other (a magic number, the version, facts about the machine, the
content, the names of its storages), and then the storages: a count and the numbers' bytes each.
"""

import io
import pickle
import pickletools
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from case_jax.data.torch_pickles import TensorUnpickler, check_memo, dtype_of, tensor_of

__all__ = ["MAGIC", "read_legacy"]

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
"""The bytes with which such a file begins."""

_VERSION = 1001


def read_legacy(file: BinaryIO) -> Any:
    """Reads a file of PyTorch before 1.6.

    Args:
        file: open at its start.

    Returns:
        Its content, in which each tensor is a read-only array.

    Raises:
        Exception: of any kind if the file is damaged, or holds anything that no tensor needs.
    """
    magic, version, machine, content, keys = (_take_pickle(file) for _ in range(5))
    if magic != MAGIC or _Plain(version).load() != _VERSION:
        raise ValueError("it is of no version that is known")
    if not _Plain(machine).load().get("little_endian", True):
        raise ValueError("its numbers are not little-endian")
    reader = _Reader(content)
    found = reader.load()
    data, position = file.read(), 0
    arrays: dict[str, np.ndarray] = {}
    for key in _Plain(keys).load():
        dtype, count = reader.storages[key]
        if struct.unpack_from("<q", data, position) != (count,):
            raise ValueError(f"storage {key} does not have {count} numbers")
        arrays[key] = np.frombuffer(data, dtype, count, position + 8)
        position += 8 + count * dtype.itemsize
    return _resolved(found, arrays)


def _take_pickle(file: BinaryIO) -> bytes:
    """The bytes of the pickle at which a file stands, unread; the file then stands behind it."""
    start = file.tell()
    for _ in pickletools.genops(file):
        pass
    end = file.tell()
    file.seek(start)
    content = file.read(end - start)
    check_memo(content)
    return content


class _Plain(pickle.Unpickler):
    """Unpickles numbers, text, lists and dictionaries."""

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content))

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"it asks for {module}.{name}, which no tensor needs")


class _Pending(NamedTuple):
    """A tensor whose storage lies further on in the file."""

    key: str
    offset: int
    size: tuple
    stride: tuple


class _Reader(TensorUnpickler):
    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content))
        self.storages: dict[str, tuple[np.dtype, int]] = {}

    def persistent_load(self, pid: Any) -> str:
        kind, storage, key, _, count, view = pid
        if view is not None or not isinstance(key, str) or not isinstance(count, int) or count < 0:
            raise ValueError("it holds a storage that is a part of another")
        self.storages[key] = dtype_of(kind, storage), count
        return key

    def rebuild(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Pending:
        return _Pending(storage, offset, size, stride)


def _resolved(content: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The content with its tensors; looks into one dictionary only, since state dicts are flat."""
    if isinstance(content, _Pending):
        return tensor_of(arrays[content.key], *content[1:])
    if isinstance(content, dict):
        return {
            name: tensor_of(arrays[value.key], *value[1:]) if isinstance(value, _Pending) else value
            for name, value in content.items()
        }
    return content
