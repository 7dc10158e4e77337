"""State dicts in PyTorch's files: read without PyTorch and without running their content; written with it."""

import collections
import io
import math
import os
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from case_jax.data.files import one_line, refuse_pipes, write_atomically
from case_jax.errors import InputError

__all__ = ["read_state_dict", "write_state_dict"]

_EXPECTED = "expected a state dict as torch.save(model.state_dict(), path) writes it"
_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict.

    The file is a zip archive of one pickle and the arrays' bytes. This reader knows only the few names that
    tensors are made of; any other name in the pickle is refused, never called.

    Args:
        path: a file of PyTorch 1.6 or newer. If all names begin with "module.", that prefix is left out.

    Returns:
        Name -> read-only array of the stored shape and dtype.

    Raises:
        InputError: if the file is missing, damaged, of the older form, or holds anything but named tensors.
    """
    path = Path(path)
    refuse_pipes(path, expected=_EXPECTED)
    try:
        with zipfile.ZipFile(path) as archive:
            content = _Reader(archive).load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_EXPECTED}") from None
    except zipfile.BadZipFile:
        raise InputError(f"{path}: is not an archive of PyTorch 1.6 or newer; {_EXPECTED}") from None
    except Exception as error:  # a damaged pickle makes its reader raise nearly anything
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {_EXPECTED}") from None
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not named or not content or not all(isinstance(value, np.ndarray) for value in content.values()):
        raise InputError(f"{path}: holds something other than named tensors; {_EXPECTED}")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def write_state_dict(path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict for torch.load; needs PyTorch (extra `torch`).

    Args:
        path: the file; it is replaced atomically.
        state_dict: name -> array of any shape and dtype.

    Raises:
        InputError: if PyTorch is not installed or the file cannot be written.
    """
    try:
        import torch  # optional
    except ImportError:
        raise InputError(
            f"{path}: cannot be written without PyTorch; expected pip install '.[torch]'"
        ) from None
    buffer = io.BytesIO()
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in state_dict.items()}
    torch.save(collections.OrderedDict(tensors), buffer)
    write_atomically(path, buffer.getvalue())


class _Storage(NamedTuple):
    """A kind of storage, by name. A pickle may change the objects that it gets, so it never gets a dtype."""

    name: str


class _Reader(pickle.Unpickler):
    """Unpickles tensors and nothing else."""

    def __init__(self, archive: zipfile.ZipFile):
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError("it holds no data.pkl")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed; PyTorch's archives are not")
        self._archive, self._folder = archive, pickles[0].removesuffix("data.pkl")
        self._read: dict[str, np.ndarray] = {}  # each storage is read once, however many tensors share it
        byteorder = f"{self._folder}byteorder"
        if byteorder in archive.namelist() and archive.read(byteorder).strip() != b"little":
            raise ValueError("its numbers are not little-endian")
        content = archive.read(pickles[0])
        _check_memo(content)
        super().__init__(io.BytesIO(content))

    def find_class(self, module: str, name: str) -> Any:
        """Returns the few names that tensors are made of; refuses any other."""
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: _tensor(*arguments),
            ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
        }
        if module == "torch" and name in _STORAGES:
            return _Storage(name)
        if (module, name) not in known:
            raise ValueError(f"it asks for {module}.{name}, which no tensor needs")
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Reads a storage as a flat array."""
        kind, storage, key, _, count = pid
        name = f"{self._folder}data/{key}"
        if kind != "storage" or not isinstance(storage, _Storage) or "/" in str(key):
            raise ValueError(f"it holds a {kind!r}")
        dtype = np.dtype(_STORAGES[storage.name])
        if self._archive.getinfo(name).file_size != count * dtype.itemsize:
            raise ValueError(f"{name} does not have the size of {count} numbers")
        if name not in self._read:
            self._read[name] = np.frombuffer(self._archive.read(name), np.uint8)
        return self._read[name].view(dtype)


def _check_memo(content: bytes) -> None:
    """Refuses a pickle that numbers its few objects by large numbers.

    Unpickling allocates a table up to the largest number, so that a small file could fill the memory.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if "PUT" in opcode.name and argument is not None and argument > len(content):
            raise ValueError(f"it numbers an object {argument}")


def _tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_) -> np.ndarray:
    """The view of a storage that a tensor is; refuses one that reaches beyond the storage."""
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor has an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if math.prod(size) and last >= storage.size:
        raise ValueError("a tensor reaches beyond its storage")
    if math.prod(size) > storage.size:
        raise ValueError("a tensor repeats its storage")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)
