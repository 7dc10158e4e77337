"""Features in HDF5 files: many data sets by name in one file. Needs h5py (extra `hdf5`)."""

import os

import numpy as np

from case_jax.data.files import one_line, refuse_pipes
from case_jax.data.named_arrays import the_only
from case_jax.data.names import is_hidden
from case_jax.errors import InputError

__all__ = ["EXPECTED", "list_keys", "read_data_set"]

_FILE = "expected an HDF5 file"
EXPECTED = "expected a (snippets, channels) data set of numbers"
_DEFLATE = 1032  # the most bytes that one stored byte stands for in the usual compressions


def list_keys(path: str | os.PathLike, group: str | None = None) -> list[str]:
    """The names at the top of an HDF5 file, or in one of its groups.

    Args:
        path: the file.
        group: the name of a group at the top; default the top itself.

    Returns:
        The names of data sets and groups, in the file's order; none if ``group`` is a data set.

    Raises:
        InputError: if it is not an HDF5 file or h5py is not installed.
    """
    with _open(path) as file:
        try:
            node = file if group is None else _child(file, group, _name_of(path, group))
            return [name for name in node if not is_hidden(name)] if _is_group(node) else []
        except InputError:
            raise
        except Exception as error:  # a damaged index makes h5py raise nearly anything
            raise InputError(f"{path}: cannot be read ({one_line(error)}); {_FILE}") from None


def read_data_set(path: str | os.PathLike, key: str | None = None) -> np.ndarray:
    """Reads one data set, or the only one in a group.

    Args:
        path: the file.
        key: the name of the data set or group, or "group/name"; None for the only one in the file.

    Returns:
        float32 array of any shape; its values are not checked.

    Raises:
        InputError: if the file or data set is missing or unreadable, is not numeric, or is kept in another
            file.
    """
    if key is None:
        key = the_only(path, list_keys(path), "data set")
    where = _name_of(path, key)
    with _open(path) as file:
        try:
            return _read(_find(file, key, where), where)
        except InputError:
            raise
        except Exception as error:  # damage makes h5py raise nearly anything
            raise InputError(f"{where}: cannot be read ({one_line(error)}); {EXPECTED}") from None


def _name_of(path: str | os.PathLike, key: str) -> str:
    return f"{path}: data set {key!r}"


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
    node = file
    for name in key.split("/"):  # step by step, since a path would follow links on its way
        if not _is_group(node):
            raise InputError(f"{where}: is not there; expected a data set of that name")
        node = _child(node, name, where)
    if _is_group(node):
        inside = list(node)
        if len(inside) != 1:
            shown = ", ".join(map(repr, inside[:4]))
            raise InputError(
                f"{where}: is a group of {len(inside)} ({shown}); expected one data set in it, or one per "
                "stream under the stream's name"
            )
        node = _child(node, inside[0], where)
    return node


def _is_group(node) -> bool:
    import h5py

    return isinstance(node, h5py.Group)


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

    if not isinstance(node, h5py.Dataset) or node.dtype.kind not in "fiu" or node.shape is None:
        raise InputError(f"{where}: holds no numbers; {EXPECTED}")
    # Whatever is not stored reads as zeros, so that a small file could fill the memory.
    if node.nbytes > _DEFLATE * node.id.get_storage_size():
        raise InputError(f"{where}: has shape {node.shape}, more than is stored; {EXPECTED}")
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which the values' check refuses
        return np.asarray(node[()]).astype(np.float32, copy=False)
