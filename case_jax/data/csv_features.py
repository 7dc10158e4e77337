"""Features in .csv files: a row of numbers per snippet, as people and as pandas write them."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from case_jax.data.files import one_line, refuse_pipes
from case_jax.errors import InputError

__all__ = ["EXPECTED", "read_csv"]

EXPECTED = "expected a .csv file with a row of numbers per snippet"


def read_csv(path: Path) -> np.ndarray:
    """Reads rows of numbers.

    The first line may be one of names: without any number, or with the numbers of the columns, 0 to D - 1, as
    pandas writes them. Where its first cell is empty, the first column holds the rows' names, which are left
    out.

    Args:
        path: a UTF-8 text file.

    Returns:
        (T_v, D) float32 array; its values are not checked.

    Raises:
        InputError: if the file is missing, unreadable, or holds anything but such rows.
    """
    refuse_pipes(path, expected=EXPECTED)
    try:
        with open(path, encoding="utf-8-sig") as file:
            first, second = (file.readline().split(",") for _ in range(2))
            unnamed = len(first) > 1 and first[0].strip() in ("", '""')
            names_rows = unnamed and (_is_text(first[1:]) or _counts(first[1:], 0))
            header = names_rows or _is_header(first, second)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy warns of an empty file, which is refused below
                features = np.loadtxt(
                    file,
                    np.float32,
                    delimiter=",",
                    skiprows=int(header),
                    ndmin=2,
                    comments=None,
                    converters={0: lambda name: 0.0} if names_rows else None,
                )
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {EXPECTED}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {EXPECTED}") from None
    if names_rows:
        features = np.ascontiguousarray(features[:, 1:])
    if 0 in features.shape:
        raise InputError(f"{path}: holds no numbers; {EXPECTED}")
    return features


def _is_header(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether the first line names the columns: by text, or by 0, 1, ... as pandas does.

    A line that counts is a snippet if it is the only one, or if the second line counts on. One or two columns
    of whole numbers may begin with 0 or 0, 1 by chance, and are snippets, too.
    """
    if _is_text(first):
        return True
    width = len(first)
    cells = [cell.strip() for cell in second]
    if not _counts(first, 0) or not any(cells) or _counts(second, width):
        return False
    return width > 2 or not all(cell.isdigit() for cell in cells)


def _is_text(line: Sequence[str]) -> bool:
    return not any(map(_is_numeric, line))


def _counts(line: Sequence[str], begin: int) -> bool:
    return [cell.strip() for cell in line] == [str(begin + column) for column in range(len(line))]


def _is_numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
