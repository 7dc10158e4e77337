"""Reading text files that users hand over, and writing files so that none is ever half-written."""

import collections
import contextlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from case_jax.errors import InputError

__all__ = [
    "MAX_SECONDS",
    "as_number",
    "as_segment",
    "one_line",
    "read_json",
    "read_text",
    "refuse_pipes",
    "write_atomically",
    "write_text_atomically",
    "writing",
]

MAX_SECONDS = 1e12  # no time may be beyond; far below where differences and ratios of times overflow


def read_text(path: str | os.PathLike, *, expected: str) -> str:
    """Reads a UTF-8 file; a byte order mark is left out.

    Args:
        path: the file.
        expected: what the file should hold, for messages.

    Returns:
        The text.

    Raises:
        InputError: if the file is missing or unreadable.
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


def read_json(path: str | os.PathLike) -> Any:
    """Parses a UTF-8 JSON file; a byte order mark is allowed.

    Args:
        path: the file.

    Returns:
        Dictionaries, lists, text and numbers, as `json.loads` returns them.

    Raises:
        InputError: if the file is missing, unreadable or not JSON, an object has a name twice, or text holds
            NUL characters or halves of surrogate pairs, which can be neither written nor compared.
    """
    text = read_text(path, expected="a JSON file")
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: _as_object(path, pairs))
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
        _check_texts(path, content)
    return content


# Unescaped, these characters are valid in neither JSON nor UTF-8. So only escapes can stand for them.
_SUSPECT = re.compile(r"\\u(0000|[dD][89a-fA-F])")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


def _as_object(path: str | os.PathLike, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = collections.Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise InputError(f"{path}: has {twice!r} twice in one object; expected each name once")
    return content


def _check_texts(path: str | os.PathLike, content: Any) -> None:
    for text in _texts(content):
        if _UNUSABLE.search(text):
            raise InputError(
                f"{path}: holds the text {text!r}; expected none with NUL characters or surrogates"
            )


def _texts(content: Any) -> Iterator[str]:
    """All text in parsed JSON: names and values."""
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
    """A number, or a number written as text (THUMOS14's annotations have those), as a float.

    Args:
        value: from parsed JSON.

    Returns:
        The number; it may be infinite or NaN.

    Raises:
        ValueError: if the value is anything else, such as a truth value, or is too large for a float.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{value!r} is not a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("the number is too large") from None


def as_segment(value: Any) -> tuple[float, float]:
    """A list of start and end, as two floats.

    Args:
        value: from parsed JSON.

    Returns:
        (start, end), each as `as_number`.

    Raises:
        ValueError: if the value is not a list of two numbers.
    """
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{value!r} is not a list of two numbers")
    return as_number(value[0]), as_number(value[1])


def refuse_pipes(path: str | os.PathLike, *, expected: str) -> None:
    """Rejects pipes and devices; opening a pipe would block.

    Folders and missing files pass: opening them fails at once, with a reason.

    Args:
        path: the file that is about to be opened.
        expected: what the file should be, beginning with "expected", for the message.

    Raises:
        InputError: if the path is a pipe, a device or a socket.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path}: is a pipe or a device; {expected}")


def one_line(error: Exception) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split())


def write_text_atomically(path: str | os.PathLike, text: str) -> None:
    """`write_atomically` of UTF-8 text."""
    write_atomically(path, text.encode())


def write_atomically(path: str | os.PathLike, content: bytes) -> None:
    """Writes a file so that readers see the old content or the new content, never a part.

    Args:
        path: the file; its folder is made if needed.
        content: all of the file.

    Raises:
        InputError: if the file cannot be written.
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
    """Turns an error of the disk into one line that names the file or folder being written.

    Args:
        path: the file or folder.

    Raises:
        InputError: for an `OSError` in the body.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
