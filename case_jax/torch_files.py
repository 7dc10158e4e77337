"""State dicts in files of PyTorch: read without it, running nothing that they contain; written with it."""

import collections
import io
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from case_jax.data.files import one_line, write_atomically
from case_jax.errors import InputError

__all__ = ["read_state_dict", "write_state_dict"]

_EXPECTED = "expected a state dict as torch.save(model.state_dict(), path) writes it"
_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
}


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict.

    The file is a zip archive with one pickle and the arrays' bytes. Of the pickle only the few names that
    tensors consist of are known here; anything else in it is refused, never called.

    Args:
        path: a file of PyTorch 1.6 or newer. "module." before all names is left out.

    Returns:
        name -> array.

    Raises:
        InputError: if it is missing, damaged, of the older form, or holds anything but tensors by name.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            content = _Reader(archive).load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_EXPECTED}") from None
    except zipfile.BadZipFile:
        raise InputError(f"{path}: is no archive of PyTorch 1.6 or newer; {_EXPECTED}") from None
    except Exception as error:  # a damaged pickle makes its reader raise nearly anything
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {_EXPECTED}") from None
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not named or not content or not all(isinstance(value, np.ndarray) for value in content.values()):
        raise InputError(f"{path}: holds something else than tensors by name; {_EXPECTED}")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def write_state_dict(path: str | os.PathLike, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict for torch.load; needs PyTorch (extra `torch`).

    Raises:
        InputError: if PyTorch is not installed or the file cannot be written.
    """
    try:
        import torch  # optional
    except ImportError:
        raise InputError(f"{path}: needs PyTorch to be written; expected pip install '.[torch]'") from None
    buffer = io.BytesIO()
    tensors = {name: torch.from_numpy(np.array(array, order="C")) for name, array in state_dict.items()}
    torch.save(collections.OrderedDict(tensors), buffer)
    write_atomically(path, buffer.getvalue())


class _Reader(pickle.Unpickler):
    """A pickle of tensors, where nothing but tensors can be made."""

    def __init__(self, archive: zipfile.ZipFile):
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
        if len(pickles) != 1:
            raise ValueError("it holds no data.pkl")
        self._archive, self._folder = archive, pickles[0].removesuffix("data.pkl")
        byteorder = f"{self._folder}byteorder"
        if byteorder in archive.namelist() and archive.read(byteorder).strip() != b"little":
            raise ValueError("its numbers are not little-endian")
        super().__init__(io.BytesIO(archive.read(pickles[0])))

    def find_class(self, module: str, name: str) -> Any:
        """The few names that tensors consist of."""
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
        }
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) not in known:
            raise ValueError(f"it asks for {module}.{name}, which no tensor needs")
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """The bytes of a storage, as a flat array."""
        kind, dtype, key, _, count = pid
        name = f"{self._folder}data/{key}"
        if kind != "storage" or not isinstance(dtype, np.dtype) or "/" in str(key):
            raise ValueError(f"it holds a {kind!r}")
        if self._archive.getinfo(name).file_size != count * dtype.itemsize:
            raise ValueError(f"{name} has not the size of {count} numbers")
        return np.frombuffer(self._archive.read(name), dtype)


def _tensor(storage: np.ndarray, offset: int, size: tuple, stride: tuple, *_) -> np.ndarray:
    """A tensor's part of a storage, copied, so that nothing outside of it can be reached."""
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor has an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if math.prod(size) and last >= storage.size:
        raise ValueError("a tensor reaches beyond its storage")
    if math.prod(size) > storage.size:
        raise ValueError("a tensor repeats its storage")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False).copy()
