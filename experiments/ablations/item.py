"""One table or figure, as it is printed and written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from case_jax.report.figures import save_figure
from experiments.ablations.comparison import Comparison, as_text, write_table

__all__ = ["Item", "write"]


class Item(NamedTuple):
    """A table, and the figure that belongs to it."""

    table: Comparison
    figure: Figure | None = None
    data: Mapping[str, Any] | None = None  # what the figure draws, where the table does not hold all of it


def write(item: Item, stem: Path) -> tuple[str, list[Path]]:
    """Writes ``stem``.md, .csv and .json of the table, .png and .svg of the figure.

    Args:
        item: what to write.
        stem: path without suffix.

    Returns:
        The table as text, and the paths.

    Raises:
        InputError: if the folder cannot be written to.
    """
    paths = write_table(item.table, stem, data=item.data)
    if item.figure is not None:
        paths += save_figure(item.figure, stem)
    return as_text(item.table), paths
