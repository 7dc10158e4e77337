"""Arrays in numpy's .npz archives: one per stream, or one alone. Nothing in them is ever unpickled."""

import os
import warnings
import zipfile
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from case_jax.data.files import one_line, refuse_pipes
from case_jax.data.named_arrays import the_only
from case_jax.errors import InputError

__all__ = ["EXPECTED", "list_keys", "read_array"]

EXPECTED = "expected a .npz file of (snippets, channels) arrays of numbers"
_ENDING = ".npy"  # of each array's name in the archive
# What numpy writes. Deflate makes at most 1032 bytes of one, so that no small file fills the memory.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

_T = TypeVar("_T")


def list_keys(path: str | os.PathLike) -> list[str]:
    """The names of the arrays in an archive, in its order.

    Raises:
        InputError: if it is missing or no archive.
    """
    return _read(path, _names)


def read_array(path: str | os.PathLike, key: str | None = None) -> np.ndarray:
    """Reads one array.

    Args:
        path: the archive.
        key: the array's name; None for the only one.

    Returns:
        The array, of any shape and dtype.

    Raises:
        InputError: if the archive or the array is missing or damaged, holds objects, or there are several
            arrays where one is asked for.
    """

    def read(archive: zipfile.ZipFile) -> np.ndarray:
        name = the_only(path, _names(archive), "array") if key is None else key
        if name not in _names(archive):
            raise InputError(f"{path}: has no array {name!r}, only {_listed(archive)}; {EXPECTED}")
        member = archive.getinfo(name + _ENDING)
        if member.compress_type not in _COMPRESSIONS:
            raise ValueError("it is compressed in a way that numpy does not write")
        with archive.open(member) as file, np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header may promise more than any integer can count
            return np.lib.format.read_array(file, allow_pickle=False)

    return _read(path, read)


def _names(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(_ENDING) for name in archive.namelist() if name.endswith(_ENDING)]


def _listed(archive: zipfile.ZipFile) -> str:
    return ", ".join(map(repr, _names(archive)[:4])) or "none"


def _read(path: str | os.PathLike, read: Callable[[zipfile.ZipFile], _T]) -> _T:
    """What a function reads of an archive. numpy's own reader would leave a damaged one open."""
    refuse_pipes(path, expected=EXPECTED)
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            return read(archive)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {EXPECTED}") from None
    except InputError:
        raise
    except zipfile.BadZipFile:
        raise InputError(f"{path}: is not a whole .npz file; {EXPECTED}") from None
    except Exception as error:  # a damaged header makes numpy raise nearly anything
        reason = "it holds pickled objects" if "pickle" in str(error) else one_line(error)
        raise InputError(f"{path}: cannot be read ({reason}); {EXPECTED}") from None
