"""Contents of files that users hand over, whole and hostile, made without the packages that write them."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import ml_dtypes
import numpy as np

__all__ = [
    "ONES",
    "Trap",
    "edit_json",
    "legacy_torch_file",
    "npy",
    "npy_header",
    "npz",
    "torch_file",
    "write_array",
]

ONES = np.ones((4, 3), np.float32)


class Trap:
    """Leaves a file behind if it is unpickled."""

    path: Path | None = None

    def __reduce__(self):
        return Path.touch, (self.path,)


def npy(array: np.ndarray) -> bytes:
    """The array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_array(path: Path, array: np.ndarray, key: str = "x") -> None:
    """Writes a file of one array in the format of its ending; every format of features has a writer here.

    Args:
        path: the file.
        array: (T_v, D).
        key: the array's name, where a format has names.
    """

    def hdf5(path: Path, array: np.ndarray) -> None:
        with h5py.File(path, "w") as file:
            file[key] = array

    writers = {
        ".npy": np.save,
        ".csv": lambda path, array: np.savetxt(path, array, "%.9g", delimiter=","),
        ".npz": lambda path, array: np.savez(path, **{key: array}),
        ".pt": lambda path, array: path.write_bytes(torch_file(array)),
        ".pth": lambda path, array: path.write_bytes(legacy_torch_file({key: array})),
        ".h5": hdf5,
        ".hdf5": hdf5,
    }
    writers[path.suffix](path, array)


def npz(**arrays: np.ndarray) -> bytes:
    """The arrays as a .npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy_header(descr="'<f4'", order="False", shape="(4, 3)", data=b"\0" * 48) -> bytes:
    """A .npy file whose header says what it is told to, with 48 bytes of data."""
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def edit_json(path: Path, change) -> None:
    """Applies a function to the content of a JSON file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def torch_file(
    content: dict[str, np.ndarray] | np.ndarray, *, opcodes: bytes = b"", hostile: Any = None
) -> bytes:
    """A state dict or one tensor in PyTorch's form, made without PyTorch.

    Args:
        content: name -> array, or one array.
        opcodes: opcodes of the pickle that run before the rest.
        hostile: an object that is pickled with the rest, under the name "hostile".
    """
    arrays, keys, text = _torch_pickle(_TensorPickler, content, hostile)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", text[:2] + opcodes + text[2:])
        archive.writestr("model/byteorder", "little")
        for of, array in arrays.items():
            archive.writestr(f"model/data/{keys[of]}", array.ravel("K").tobytes())
    return file.getvalue()


def legacy_torch_file(
    content: dict[str, np.ndarray] | np.ndarray, *, opcodes: bytes = b"", hostile: Any = None
) -> bytes:
    """A state dict or one tensor in the form that PyTorch wrote before 1.6; args as `torch_file`."""
    arrays, keys, text = _torch_pickle(_LegacyPickler, content, hostile)
    machine = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    file = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, machine)]
    file += [text[:2] + opcodes + text[2:], pickle.dumps(list(keys.values()), protocol=2)]
    file += [struct.pack("<q", array.size) + array.ravel("K").tobytes() for array in arrays.values()]
    return b"".join(file)


def _torch_pickle(
    pickler: type["_TensorPickler"], content: dict[str, np.ndarray] | np.ndarray, hostile: Any
) -> tuple[dict[int, np.ndarray], dict[int, str], bytes]:
    """Arrays by their identity, keys of their storages, and the pickle."""
    values = [content] if isinstance(content, np.ndarray) else content.values()
    arrays = {id(array): array for array in values}  # an array under two names is stored once
    keys = {of: str(key) for key, of in enumerate(arrays)}
    if isinstance(content, np.ndarray):
        pickled: Any = _Tensor(content, keys[id(content)])
    else:
        pickled = OrderedDict((name, _Tensor(array, keys[id(array)])) for name, array in content.items())
        if hostile is not None:
            pickled["hostile"] = hostile
    buffer = io.BytesIO()
    pickler(buffer, protocol=2).dump(pickled)
    return arrays, keys, buffer.getvalue()


_STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.int32): "IntStorage",
    np.dtype(np.int16): "ShortStorage",
    np.dtype(np.int8): "CharStorage",
    np.dtype(np.uint8): "ByteStorage",
}


class _Global(NamedTuple):
    """A name in PyTorch, to be pickled by name."""

    module: str
    name: str


class _Tensor(NamedTuple):
    array: np.ndarray
    key: str


class _StorageOf(NamedTuple):
    array: np.ndarray
    key: str


class _TensorPickler(pickle._Pickler):
    """Pickles arrays as PyTorch pickles tensors, by names that need not be importable."""

    view: tuple = ()

    def save(self, value, save_persistent_id=True):
        if isinstance(value, _Global):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _StorageOf):
            kind = _Global("torch", _STORAGES[value.array.dtype])
            self.save(("storage", kind, value.key, "cpu", value.array.size, *self.view))
            self.write(pickle.BINPERSID)
        elif isinstance(value, _Tensor):
            array = value.array
            strides = tuple(step // array.itemsize for step in array.strides)
            self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
            self.save((_StorageOf(*value), 0, array.shape, strides, False, OrderedDict()))
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


class _LegacyPickler(_TensorPickler):
    view = (None,)  # the storage is no part of another
