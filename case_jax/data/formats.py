"""The file formats of features: which ending is read by which reader.

`FORMATS` is the one table. Everything that depends on a file's ending derives from it: how features are found
and opened, what messages expect, and which endings a list of videos may carry.
"""

import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data import hdf5
from case_jax.data.files import one_line, refuse_pipes, write_atomically
from case_jax.errors import InputError

__all__ = [
    "ARRAY_FORMATS",
    "CONTAINER_FORMATS",
    "FORMATS",
    "Format",
    "Source",
    "check_finite",
    "describe_formats",
    "find_array",
    "find_container",
    "format_of",
    "list_arrays",
    "list_keys",
    "open_source",
    "read_source",
    "select_columns",
    "without_ending",
    "write_features",
]


class Source(NamedTuple):
    """Where one stream of one video is.

    Attributes:
        path: the file.
        key: the name of the array in a file that holds many by name.
        columns: the stream's channels if streams stand side by side in one array: the first channel, the one
            after the last, and how many the array must have.
        rescaled: whether videos were rescaled to 100 snippets, which may then be a .csv file's columns.
    """

    path: Path
    key: str | None = None
    columns: tuple[int, int, int] | None = None
    rescaled: bool = False

    def __str__(self) -> str:
        """The source's name in messages."""
        return str(self.path) if self.key is None else hdf5.name_of(self.path, self.key)


# The readers. Each takes a `Source`, ignores its columns, and returns the (T_v, D) array of real numbers.

_NPY = "expected a .npy file with a (snippets, channels) array of numbers"
_CSV = "expected a .csv file with a row of numbers per snippet"
_RESCALED = 100  # the number of snippets that videos in .csv files are usually rescaled to


def _open_npy(source: Source) -> np.ndarray:
    """Maps the file into memory without reading its values; nothing in it is ever unpickled."""
    path = source.path
    try:
        with open(path, "rb") as file:
            archive = file.read(2) == b"PK"  # numpy would leave a damaged archive open
        if archive:
            raise InputError(f"{path}: is an archive of several arrays; {_NPY}")
        with np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header may promise more than any integer can count
            features = np.load(path, allow_pickle=False, mmap_mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_NPY}") from None
    except InputError:
        raise
    except Exception as error:  # a damaged header makes numpy raise nearly anything
        # numpy's own message goes on to advise how to load pickles anyway.
        reason = "it holds pickled objects" if "pickle" in str(error) else one_line(error)
        raise InputError(f"{path}: cannot be read ({reason}); {_NPY}") from None
    if features.dtype.kind not in "fiu":
        raise InputError(f"{path}: holds {features.dtype} values; {_NPY}")
    if features.ndim != 2 or 0 in features.shape:
        raise InputError(f"{path}: has shape {features.shape}; {_NPY}")
    return features


def _read_csv(source: Source) -> np.ndarray:
    """Reads rows of numbers; a first line without any number is taken to hold names, and skipped."""
    path = source.path
    refuse_pipes(path, expected=_CSV)
    try:
        with open(path, encoding="utf-8-sig") as file:
            header = 0 if any(map(_is_numeric, file.readline().split(","))) else 1
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy warns of an empty file, which is refused below
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
    if source.key is None:
        raise InputError(f"{source}: is an HDF5 file of data sets by name; expected a .npy file of one array")
    return hdf5.read_data_set(source.path, source.key)


# The table.


class Format(NamedTuple):
    """A file format of features.

    Attributes:
        name: what messages call such files.
        endings: of the files' names.
        open: reads or maps the array at a `Source`.
        keys: for a format that holds many arrays by name, lists the names in a file; None for a format of one
            array per file.
        mapped: whether opening leaves the values on disk, so that a few snippets are cheap to read.
    """

    name: str
    endings: tuple[str, ...]
    open: Callable[[Source], np.ndarray]
    keys: Callable[[Path], list[str]] | None = None
    mapped: bool = False


# Where a video's features are there in several formats, the first one in the table is used.
FORMATS = (
    Format(".npy", (".npy",), _open_npy, mapped=True),
    Format(".csv", (".csv",), _read_csv),
    Format("HDF5", (".h5", ".hdf5"), _read_hdf5, keys=hdf5.list_keys),
)

