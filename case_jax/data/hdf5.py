"""Features in HDF5 files: many data sets by name in one file. Needs h5py (extra `hdf5`)."""

import os

import numpy as np

from case_jax.data.files import one_line, refuse_pipes
from case_jax.errors import InputError

__all__ = ["list_keys", "name_of", "read_data_set"]

_FILE = "expected an HDF5 file"
_DATA_SET = "expected a (snippets, channels) data set of numbers"
_DEFLATE = 1032  # the most bytes that one stored byte stands for in the usual compressions


def name_of(path: str | os.PathLike, key: str) -> str:
    """A data set's name in messages."""
    return f"{path}: data set {key!r}"


def list_keys(path: str | os.PathLike) -> list[str]:
    """The names at the top of an HDF5 file: of data sets, or of groups that hold one data set each.

    Args:
        path: the file.

    Returns:
        The names in the file's order.

    Raises:
        InputError: if it is not an HDF5 file or h5py is not installed.
    """
    with _open(path) as file:
        try:
            return list(file)
        except Exception as error:  # a damaged index makes h5py raise nearly anything
            raise InputError(f"{path}: cannot be read ({one_line(error)}); {_FILE}") from None


def read_data_set(path: str | os.PathLike, key: str) -> np.ndarray:
    """Reads one data set, or the only one in a group.

    Args:
        path: the file.
        key: the name of the data set or group.

    Returns:
        (T_v, D) float32 array; its values are not checked.

    Raises:
        InputError: if the file or data set is missing or unreadable, the data set is not two-dimensional, is
            empty or not numeric, or is kept in another file.
    """
    with _open(path) as file:
        try:
            return _read(_find(file, key, name_of(path, key)), name_of(path, key))
        except InputError:
            raise
        except Exception as error:  # damage makes h5py raise nearly anything
            raise InputError(
                f"{name_of(path, key)}: cannot be read ({one_line(error)}); {_DATA_SET}"
            ) from None


def _open(path: str | os.PathLike):
    try:
        import h5py  # optional
    except ImportError:
        raise InputError(f"{path}: needs h5py to be read; expected pip install '.[hdf5]'") from None
    refuse_pipes(path, expected=_FILE)
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_FILE}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {_FILE}") from None


def _find(file, key: str, where: str):
    """The data set of that name, or the only one in the group of that name."""
    import h5py

    node = _child(file, key, where)
    if isinstance(node, h5py.Group):
        inside = list(node)
        if len(inside) != 1:
            raise InputError(f"{where}: is a group of {len(inside)}; expected one data set in it")
        node = _child(node, inside[0], where)
    return node


def _child(group, name: str, where: str):
    """A member of a group. Links and external storage are refused: they could reach any file."""
    import h5py

    link = group.get(name, getlink=True)
    if link is None:
        raise InputError(f"{where}: is not there; expected a data set of that name")
    if not isinstance(link, h5py.HardLink):
        raise InputError(f"{where}: is a link; expected a data set in the file itself")
    node = group[name]
    if isinstance(node, h5py.Dataset) and (node.is_virtual or node.external):
        raise InputError(f"{where}: is kept in other files; expected a data set in the file itself")
    return node


def _read(node, where: str) -> np.ndarray:
    import h5py

    if not isinstance(node, h5py.Dataset) or node.dtype.kind not in "fiu":
        raise InputError(f"{where}: holds no numbers; {_DATA_SET}")
    if node.ndim != 2 or 0 in node.shape:
        raise InputError(f"{where}: has shape {node.shape}; {_DATA_SET}")
    # Whatever is not stored reads as zeros, so that a small file could fill the memory.
    if node.nbytes > _DEFLATE * node.id.get_storage_size():
        raise InputError(f"{where}: has shape {node.shape}, more than is stored; {_DATA_SET}")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which the values' check refuses
        return node[:].astype(np.float32, copy=False)
