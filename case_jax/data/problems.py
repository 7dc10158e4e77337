"""What is wrong with several videos in one line, so that nobody mends one at each try."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from case_jax.errors import InputError

__all__ = ["Problems", "for_each"]

_SHOWN = 8

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Problems:
    """Errors of bad input, noted one after the other and raised together."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Notes an `InputError` of the body, and goes on behind it."""
        try:
            yield
        except InputError as error:
            self._messages.append(str(error))

    def refuse(self) -> None:
        """Raises what was noted.

        Raises:
            InputError: the first error, with the number of the others and what they are about.
        """
        if not self._messages:
            return
        first, *others = self._messages
        if not others:
            raise InputError(first)
        named = list(dict.fromkeys(message.partition(": ")[0] for message in others))
        shown = ", ".join(named[:_SHOWN]) + (", ..." if len(named) > _SHOWN else "")
        raise InputError(f"{first}; {len(others):,} more cannot be used: {shown}")


def for_each(call: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Calls a function for each item; if it refuses some, one error tells of all of them.

    Raises:
        InputError: as `Problems.refuse`.
    """
    problems, results = Problems(), []
    for item in items:
        with problems.noting():
            results.append(call(item))
    problems.refuse()
    return results
