"""PyTorch's files: read without PyTorch and without running their content; state dicts, written with it."""

import collections
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from case_jax.data.files import one_line, refuse_pipes, write_atomically
from case_jax.data.torch_legacy import MAGIC, read_legacy
from case_jax.data.torch_pickles import TensorUnpickler, check_memo, dtype_of, tensor_of
from case_jax.errors import InputError

__all__ = ["read_state_dict", "read_torch", "write_state_dict"]

_EXPECTED = "expected a state dict as torch.save(model.state_dict(), path) writes it"


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of a state dict.

    Args:
        path: a file of PyTorch. If all names begin with "module.", that prefix is left out.

    Returns:
        Name -> read-only array of the stored shape and dtype.

    Raises:
        InputError: if the file is missing, damaged, or holds anything but named tensors.
    """
    content = read_torch(path, expected=_EXPECTED)
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not named or not content or not all(isinstance(value, np.ndarray) for value in content.values()):
        raise InputError(f"{path}: holds something other than named tensors; {_EXPECTED}")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return dict(content)


def read_torch(path: str | os.PathLike, *, expected: str) -> Any:
    """Reads what `torch.save` wrote of tensors, numbers, text, and dictionaries and lists of them.

    The file is a zip archive of one pickle and the arrays' bytes, or has the form before PyTorch 1.6. This
    reader knows only the few names that tensors are made of; any other name is refused, never called.

    Args:
        path: the file.
        expected: what it should be, beginning with "expected", for messages.

    Returns:
        The content, in which each tensor is a read-only array of the stored shape and dtype. In a file of the
        form before PyTorch 1.6, only tensors that are the content or lie in its dictionary are arrays.

    Raises:
        InputError: if the file is missing or damaged.
    """
    path = Path(path)
    refuse_pipes(path, expected=expected)
    try:
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                file.seek(0)
                return read_legacy(file)
            with zipfile.ZipFile(file) as archive:
                return _Reader(archive).load()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {expected}") from None
    except zipfile.BadZipFile:
        raise InputError(f"{path}: is not a file of PyTorch; {expected}") from None
    except Exception as error:  # a damaged pickle makes its reader raise nearly anything
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {expected}") from None


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


class _Reader(TensorUnpickler):
    """Reads the archive that PyTorch 1.6 and newer write."""

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
        check_memo(content)
        super().__init__(io.BytesIO(content))

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Reads a storage as a flat array."""
        kind, storage, key, _, count = pid
        dtype = dtype_of(kind, storage)
        name = f"{self._folder}data/{key}"
        if "/" in str(key):
            raise ValueError(f"it holds a storage {key!r}")
        if self._archive.getinfo(name).file_size != count * dtype.itemsize:
            raise ValueError(f"{name} does not have the size of {count} numbers")
        if name not in self._read:
            self._read[name] = np.frombuffer(self._archive.read(name), np.uint8)
        return self._read[name].view(dtype)

    def rebuild(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> np.ndarray:
        """The view of a storage that a tensor is."""
        return tensor_of(storage, offset, size, stride)
