"""Arrays in numpy's .npy files: mapped, and written. Nothing in them is ever unpickled."""

import io
import os
import warnings
from pathlib import Path

import numpy as np

from case_jax.data.files import one_line, refuse_pipes, write_atomically
from case_jax.errors import InputError

__all__ = ["EXPECTED", "map_npy", "npy_bytes", "write_features"]

EXPECTED = "expected a .npy file with a (snippets, channels) array of numbers"


def map_npy(path: Path) -> np.ndarray:
    """Maps the file into memory without reading its values.

    Args:
        path: the file.

    Returns:
        The read-only array, of any shape and dtype.

    Raises:
        InputError: if the file is missing, damaged, or holds objects or several arrays.
    """
    refuse_pipes(path, expected=EXPECTED)
    try:
        with open(path, "rb") as file:
            archive = file.read(2) == b"PK"  # numpy would leave a damaged archive open
        if archive:
            raise InputError(f"{path}: is an archive of several arrays; {EXPECTED}")
        with np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header may promise more than any integer can count
            return np.load(path, allow_pickle=False, mmap_mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {EXPECTED}") from None
    except InputError:
        raise
    except Exception as error:  # a damaged header makes numpy raise nearly anything
        # numpy's own message goes on to advise how to load pickles anyway.
        reason = "it holds pickled objects" if "pickle" in str(error) else one_line(error)
        raise InputError(f"{path}: cannot be read ({reason}); {EXPECTED}") from None


def npy_bytes(array: np.ndarray) -> bytes:
    """The content of an array's .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_features(path: str | os.PathLike, features: np.ndarray) -> None:
    """Writes an array as a .npy file, as `case_jax.data.files.write_atomically` does.

    Args:
        path: the file; its folder is made if needed.
        features: (T_v, D), any dtype.

    Raises:
        InputError: if the file cannot be written.
    """
    write_atomically(path, npy_bytes(features))