ARRAY_FORMATS = tuple(form for form in FORMATS if form.keys is None)
CONTAINER_FORMATS = tuple(form for form in FORMATS if form.keys is not None)


def format_of(path: Path) -> Format:
    """The format of a file by its ending; a file of any other ending is read as the first format."""
    return next((form for form in FORMATS if path.suffix in form.endings), FORMATS[0])


def describe_formats() -> str:
    """All formats in words, for messages, such as ".npy, .csv or HDF5"."""
    *names, last = (form.name for form in FORMATS)
    return f"{', '.join(names)} or {last}"


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
    """The file ``folder/<name><ending>`` of one array, of the first format that is there.

    If there is none, its path in the first format, so that opening it says what is missing.
    """
    paths = [folder / f"{name}{ending}" for form in ARRAY_FORMATS for ending in form.endings]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def list_arrays(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The files of one array each in a folder.

    Returns:
        Name without its ending -> path, format by format and each in order; and the names that are there in
        several formats, of which the first is used.
    """
    found: dict[str, Path] = {}
    repeated: list[str] = []
    for form in ARRAY_FORMATS:
        for path in sorted(path for ending in form.endings for path in folder.glob(f"*{ending}")):
            if path.stem in found:
                repeated.append(path.stem)
            found.setdefault(path.stem, path)
    return found, repeated


def find_container(folder: Path, name: str) -> Path | None:
    """The file ``folder/<name><ending>`` of many arrays by name, or None."""
    paths = [folder / f"{name}{ending}" for form in CONTAINER_FORMATS for ending in form.endings]
    return next((path for path in paths if os.path.isfile(path)), None)


def list_keys(path: Path) -> list[str]:
    """The names of the arrays in a file of many arrays.

    Raises:
        InputError: if the file is missing or unreadable.
    """
    keys = format_of(path).keys
    if keys is None:
        raise ValueError(f"{path} is a file of one array")
    return keys(path)


# Reading.


def open_source(source: Source) -> np.ndarray:
    """Opens one stream's features; those of mapped formats (.npy) are not read yet.

    Args:
        source: where the features are. A .csv file may begin with a line of names. If the source is rescaled
            and the file has 100 columns but another number of rows, its columns are the snippets.

    Returns:
        (T_v, D) array of the file's dtype; its values are not checked.

    Raises:
        InputError: if the file is missing, unreadable, not two-dimensional, empty or not numeric.
    """
    return select_columns(source, format_of(source.path).open(source))


def select_columns(source: Source, features: np.ndarray) -> np.ndarray:
    """The channels of one source in an array of several streams side by side.

    Args:
        source: says which columns; without them, the array is returned unchanged.
        features: (T_v, D of all streams).

    Returns:
        (T_v, D) view.

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
    """Reads one stream's features and checks their values.

    Args:
        source: where the features are.
        out: (T_v, D) float array to read into; default a new float32 array.

    Returns:
        (T_v, D): ``out``, or float32 in C order.

    Raises:
        InputError: as `open_source`, and if a value is not finite.
    """
    opened = open_source(source)
    if out is None:
        out = np.empty(opened.shape, np.float32)
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused below
        out[:] = opened.astype(np.float32, copy=False)
    check_finite(out, str(source))
    return out


def check_finite(
    features: np.ndarray, path: str | os.PathLike, snippets: Sequence[int] | np.ndarray | None = None
) -> None:
    """Refuses features with a value that is not finite.

    Args:
        features: (T, D) rows of a file.
        path: the file, for the message.
        snippets: (T,) int, each row's position in the file; default 0 .. T-1.

    Raises:
        InputError: naming the first such value.
    """
    finite = np.isfinite(features)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        snippet = row if snippets is None else snippets[row]
        raise InputError(
            f"{path}: snippet {snippet}, channel {column} is {features[row, column]}; expected finite numbers"
        )


def write_features(path: str | os.PathLike, features: np.ndarray) -> None:
    """Writes an array as a .npy file, as `case_jax.data.files.write_atomically` does.

    Args:
        path: the file; its folder is made if needed.
        features: (T_v, D), any dtype.

    Raises:
        InputError: if the file cannot be written.
    """
    buffer = io.BytesIO()
    np.save(buffer, features)
    write_atomically(path, buffer.getvalue())
