"""Files with one JSON object a line, each of a step: `metrics.jsonl` and `history.jsonl`."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from case_jax.data.files import write_text_atomically
from case_jax.errors import InputError

__all__ = ["read_rows", "write_rows"]


def read_rows(
    path: Path, *, what: str, key: str, kind: type, also: Mapping[str, Sequence[str]] | None = None
) -> list[dict[str, Any]]:
    """The rows of a file; none where there is no file.

    Args:
        path: the file.
        what: what a row describes, with its article, for messages.
        key: the field that every row has besides "step".
        kind: float for a finite number under ``key``; dict for finite numbers by name, the same names in
            every row.
        also: fields that a row may have besides, with the names of the finite numbers in each.

    Returns:
        The rows in file order; "step" is an int of 0 or more.

    Raises:
        InputError: if the file cannot be read, or a line is something else.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {what} on each line") from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = _row(line, key, kind, rows)
            _check_also(row, also or {})
            rows.append(row)
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError, AttributeError):
            raise InputError(
                f"{path}: line {number} is not {what}; expected a JSON object with 'step' and {key!r}"
            ) from None
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replaces a file as a whole, so that it never holds a torn line.

    Raises:
        InputError: if it cannot be written.
    """
    write_text_atomically(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def _row(line: bytes, key: str, kind: type, before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One row; any of several exceptions if the line is something else."""
    row = json.loads(line)
    row = {**row, "step": int(row["step"]), key: kind(row[key])}
    numbers = row[key] if kind is dict else {key: row[key]}
    if row["step"] < 0 or not all(map(math.isfinite, numbers.values())):
        raise ValueError
    if kind is dict and before and numbers.keys() != before[0][key].keys():
        raise ValueError
    return row


def _check_also(row: Mapping[str, Any], also: Mapping[str, Sequence[str]]) -> None:
    """Raises a ValueError or TypeError if one of the fields holds something else than its numbers."""
    for field, names in also.items():
        numbers = row.get(field, {name: 0.0 for name in names})
        if sorted(numbers) != sorted(names) or not all(map(math.isfinite, numbers.values())):
            raise ValueError
