"""One stream of one video: a .npy file, a .csv file, or a data set in an HDF5 file."""

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data.files import check_finite, one_line, open_features, refuse_pipes
from case_jax.errors import InputError

__all__ = ["HDF5", "Source", "hdf5_keys", "open_source", "read_source", "select_columns"]

HDF5 = (".h5", ".hdf5")
_RESCALED = 100  # snippets that videos in .csv files are usually rescaled to
_CSV = "expected a .csv file with a row of numbers per snippet"
_DEFLATE = 1032  # bytes that one stored byte can stand for, at most, in the usual compressions


class Source(NamedTuple):
    """One stream of one video."""

    path: Path
    key: str | None = None  # the data set in an HDF5 file
    columns: tuple[int, int, int] | None = None  # first channel, the one after the last, and of how many
    rescaled: bool = False  # videos were rescaled to 100 snippets, which may stand in a .csv file's columns

    def __str__(self) -> str:
        """To name it in a message."""
        return str(self.path) if self.key is None else f"{self.path}: data set {self.key!r}"


def open_source(source: Source) -> np.ndarray:
    """Opens one stream's features; those of .npy files are not read yet.

    Args:
        source: where they are. A .csv file may begin with a line of names. If it is rescaled and has 100
            columns but another number of rows, its snippets are the columns.

    Returns:
        (T_v, D); its values are not checked.

    Raises:
        InputError: if it is missing, unreadable, not two-dimensional, empty or not numeric.
    """
    if source.path.suffix == ".csv":
        features = _read_csv(source)
    elif source.path.suffix in HDF5:
        features = _read_hdf5(source)
    else:
        features = open_features(source.path)
    return select_columns(source, features)


def select_columns(source: Source, features: np.ndarray) -> np.ndarray:
    """The source's channels of the (T_v, D) array that it is a part of.

    Raises:
        InputError: if the array is not as wide as those of other videos.
    """
    if source.columns is None:
        return features
    begin, end, width = source.columns
    if features.shape[1] != width:
        raise InputError(f"{source}: has {features.shape[1]} channels; expected {width} as in other videos")
    return features[:, begin:end]


def read_source(source: Source, out: np.ndarray | None = None) -> np.ndarray:
    """Reads one stream's features.

    Args:
        source: where they are.
        out: (T_v, D) float array to read into; default a new float32 one.

    Returns:
        (T_v, D), ``out`` or float32 in C order.

    Raises:
        InputError: as `open_source`, and if a value is not finite.
    """
    opened = open_source(source)
    if out is None:
        out = np.empty(opened.shape, np.float32)
    with np.errstate(over="ignore"):  # an overflow shows as infinite below
        out[:] = opened.astype(np.float32, copy=False)
    check_finite(out, str(source))
    return out


def hdf5_keys(path: str | os.PathLike) -> list[str]:
    """The names at the top of an HDF5 file: of data sets, or of groups with one data set each.

    Raises:
        InputError: if it is no HDF5 file or h5py is not installed.
    """
    with _open_hdf5(path) as file:
        try:
            return list(file)
        except Exception as error:  # a damaged index makes h5py raise nearly anything
            raise InputError(f"{path}: cannot be read ({one_line(error)}); expected an HDF5 file") from None


def _read_csv(source: Source) -> np.ndarray:
    path = source.path
    refuse_pipes(path, expected=_CSV)
    try:
        with open(path, encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            header = 0 if any(map(_is_numeric, first.split(","))) else 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an empty file, which is refused below
                features = np.loadtxt(
                    file, np.float32, delimiter=",", skiprows=header, ndmin=2, comments=None
                )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_CSV}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {_CSV}") from None
    if 0 in features.shape:
        raise InputError(f"{path}: holds no numbers; {_CSV}")
    if source.rescaled and features.shape[1] == _RESCALED != features.shape[0]:
        features = np.ascontiguousarray(features.T)
    return features


def _is_numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_hdf5(source: Source) -> np.ndarray:
    import h5py

    expected = "expected a (snippets, channels) data set of numbers"
    if source.key is None:
        raise InputError(f"{source}: is an HDF5 file of data sets by name; expected a .npy file of one array")
    with _open_hdf5(source.path) as file:
        try:
            node = _child(file, source.key, source)
            if isinstance(node, h5py.Group):
                inside = list(node)
                if len(inside) != 1:
                    raise InputError(f"{source}: is a group of {len(inside)}; expected one data set in it")
                node = _child(node, inside[0], source)
            if not isinstance(node, h5py.Dataset) or node.dtype.kind not in "fiu":
                raise InputError(f"{source}: holds no numbers; {expected}")
            if node.ndim != 2 or 0 in node.shape:
                raise InputError(f"{source}: has shape {node.shape}; {expected}")
            if node.nbytes > _DEFLATE * node.id.get_storage_size():  # what is not stored reads as zeros
                raise InputError(f"{source}: has shape {node.shape}, more than is stored; {expected}")
            with np.errstate(over="ignore"):
                features = node[:].astype(np.float32, copy=False)
        except InputError:
            raise
        except Exception as error:  # damage makes h5py raise nearly anything
            raise InputError(f"{source}: cannot be read ({one_line(error)}); {expected}") from None
    return features


def _child(group, name: str, source: Source):
    """A member of a group that is really in this file."""
    import h5py

    link = group.get(name, getlink=True)
    if link is None:
        raise InputError(f"{source}: is not there; expected a data set of that name")
    if not isinstance(link, h5py.HardLink):
        raise InputError(f"{source}: is a link; expected a data set in the file itself")
    node = group[name]
    if isinstance(node, h5py.Dataset) and (node.is_virtual or node.external):
        raise InputError(f"{source}: is kept in other files; expected a data set in the file itself")
    return node


def _open_hdf5(path: str | os.PathLike):
    try:
        import h5py  # optional
    except ImportError:
        raise InputError(f"{path}: needs h5py to be read; expected pip install '.[hdf5]'") from None
    refuse_pipes(path, expected="expected an HDF5 file")
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected an HDF5 file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)}); expected an HDF5 file") from None
