"""Reading what users hand over, and writing so that nothing is ever half-written."""

import collections
import contextlib
import io
import json
import os
import re
import stat
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from case_jax.errors import InputError

__all__ = [
    "MAX_SECONDS",
    "as_number",
    "as_segment",
    "check_finite",
    "one_line",
    "open_features",
    "read_json",
    "read_names",
    "read_text",
    "refuse_pipes",
    "write_atomically",
    "write_features",
    "write_text_atomically",
    "writing",
]

MAX_SECONDS = 1e12  # of any time; far from where differences and ratios of times overflow

_FEATURES = "expected a .npy file with a (snippets, channels) array of numbers"


def read_json(path: str | os.PathLike) -> Any:
    """Parses a UTF-8 JSON file (a byte order mark is allowed).

    Raises:
        InputError: if it is missing, unreadable or not JSON, names something twice in one object, or holds
            text that cannot be written or compared: with NUL characters or halves of surrogate pairs.
    """
    text = read_text(path, expected="a JSON file")
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: _object(path, pairs))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: is not JSON (line {error.lineno}, column {error.colno}: {error.msg}); "
            "expected a JSON file"
        ) from None
    except InputError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"{path}: cannot be read ({one_line(error)}); expected a JSON file") from None
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply; expected a JSON file") from None
    if _SUSPECT.search(text):
        for found in _texts(content):
            if _UNUSABLE.search(found):
                raise InputError(
                    f"{path}: holds the text {found!r}; expected none with NUL characters or surrogates"
                )
    return content


# Only escapes can stand for them: as they are, they are neither JSON nor UTF-8.
_SUSPECT = re.compile(r"\\u(0000|[dD][89a-fA-F])")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


def _texts(content: Any) -> Iterator[str]:
    """All names and values that are text."""
    todo = [content]
    while todo:
        value = todo.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            todo += [*value, *value.values()]
        elif isinstance(value, list):
            todo += value


def as_number(value: Any) -> float:
    """A number, or a number written as text (THUMOS14 has those), as float.

    Raises:
        ValueError: if it is anything else, a truth value or too large for a float included.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("the number is too large") from None


def as_segment(value: Any) -> tuple[float, float]:
    """A list of start and end.

    Raises:
        ValueError: if it is no list of two numbers.
    """
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{value!r} is no list of two numbers")
    return as_number(value[0]), as_number(value[1])


def read_names(path: str | os.PathLike) -> list[str]:
    """Reads video names, one a line; blank lines, CRLF and a byte order mark do no harm.

    Raises:
        InputError: if the file is missing, unreadable or empty, a name repeats, or a name is no plain file
            name (so that no path outside the data folder can be read).
    """
    lines = read_text(path, expected="one video name a line").splitlines()
    names: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        if name in names:
            raise InputError(
                f"{path}: {name!r} is on lines {names[name]} and {number}; expected each video once"
            )
        if name in (".", "..") or any(c in name for c in "/\\\0"):
            raise InputError(f"{path}: line {number} is {name!r}; expected a video name, not a path")
        names[name] = number
    if not names:
        raise InputError(f"{path}: names no video; expected one video name a line")
    return list(names)


def open_features(path: str | os.PathLike) -> np.ndarray:
    """Opens one video's snippet features from one stream's .npy file, without reading them.

    Args:
        path: a .npy file holding a (T_v, D) array of real numbers. Nothing in it is ever unpickled.

    Returns:
        (T_v, D) memory map, of the file's dtype; its values are not checked.

    Raises:
        InputError: if it is missing, unreadable, not two-dimensional, empty or not numeric.
    """
    try:
        with np.errstate(over="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header may promise more than fits in any integer
            features = np.load(path, allow_pickle=False, mmap_mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_FEATURES}") from None
    except Exception as error:  # a damaged header makes numpy raise nearly anything
        # numpy's own words on pickles go on to advise how to load them all the same.
        reason = "it holds pickled objects" if "pickle" in str(error) else one_line(error)
        raise InputError(f"{path}: cannot be read ({reason}); {_FEATURES}") from None
    if not isinstance(features, np.ndarray):
        features.close()
        raise InputError(f"{path}: is an archive of several arrays; {_FEATURES}")
    if features.dtype.kind not in "fiu":
        raise InputError(f"{path}: holds {features.dtype} values; {_FEATURES}")
    if features.ndim != 2 or 0 in features.shape:
        raise InputError(f"{path}: has shape {features.shape}; {_FEATURES}")
    return features


def refuse_pipes(path: str | os.PathLike, *, expected: str) -> None:
    """Refuses what is no file that can be read from any place: to open a pipe waits for whoever fills it.

    Folders and what is missing are left to whoever opens them.

    Args:
        path: of a file.
        expected: what it should be, for the message.

    Raises:
        InputError: if it is a pipe, a device or a socket.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path}: is a pipe or a device; {expected}")


def check_finite(
    features: np.ndarray, path: str | os.PathLike, snippets: Sequence[int] | np.ndarray | None = None
) -> None:
    """Refuses values that are not finite.

    Args:
        features: (T, D) of a file.
        path: the file to blame.
        snippets: (T,) position in the file of each row; default 0 .. T-1.

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
    """Writes an array as a .npy file, as `write_atomically`."""
    buffer = io.BytesIO()
    np.save(buffer, features)
    write_atomically(path, buffer.getvalue())


def write_text_atomically(path: str | os.PathLike, text: str) -> None:
    """`write_atomically` of UTF-8 text."""
    write_atomically(path, text.encode())


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file so that readers see the old content or the new, never a part.

    Raises:
        InputError: if the folder cannot be written to.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(beside, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Tells errors of the disk in one line that names ``path``, the file or folder being written.

    Raises:
        InputError: for an `OSError` in its body.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def read_text(path: str | os.PathLike, *, expected: str) -> str:
    """Reads a UTF-8 file; a byte order mark is left out.

    Args:
        path: the file.
        expected: what it should hold, for the message.

    Raises:
        InputError: if it is missing or unreadable.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected {expected}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text; expected {expected}") from None
    except ValueError as error:  # no file can have this name
        raise InputError(f"{path}: cannot be read ({one_line(error)}); expected {expected}") from None


def _object(path: str | os.PathLike, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise InputError(f"{path}: has {twice!r} twice in one object; expected each name once")
    return content


def one_line(error: Exception) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())
