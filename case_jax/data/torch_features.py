"""Features in PyTorch's files: one tensor, or one per stream by name. Read without PyTorch, and never run."""

import os

import numpy as np

from case_jax.data.named_arrays import the_only
from case_jax.data.torch_files import read_torch
from case_jax.errors import InputError

__all__ = ["EXPECTED", "list_keys", "read_tensor"]

EXPECTED = "expected a tensor, or a dictionary of tensors, as torch.save(tensor, path) writes it"


def list_keys(path: str | os.PathLike) -> list[str]:
    """The names of the tensors in a file; none if the file is one tensor.

    Raises:
        InputError: if the file is missing, damaged, or holds anything else.
    """
    content = _read(path)
    return [] if isinstance(content, np.ndarray) else list(content)


def read_tensor(path: str | os.PathLike, key: str | None = None) -> np.ndarray:
    """Reads one tensor.

    Args:
        path: the file.
        key: the tensor's name in a dictionary; None for the only tensor.

    Returns:
        Read-only array of any shape and of the stored dtype, which may be bfloat16.

    Raises:
        InputError: if the file or the tensor is missing or damaged, or there are several where one is asked
            for.
    """
    content = _read(path)
    if isinstance(content, np.ndarray):
        if key is None:
            return content
        raise InputError(f"{path}: is one tensor without a name; expected a dictionary with {key!r}")
    name = the_only(path, list(content), "tensor") if key is None else key
    if name not in content:
        raise InputError(
            f"{path}: has no tensor {name!r}, only {', '.join(map(repr, list(content)[:4]))}; {EXPECTED}"
        )
    return content[name]


def _read(path: str | os.PathLike) -> np.ndarray | dict[str, np.ndarray]:
    """The tensor of a file, or its tensors by name; a dictionary may hold other plain values beside them."""
    content = read_torch(path, expected=EXPECTED)
    if isinstance(content, dict):
        named = {
            name: value
            for name, value in content.items()
            if isinstance(name, str) and isinstance(value, np.ndarray)
        }
        if named:
            return named
    elif isinstance(content, np.ndarray):
        return content
    raise InputError(f"{path}: holds no tensor; {EXPECTED}")
