"""Numbers of things, and lists of names, as sentences say them."""

from collections.abc import Sequence

__all__ = ["counted", "listed", "plural"]


def plural(noun: str, count: int) -> str:
    """A noun for so many things.

    Example:
        >>> plural("class", 1), plural("class", 2), plural("video", 0)
        ('class', 'classes', 'videos')
    """
    return noun if count == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    Example:
        >>> counted(1, "video"), counted(1234, "video")
        ('1 video', '1,234 videos')
    """
    return f"{count:,} {plural(noun, count)}"


def listed(names: Sequence[str], last: str) -> str:
    """Names in a row, with a word before the last.

    Example:
        >>> listed([".npy", ".csv", "HDF5"], "or"), listed([".npy"], "or")
        ('.npy, .csv or HDF5', '.npy')
    """
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
