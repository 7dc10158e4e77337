"""Files that hold several arrays by name: which of them is meant where no name is given."""

import os
from collections.abc import Sequence

from case_jax.errors import InputError

__all__ = ["the_only"]

_SHOWN = 4  # names in messages


def the_only(path: str | os.PathLike, names: Sequence[str], what: str) -> str:
    """The name of the only array in a file.

    Args:
        path: the file, for the message.
        names: of all arrays in it.
        what: what the format calls an array, such as "data set".

    Raises:
        InputError: if there are several, or none.
    """
    if len(names) != 1:
        shown = ", ".join(map(repr, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "")
        found = f"{len(names)} {what}s" + (f" ({shown})" if names else "")
        raise InputError(
            f"{path}: holds {found}; expected one {what}, or one per stream under the stream's name"
        )
    return names[0]
