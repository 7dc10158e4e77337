"""Tables 1 (the row of CASE) and 3 to 6 of the paper."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from case_jax.method.cost import count_macs, count_parameters
from experiments.ablations.comparison import Cell, Claim, Column, Comparison, Row
from experiments.ablations.runs import Evaluated, Laboratory, Which
from experiments.ablations.variants import (
    BASELINE,
    EQUIPARTITION,
    FULL,
    HARD,
    NO_PRIOR,
    OWN_HARD,
    OWN_PREDICTIONS,
    WITH_CCC,
    WITH_SCC,
    Variant,
)

__all__ = ["TABLES", "MapRow", "average_column", "averages", "claim", "compare", "notes", "seeds"]

_AVERAGE = "avg"
Shown = float | tuple[float, float]  # mAP at a tIoU, or its mean over a range in steps of 0.1


class MapRow(NamedTuple):
    """A row of a table of mAP."""

    variant: Variant
    title: str
    published: Mapping[Shown | str, float] = {}  # mAP in % on THUMOS14; "avg" is over 0.1:0.7


def _table_1(lab: Laboratory) -> Comparison:
    """Size, cost and quality of CASE."""
    config, widths = lab.base.config, lab.base.stream_widths
    state = lab.base.fresh_state()
    macs = count_macs(state.network, widths, config.num_snippets) / 1e9
    parameters = count_parameters(state.params) / 1e6
    size = (
        (Column("MACs (G)", 3), Cell((macs,), 1.60)),
        (Column("parameters (M)", 3), Cell((parameters,), 2.13)),
    )
    published = {0.1: 72.3, 0.3: 59.2, 0.5: 37.7, 0.7: 13.7, (0.1, 0.5): 57.1, _AVERAGE: 46.2}
    columns, rows = _map_columns(
        lab, [MapRow(FULL, "CASE (ours)", published)], (0.1, 0.3, 0.5, 0.7, (0.1, 0.5))
    )
    return Comparison(
        "Table 1: size, cost and quality of CASE",
        tuple(column for column, _ in size) + columns,
        tuple(Row(row.title, tuple(cell for _, cell in size) + row.cells) for row in rows),
        (
            f"MACs and parameters are counted from the traced program, for {config.num_snippets} snippets of "
            f"{' + '.join(map(str, widths.values()))} channels (published: 750 of 1024 + 1024).",
            *notes(lab),
        ),
    )


def _table_3(lab: Laboratory) -> Comparison:
    """Core components."""
    rows = [
        MapRow(BASELINE, "baseline", {0.3: 53.8, 0.5: 31.9, 0.7: 11.9, _AVERAGE: 42.1}),
        MapRow(WITH_SCC, "+ SCC", {0.3: 55.3, 0.5: 33.7, 0.7: 12.4, _AVERAGE: 43.2}),
        MapRow(WITH_CCC, "+ SCC + CCC", {0.3: 56.1, 0.5: 34.9, 0.7: 12.8, _AVERAGE: 43.9}),
        MapRow(FULL, "+ SCC + CCC (T)", {0.3: 59.2, 0.5: 37.7, 0.7: 13.7, _AVERAGE: 46.2}),
    ]
    return compare(
        lab,
        "Table 3: core components",
        rows,
        shown=(0.3, 0.5, 0.7),
        ordered=[(1, 0), (2, 1), (3, 2), (3, 0)],
        extra_notes=[
            "(T): with clustering-assisted testing; the same trained models, and the same best checkpoint, "
            "as the row above.",
        ],
    )


def _table_4(lab: Laboratory) -> Comparison:
    """Labels of snippets with and without optimal transport."""
    rows = [
        MapRow(OWN_PREDICTIONS, "without OT, soft", {_AVERAGE: 41.2}),
        MapRow(OWN_HARD, "without OT, hard", {_AVERAGE: 40.8}),
        MapRow(FULL, "with OT, soft", {_AVERAGE: 46.2}),
        MapRow(HARD, "with OT, hard", {_AVERAGE: 44.7}),
    ]
    entropies = dict(zip((row.title for row in rows), (2.77, 0.01, 2.76, 2.75)))
    table = compare(
        lab,
        "Table 4: labels of snippets with and without optimal transport",
        rows,
        ordered=[(2, 0), (2, 1), (2, 3), (3, 1)],
        extra_notes=[
            "H: entropy of the mean cluster assignment of the test snippets (mean of the streams' P^S), last "
            f"step; at most ln K = {np.log(lab.base.config.num_clusters):.2f}.",
            "Without OT, soft: labels are the model's own predictions; hard: one-hot of the labels.",
        ],
    )
    return table._replace(
        columns=(*table.columns, Column("H(mean P^S)", 2)),
        rows=tuple(
            row._replace(
                cells=(
                    *row.cells,
                    Cell(
                        tuple(result.assignment_entropy for result in lab.evaluated(spec.variant)),
                        entropies[row.title],
                    ),
                )
            )
            for row, spec in zip(table.rows, rows)
        ),
    )


def _table_5(lab: Laboratory) -> Comparison:
    """Techniques of SCC and CCC."""
    rows = [
        MapRow(FULL, "CASE", {_AVERAGE: 46.2}),
        MapRow(NO_PRIOR, "Eq. (10) in SCC (no prior)", {_AVERAGE: 45.4}),
        MapRow(EQUIPARTITION, "Eq. (9) in CCC (equipartition)", {_AVERAGE: 44.0}),
    ]
    return compare(lab, "Table 5: techniques of SCC and CCC", rows, ordered=[(0, 1), (0, 2)])


def _table_6(lab: Laboratory) -> Comparison:
    """Foreground probabilities at test time."""
    rows = [
        MapRow(WITH_CCC, "P^A (attention)", {_AVERAGE: 43.9}),
        MapRow(FULL._replace(foreground="transformed"), "P^T (clusters)", {_AVERAGE: 44.1}),
        MapRow(FULL, "P^M (both)", {_AVERAGE: 46.2}),
    ]
    return compare(
        lab,
        "Table 6: foreground probabilities at test time",
        rows,
        ordered=[(2, 0), (2, 1)],
        extra_notes=["All rows test the same trained models; best: the checkpoint that is best with P^M."],
    )


TABLES: Mapping[int, Callable[[Laboratory], Comparison]] = {
    1: _table_1,
    3: _table_3,
    4: _table_4,
    5: _table_5,
    6: _table_6,
}


def compare(
    lab: Laboratory,
    title: str,
    rows: Sequence[MapRow],
    *,
    shown: Sequence[Shown] = (),
    ordered: Sequence[tuple[int, int]] = (),
    extra_notes: Sequence[str] = (),
) -> Comparison:
    """A table of mAP in % over seeds; trains the variants that are missing.

    Args:
        lab: trains and evaluates the variants.
        title: title of the table.
        rows: rows of the table.
        shown: tIoU thresholds and ranges to show besides the average.
        ordered: pairs of positions in ``rows``, (higher, lower), whose order the paper reports.
        extra_notes: notes that come before those of every table.
    """
    lab.train([row.variant for row in rows])
    columns, table_rows = _map_columns(lab, rows, shown)
    return Comparison(
        title,
        columns,
        table_rows,
        (*extra_notes, *notes(lab)),
        tuple(claim(lab, rows[higher], rows[lower]) for higher, lower in ordered),
    )


def claim(lab: Laboratory, higher: MapRow, lower: MapRow) -> Claim:
    """Compares two rows whose order the paper reports, by their average mAP at the last step."""
    differences = np.subtract(averages(lab, higher.variant), averages(lab, lower.variant))
    values = [_published_average(lab, row) for row in (higher, lower)]
    published = None if None in values else values[0] - values[1]
    return Claim(f"{higher.title} above {lower.title}", tuple(differences.tolist()), published)


def averages(lab: Laboratory, variant: Variant, which: Which = "last") -> tuple[float, ...]:
    """Average mAP in % of a variant, one value per seed; trains the variant if needed."""
    return tuple(100 * result.average for result in lab.evaluated(variant, which))


def average_column(lab: Laboratory) -> str:
    """Title of the column of average mAP, with the range of its thresholds."""
    return f"avg {lab.base.tiou[0]:g}:{lab.base.tiou[-1]:g}"


def notes(lab: Laboratory) -> tuple[str, ...]:
    """The notes that every table needs: the data, the seeds, the step, and how to read published values."""
    config, split = lab.base.config, lab.dataset.test
    count = -(-config.num_steps // lab.base.eval_every)
    return (
        f"mAP in % on the test split of {lab.data_name}, {split.population}; {seeds(lab)}.",
        f"Step {config.num_steps:,} (the last); best: the step with the highest average mAP on the test "
        f"videos among {count} evaluations, as published results are chosen.",
        "Published values are of THUMOS14: to be compared in their order, not with these figures.",
    )


def seeds(lab: Laboratory) -> str:
    """The seeds that cells summarise, in words."""
    first, last = lab.seeds[0], lab.seeds[-1]
    return f"seed {first}" if first == last else f"seeds {first} to {last}, mean ± standard deviation"


def _map_columns(
    lab: Laboratory, rows: Sequence[MapRow], shown: Sequence[Shown]
) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """Columns of mAP: what of ``shown`` was evaluated, and the average at the last and at the best step."""
    tiou = lab.base.tiou
    evaluated = [what for what in shown if _thresholds(what) <= set(tiou)]
    evaluated = [what for what in evaluated if _thresholds(what) != set(tiou)]  # would repeat the average
    if shown and not evaluated:  # another benchmark's thresholds: show some of them
        evaluated = list(tiou[:: max(1, len(tiou) // 3)])
    titles = [f"avg {w[0]:g}:{w[1]:g}" if isinstance(w, tuple) else f"{w:g}" for w in evaluated]

    def cells(row: MapRow) -> tuple[Cell, ...]:
        results = lab.evaluated(row.variant)
        values = [
            Cell(tuple(_mean_map(result, what) for result in results), row.published.get(what))
            for what in evaluated
        ]
        average = Cell(averages(lab, row.variant), _published_average(lab, row))
        return (*values, average, Cell(averages(lab, row.variant, "best")))

    columns = (*map(Column, titles), Column(average_column(lab)), Column("best avg"))
    return columns, tuple(Row(row.title, cells(row)) for row in rows)


def _published_average(lab: Laboratory, row: MapRow) -> float | None:
    """The paper's value over the thresholds that are averaged here; None if it has none."""
    for what, value in row.published.items():
        over = (0.1, 0.7) if what == _AVERAGE else what
        if not isinstance(over, float) and _thresholds(over) == set(lab.base.tiou):
            return value
    return None


def _thresholds(what: Shown) -> set[float]:
    """The thresholds of a single tIoU, or of a range in steps of 0.1."""
    if isinstance(what, float):
        return {what}
    return {i / 10 for i in range(round(10 * what[0]), round(10 * what[1]) + 1)}


def _mean_map(result: Evaluated, what: Shown) -> float:
    wanted = _thresholds(what)
    return 100 * float(np.mean([value for tiou, value in zip(result.tiou, result.map) if tiou in wanted]))
