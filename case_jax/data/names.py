"""Video names: lists of them, names with and without ActivityNet's prefix, and both forms of accents."""

import os
import unicodedata
from collections.abc import Container
from pathlib import Path

from case_jax.data.files import read_text
from case_jax.errors import InputError

__all__ = ["find_name", "find_spelling", "is_hidden", "read_names", "spellings", "split_path"]

_PREFIX = "v_"
_EXPECTED = "one video name a line"


def find_name(name: str, known: Container[str]) -> str | None:
    """The name under which a video is known: unchanged, with the prefix "v_", or without it.

    ActivityNet's annotations name videos by their YouTube ids; files of features often by "v_" and the id.
    Accents may be composed in one name and decomposed in the other, see `spellings`.

    Args:
        name: a video's name.
        known: names.

    Returns:
        The known name, or None.

    Example:
        >>> find_name("abc", {"v_abc"}), find_name("v_abc", {"abc"}), find_name("abc", {"abcd"})
        ('v_abc', 'abc', None)
    """
    for spelling in spellings(name):
        for candidate in (spelling, _PREFIX + spelling, spelling.removeprefix(_PREFIX)):
            if candidate in known:
                return candidate
    return None


def find_spelling(name: str, known: Container[str]) -> str | None:
    """The name in ``known`` that is the same text, whether accents are composed or decomposed; or None."""
    return next((spelling for spelling in spellings(name) if spelling in known), None)


def spellings(name: str) -> tuple[str, ...]:
    r"""A name as it is written, then with its accents composed (Unicode's NFC) and decomposed (NFD).

    macOS decomposes the names of files. The same name typed into a list or into annotations is composed.

    Example:
        >>> [len(spelling) for spelling in spellings("caf\u00e9")], spellings("cafe")
        ([4, 5], ('cafe',))
    """
    if name.isascii():
        return (name,)
    return tuple(dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")))))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none that a person put there, by its name.

    Such are names that begin with a dot, as the "._a.npy" that macOS writes beside "a.npy" in archives, and
    the notes that file managers leave in folders.

    Example:
        >>> is_hidden("._a.npy"), is_hidden("Thumbs.db"), is_hidden("a.npy")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in ("thumbs.db", "desktop.ini")


def split_path(data_dir: str | os.PathLike, split: str) -> Path:
    """The file in a data set that lists a split's videos; ``split`` is "train" or "test"."""
    return Path(data_dir) / f"split_{split}.txt"


def read_names(path: str | os.PathLike) -> list[str]:
    """Reads video names, one a line; blank lines, CRLF and a byte order mark are allowed.

    Args:
        path: a UTF-8 text file.

    Returns:
        The names in file order, at least one.

    Raises:
        InputError: if the file is missing, unreadable or empty, a name repeats, or a name is not a plain file
            name (so that no path outside the data folder can be read).
    """
    lines = read_text(path, expected=_EXPECTED).splitlines()
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
        raise InputError(f"{path}: names no video; expected {_EXPECTED}")
    return list(names)
