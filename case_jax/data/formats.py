"""The file formats of features: which ending is read by which reader.

`FORMATS` is the one table. Everything that depends on a file's ending derives from it: how features are found
and opened, what messages expect, and which endings a list of videos may carry.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data import csv_features, hdf5, npy, npz, torch_features
from case_jax.data.names import is_hidden, spellings
from case_jax.words import listed

__all__ = [
    "CONTAINER_FORMATS",
    "FORMATS",
    "Format",
    "describe_formats",
    "find_array",
    "find_container",
    "format_of",
    "list_arrays",
    "list_keys",
    "without_ending",
]


class Format(NamedTuple):
    """A file format of features.

    Attributes:
        name: what messages call such files.
        endings: of the files' names.
        open: reads or maps the array at a path. A format of several arrays takes the array's name, too; None
            stands for the only one. The array may have any shape, and any dtype that the file may have.
        expected: what a file should be, for messages.
        keys: for a format of several arrays by name, lists the names in a file; otherwise None.
        item: what messages call an array with a name.
        keys_inside: for a format that may hold many videos, lists the names in a group of arrays; the name of
            an array in it is "group/name". None for a format of one video per file.
        mapped: whether opening leaves the values on disk, so that a few snippets are cheap to read.
    """

    name: str
    endings: tuple[str, ...]
    open: Callable[[Path, str | None], np.ndarray]
    expected: str
    keys: Callable[[Path], list[str]] | None = None
    item: str = "array"
    keys_inside: Callable[[Path, str], list[str]] | None = None
    mapped: bool = False


# Where a video's features are there in several formats, the first one in the table is used.
FORMATS = (
    Format(".npy", (".npy",), lambda path, key: npy.map_npy(path), npy.EXPECTED, mapped=True),
    Format(".csv", (".csv",), lambda path, key: csv_features.read_csv(path), csv_features.EXPECTED),
    Format(".npz", (".npz",), npz.read_array, npz.EXPECTED, npz.list_keys),
    Format(
        ".pt",
        (".pt", ".pth"),
        torch_features.read_tensor,
        torch_features.EXPECTED,
        torch_features.list_keys,
        "tensor",
    ),
    Format(
        "HDF5",
        (".h5", ".hdf5"),
        hdf5.read_data_set,
        hdf5.EXPECTED,
        hdf5.list_keys,
        "data set",
        keys_inside=hdf5.list_keys,
    ),
)

CONTAINER_FORMATS = tuple(form for form in FORMATS if form.keys_inside is not None)


def format_of(path: Path) -> Format:
    """The format of a file by its ending; a file of any other ending is read as the first format."""
    return next((form for form in FORMATS if path.suffix in form.endings), FORMATS[0])


def describe_formats() -> str:
    """All formats in words, for messages, such as ".npy, .csv or HDF5"."""
    return listed([form.name for form in FORMATS], "or")


def without_ending(name: str) -> str:
    """A file's name without its ending, if the ending is that of a format.

    Example:
        >>> without_ending("v_abc.npy"), without_ending("v_1.5")
        ('v_abc', 'v_1.5')
    """
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if any(suffix in form.endings for form in FORMATS) else name


# Finding files.


def find_array(folder: Path, name: str) -> Path:
    """The file ``folder/<name><ending>``, of the first format that is there.

    If there is none, its path in the first format, so that opening it says what is missing.
    """
    endings = [ending for form in FORMATS for ending in form.endings]
    paths = [folder / f"{spelling}{ending}" for spelling in spellings(name) for ending in endings]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def list_arrays(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The files of one video each in a folder; hidden ones are left out.

    Returns:
        Name without its ending -> path, format by format and each in order; and the names that are there in
        several formats, of which the first is used.
    """
    found: dict[str, Path] = {}
    repeated: list[str] = []
    paths = [path for path in folder.glob("*") if not is_hidden(path.name)]
    for form in FORMATS:
        for path in sorted(path for path in paths if path.suffix in form.endings):
            if path.stem in found:
                repeated.append(path.stem)
            found.setdefault(path.stem, path)
    return found, repeated


def find_container(folder: Path, name: str) -> Path | None:
    """The file ``folder/<name><ending>`` of many videos, or None."""
    paths = [folder / f"{name}{ending}" for form in CONTAINER_FORMATS for ending in form.endings]
    return next((path for path in paths if os.path.isfile(path)), None)


def list_keys(path: Path, group: str | None = None) -> list[str]:
    """The names of the arrays in a file, or in a group of them.

    Args:
        path: the file.
        group: the name of a group in a file of many videos.

    Returns:
        The names; none if the format has one array per file, or ``group`` is an array.

    Raises:
        InputError: if the file is missing or unreadable.
    """
    form = format_of(path)
    if group is not None:
        return [] if form.keys_inside is None else form.keys_inside(path, group)
    return [] if form.keys is None else form.keys(path)
