"""What both forms of PyTorch's files share: pickles that name tensors, read without running anything."""

import collections
import math
import pickle
import pickletools
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

__all__ = ["Storage", "TensorUnpickler", "check_memo", "dtype_of", "tensor_of"]

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
}


class Storage(NamedTuple):
    """A kind of storage, by name. A pickle may change the objects that it gets, so it never gets a dtype."""

    name: str


class TensorUnpickler(pickle.Unpickler):
    """Unpickles tensors and nothing else. A form of file says, by two methods, how its storages are found."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)

    def find_class(self, module: str, name: str) -> Any:
        """Returns the few names that tensors are made of; refuses any other."""
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: self.rebuild(*arguments),
            ("torch._utils", "_rebuild_tensor"): lambda *arguments: self.rebuild(*arguments),
            ("torch._utils", "_rebuild_parameter"): lambda data, requires_grad, hooks: data,
        }
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return Storage(name)
        if (module, name) not in known:
            raise ValueError(f"it asks for {module}.{name}, which no tensor needs")
        return known[module, name]

    def rebuild(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
        """Makes a tensor of a storage that `persistent_load` returned."""
        raise NotImplementedError


def dtype_of(kind: Any, storage: Any) -> np.dtype:
    """The dtype of the numbers in a storage that a persistent id describes.

    Raises:
        ValueError: if it describes anything else.
    """
    if kind != "storage" or not isinstance(storage, Storage):
        raise ValueError(f"it holds a {kind!r}")
    return np.dtype(_STORAGES[storage.name])


def check_memo(content: bytes) -> None:
    """Refuses a pickle that numbers its few objects by large numbers.

    Unpickling allocates a table up to the largest number, so that a small file could fill the memory.

    Raises:
        ValueError: if it does.
    """
    for opcode, argument, _ in pickletools.genops(content):
        if "PUT" in opcode.name and argument is not None and argument > len(content):
            raise ValueError(f"it numbers an object {argument}")


def tensor_of(storage: np.ndarray, offset: int, size: tuple, stride: tuple) -> np.ndarray:
    """The read-only view of a storage that a tensor is.

    Raises:
        ValueError: if the tensor reaches beyond the storage.
    """
    if len(size) != len(stride) or min((offset, *size, *stride)) < 0:
        raise ValueError("a tensor has an impossible shape")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if math.prod(size) and last >= storage.size:
        raise ValueError("a tensor reaches beyond its storage")
    if math.prod(size) > storage.size:
        raise ValueError("a tensor repeats its storage")
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)
