"""Tables that compare rows over seeds, beside published values: as text, Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from case_jax.data.files import write_text_atomically

__all__ = ["Cell", "Claim", "Column", "Comparison", "Row", "as_csv", "as_markdown", "as_text", "write_table"]

_PUBLISHED = "published on THUMOS14"


class Column(NamedTuple):
    """A column of a table."""

    title: str
    digits: int = 1  # after the point, in text and Markdown


class Cell(NamedTuple):
    """A quantity: one value per seed, or a single one that does not depend on seeds."""

    values: tuple[float, ...]
    published: float | None = None  # the paper's value, on THUMOS14

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over seeds (n - 1); None of a single value."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


class Row(NamedTuple):
    """One row."""

    title: str
    cells: tuple[Cell | None, ...]  # one per column; None where there is no such quantity


class Claim(NamedTuple):
    """An order of two rows that the paper reports, and the differences found: higher minus lower row."""

    text: str
    differences: tuple[float, ...]  # one per seed
    published: float | None = None  # the same difference in the paper, on THUMOS14

    @property
    def verdict(self) -> str:
        """Whether the order is seen; "within the spread" if the mean difference is below its deviation."""
        mean = float(np.mean(self.differences))
        seen = "seen" if mean > 0 else "not seen"
        spread = Cell(self.differences).spread
        return f"{seen}, within the spread" if spread is not None and abs(mean) < spread else seen

    def __str__(self) -> str:
        """The claim and its verdict in one line.

        Example:
            >>> print(Claim("A above B", (1.0, 2.0, -0.5), published=1.1))
            A above B: seen, within the spread: +0.83 ± 1.26, in 2 of 3 seeds (published +1.1)
        """
        found = _number(Cell(self.differences), Column("", 2), signed=True)
        seeds = f"in {sum(d > 0 for d in self.differences)} of {len(self.differences)} seeds"
        published = "" if self.published is None else f" (published {self.published:+.1f})"
        return f"{self.text}: {self.verdict}: {found}, {seeds}{published}"


class Comparison(NamedTuple):
    """A table that compares rows."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()

    @property
    def with_published(self) -> list[int]:
        """Positions of the columns for which the paper has a value."""
        cells = zip(*(row.cells for row in self.rows))
        return [
            i
            for i, column in enumerate(cells)
            if any(c is not None and c.published is not None for c in column)
        ]

    def texts(self) -> list[list[str]]:
        """The header and the rows as text; published values are in columns of their own, at the end."""
        published = self.with_published
        header = ["", *(column.title for column in self.columns)]
        header += [f"{_PUBLISHED}: {self.columns[i].title}" for i in published]
        texts = [header]
        for row in self.rows:
            measured = [_number(cell, column) for cell, column in zip(row.cells, self.columns)]
            texts.append(
                [row.title, *measured, *(_published(row.cells[i], self.columns[i]) for i in published)]
            )
        return texts

    @property
    def lines(self) -> list[str]:
        """The notes and claims, one per line."""
        found = (
            ["Orderings of average mAP at the last step, the higher minus the lower of each seed:"]
            if self.claims
            else []
        )
        return [*self.notes, *found, *(f"- {claim}" for claim in self.claims)]

    def as_json(self) -> dict[str, Any]:
        """The table as JSON, with the values of every seed."""

        def cell(cell: Cell | None) -> dict[str, Any] | None:
            if cell is None:
                return None
            return {
                "mean": cell.mean,
                "standard_deviation": cell.spread,
                "values": list(cell.values),
                "published_on_thumos14": cell.published,
            }

        return {
            "title": self.title,
            "notes": list(self.notes),
            "rows": [
                {"title": row.title}
                | {column.title: cell(value) for column, value in zip(self.columns, row.cells)}
                for row in self.rows
            ],
            "claims": [
                {
                    "text": claim.text,
                    "verdict": claim.verdict,
                    "differences": list(claim.differences),
                    "published_on_thumos14": claim.published,
                }
                for claim in self.claims
            ],
        }


def as_text(table: Comparison) -> str:
    """The table as aligned text; a long title takes several lines of the header.

    Example:
        >>> rows = (Row("CASE", (Cell((45.0, 47.0), published=46.2),)),)
        >>> print(as_text(Comparison("Table 0", (Column("avg"),), rows)))
        Table 0
        <BLANKLINE>
                          published
                                 on
                           THUMOS14
                     avg        avg
        ---------------------------
        CASE  46.0 ± 1.4       46.2
    """
    header, *rows = table.texts()
    headers = [_stack(title) for title in header]
    height = max(map(len, headers))
    headers = [[""] * (height - len(lines)) + lines for lines in headers]
    widths = [max(map(len, [*lines, *(row[i] for row in rows)])) for i, lines in enumerate(headers)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths)))
        return "  ".join([first, *others]).rstrip()

    top = [line([lines[i] for lines in headers]) for i in range(height)]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    text = [table.title, "", *top, rule, *map(line, rows)]
    return "\n".join([*text, "", *table.lines] if table.lines else text)


def as_markdown(table: Comparison) -> str:
    """The table as a section of Markdown."""
    header, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table.texts()]
    lines = [f"## {table.title}", "", *("| " + " | ".join(row) + " |" for row in (header, *rows))]
    lines.insert(3, "|" + " --- |" + " ---: |" * (len(header) - 1))
    body = "\n".join(lines)
    return f"{body}\n\n" + "".join(
        f"{line}\n" if line.startswith("- ") else f"{line}\n\n" for line in table.lines
    )


def as_csv(table: Comparison) -> str:
    """The table as CSV: mean, standard deviation and published value of every column, with all digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    kinds = ("mean", "standard deviation", _PUBLISHED)
    writer.writerow(["row", *(f"{column.title}: {kind}" for column in table.columns for kind in kinds)])
    for row in table.rows:
        cells = [(None,) * 3 if c is None else (c.mean, c.spread, c.published) for c in row.cells]
        writer.writerow([row.title, *("" if v is None else repr(v) for cell in cells for v in cell)])
    return buffer.getvalue()


def write_table(table: Comparison, stem: Path, *, data: Mapping[str, Any] | None = None) -> list[Path]:
    """Writes ``stem``.md, .csv and .json.

    Args:
        table: the table.
        stem: path without suffix.
        data: more content of the JSON file, under "data".

    Returns:
        Their paths.

    Raises:
        InputError: if the folder cannot be written to.
    """
    texts = {
        ".md": as_markdown(table),
        ".csv": as_csv(table),
        ".json": json.dumps(table.as_json() | ({} if data is None else {"data": data}), indent=1) + "\n",
    }
    paths = []
    for suffix, text in texts.items():
        paths.append(stem.with_name(stem.name + suffix))
        write_text_atomically(paths[-1], text)
    return paths


def _number(cell: Cell | None, column: Column, *, signed: bool = False) -> str:
    if cell is None:
        return ""
    sign = "+" if signed else ""
    mean = f"{cell.mean:{sign}.{column.digits}f}"
    return mean if cell.spread is None else f"{mean} ± {cell.spread:.{column.digits}f}"


def _published(cell: Cell | None, column: Column) -> str:
    if cell is None or cell.published is None:
        return ""
    # As many digits as the column has, or as the paper prints if that is more.
    digits = max(column.digits, len(f"{cell.published:g}".partition(".")[2]))
    return f"{cell.published:.{digits}f}"


def _stack(title: str) -> list[str]:
    """A column's title as lines; the prefix of published values has one line per word."""
    published, colon, title = title.rpartition(": ")
    return [*published.split(), title] if colon else [title]
