"""Arrays in pickles of dictionaries, a form of published parameters: read without running what they name."""

import io
import math
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from case_jax.data.files import one_line, refuse_pipes
from case_jax.data.torch_pickles import check_memo
from case_jax.errors import InputError

__all__ = ["read_pickled_arrays"]

_EXPECTED = "expected a pickle of named numpy arrays"
_DTYPES = ("f2", "f4", "f8", "i4", "i8")


def read_pickled_arrays(path: str | os.PathLike) -> dict[tuple[str, ...], np.ndarray]:
    """Reads the arrays of nested dictionaries.

    This reader knows only the few names that numpy's arrays are made of, and puts its own objects in their
    place; any other name in the pickle is refused, never called.

    Args:
        path: the file.

    Returns:
        Names, from the outermost dictionary's to the innermost's -> read-only array.

    Raises:
        InputError: if the file is missing, damaged, or holds anything but named arrays.
    """
    path = Path(path)
    refuse_pipes(path, expected=_EXPECTED)
    try:
        content = path.read_bytes()
        check_memo(content)
        found = dict(_flat(_Reader(io.BytesIO(content)).load(), ()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_EXPECTED}") from None
    except Exception as error:  # a damaged pickle makes its reader raise nearly anything
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {_EXPECTED}") from None
    if not found:
        raise InputError(f"{path}: holds no array; {_EXPECTED}")
    return found


class _Dtype:
    """Stands for a dtype that a pickle makes: numpy's own could be changed for the whole process."""

    def __init__(self, name: Any):
        self.name, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def get(self) -> np.dtype:
        if self.name not in _DTYPES or self.order not in ("<", "|"):
            raise ValueError(f"it holds numbers of kind {self.order}{self.name}")
        return np.dtype(f"<{self.name}")


class _Array:
    """Stands for an array that a pickle makes."""

    array: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise ValueError("it holds an array of objects")
        kind = dtype.get()
        if min(shape, default=0) < 0 or math.prod(shape) * kind.itemsize != len(data):
            raise ValueError(f"an array of shape {shape} has {len(data)} bytes")
        self.array = np.frombuffer(data, kind).reshape(shape, order="F" if by_columns else "C")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Returns stand-ins for what arrays are made of; refuses any other name."""
        known = {
            ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): lambda name, *_: _Dtype(name),
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
        }
        if (module, name) not in known:
            raise ValueError(f"it asks for {module}.{name}, which no array needs")
        return known[module, name]


def _flat(content: Any, names: tuple[str, ...]):
    """Yields the arrays of nested dictionaries with their names."""
    if isinstance(content, _Array):
        yield names, content.array
    elif isinstance(content, dict) and all(isinstance(name, str) for name in content):
        for name, value in content.items():
            yield from _flat(value, (*names, name))
    else:
        raise ValueError(f"it holds a {type(content).__name__} in the place of a named array")
