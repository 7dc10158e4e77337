"""Names and labels that nearly agree: a person reads them as one, the code reads them as two."""

import re
import unicodedata
from collections.abc import Callable, Iterable

__all__ = ["did_you_mean", "fold_label", "fold_name"]

# An ending that a file of features or a video may have: a dot and two to five letters or digits.
_ENDING = re.compile(r"\.[a-z][a-z0-9]{1,4}$")
_SEPARATORS = re.compile(r"[\s_\-]+")


def fold_label(label: str) -> str:
    """A label without what people write in different ways: case, spaces, hyphens, forms of accents.

    Two labels nearly agree if they differ and their folded texts do not.

    Example:
        >>> fold_label("High Jump") == fold_label("high_jump") == fold_label("HighJump")
        True
    """
    return _SEPARATORS.sub("", unicodedata.normalize("NFKC", label).casefold())


def fold_name(name: str) -> str:
    """A video's name folded as `fold_label` does, without the prefix "v_" and without a file's ending.

    Example:
        >>> fold_name("v_Abc-1.mp4") == fold_name("abc 1")
        True
    """
    return fold_label(_ENDING.sub("", name.strip().casefold()).removeprefix("v_"))


def did_you_mean(text: str, known: Iterable[str], fold: Callable[[str], str] = fold_name) -> str:
    """The part of a message that names the known name or label which nearly agrees with a text.

    Args:
        text: what was not found.
        known: what could have been meant.
        fold: `fold_name` or `fold_label`.

    Returns:
        For example " (did you mean 'v_abc'?)"; "" if nothing nearly agrees.
    """
    folded = fold(text)
    near = next((other for other in known if fold(other) == folded), None)
    return "" if near is None else f" (did you mean {near!r}?)"
