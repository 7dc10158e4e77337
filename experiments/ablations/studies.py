"""Studies of questions that the paper leaves open and that its users ask."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.ablations.comparison import Cell, Claim, Column, Comparison, Row
from experiments.ablations.diagnosis import diagnose
from experiments.ablations.drawing import spread_curves
from experiments.ablations.item import Item
from experiments.ablations.runs import Laboratory
from experiments.ablations.tables import MapRow, average_column, averages, compare, notes
from experiments.ablations.variants import (
    BASELINE,
    EPSILONS,
    FULL,
    ITERATIONS,
    MIXED,
    NO_PRIOR,
    PLUS,
    SETTLED,
    SETTLED_ATTENTION,
    SETTLED_BASELINE,
    SIGMAS,
    WITH_CCC,
    Variant,
)

__all__ = ["STUDIES"]


# The prior of Eq. (11)


def _prior(lab: Laboratory) -> Item:
    """Does the prior of Eq. (11) help, how narrow must it be, and does the published sorting matter?"""
    ranked = {
        sigma: Variant(f"sigma = {sigma:g}", {"sigma": sigma, "prior_rank": "true"}) for sigma in SIGMAS
    }
    sorting = {
        sigma: Variant(f"sigma = {sigma:g}, permutation", {"sigma": sigma, "prior_rank": "permutation"})
        for sigma in (0.1, 10.0)
    }
    return Item(_prior_table(lab, ranked, sorting), _prior_figure(lab, ranked, sorting))


def _prior_table(
    lab: Laboratory, ranked: Mapping[float, Variant], sorting: Mapping[float, Variant]
) -> Comparison:
    """All priors with their log-range, mAP and metrics of training."""
    variants = [NO_PRIOR._replace(name="no prior, Eq. (10)"), *ranked.values(), *sorting.values()]
    log_ranges = [0.0, *(1 / (2 * sigma**2) for sigma in (*ranked, *sorting))]
    table = compare(
        lab,
        "Study: the prior of Eq. (11)",
        [MapRow(variant, variant.name) for variant in variants],
        extra_notes=(
            "log-range: natural logarithm of the prior's largest value over its smallest one, "
            "1 / (2 sigma^2); at the published sigma = 10 it is 0.005: the prior is flat.",
            "permutation: what the published code computes where Eq. (11) says rank.",
            _METRICS,
        ),
    )
    table = _with_metrics(
        lab, table, variants, ("entropy_snippets", "entropy_clusters", "foreground_clusters")
    )
    return table._replace(
        columns=(Column("log-range", 3), *table.columns),
        rows=tuple(
            row._replace(cells=(Cell((log_range,)), *row.cells))
            for row, log_range in zip(table.rows, log_ranges)
        ),
    )


def _prior_figure(
    lab: Laboratory, ranked: Mapping[float, Variant], sorting: Mapping[float, Variant]
) -> Figure:
    """Average mAP over the prior's width."""
    curves = {
        name: (list(group), np.array([averages(lab, variant) for variant in group.values()]).T)
        for name, group in (("true rank", ranked), ("sorting permutation", sorting))
    }
    lines = {
        "no prior, Eq. (10)": float(np.mean(averages(lab, NO_PRIOR))),
        "baseline": float(np.mean(averages(lab, BASELINE))),
    }
    return spread_curves(
        curves,
        lines=lines,
        xlabel="sigma of Eq. (11), in units of rank / N",
        ylabel=f"average mAP (%), {lab.data_name}",
        title="width of the prior",
        log_base=10,
    )


# Sinkhorn's settings


def _sinkhorn(lab: Laboratory) -> Item:
    """Which epsilon, how many iterations, and how far from its marginal is the plan then?"""
    config = lab.base.config
    variants = [Variant(f"epsilon = {epsilon:g}", {"epsilon": epsilon}) for epsilon in EPSILONS]
    variants += [Variant(f"iterations = {count}", {"sinkhorn_iters": count}) for count in ITERATIONS]
    rows = [MapRow(variant, variant.name) for variant in variants]
    extra = (
        f"epsilon with {config.sinkhorn_iters} iterations; iterations with epsilon = {config.epsilon:g}.",
        "epsilon divides the logits, as in Algorithm 1; Eq. (10) writes its inverse (published: 2).",
        "marginal error: sum over clusters of |share of the snippets - 1/K|, between 0 and 2.",
        _METRICS,
    )
    table = compare(lab, "Study: epsilon and iterations of Sinkhorn", rows, extra_notes=extra)
    metrics = ("marginal_error", "entropy_snippets", "entropy_clusters")
    return Item(_with_metrics(lab, table, variants, metrics))


# The choice of the checkpoint


def _selection(lab: Laboratory) -> Item:
    """How much does it matter which checkpoint is chosen on the test set, and which seed is used?"""
    lab.train([BASELINE, FULL])
    columns = [Column(f"seed {seed}") for seed in lab.seeds]
    columns += [Column("mean"), Column("lowest"), Column("highest")]
    rows, values = [], {}
    for variant in (BASELINE, FULL):
        for which in ("last", "best"):
            found = values[variant.name, which] = averages(lab, variant, which)
            summary = (found, (min(found),), (max(found),))
            cells = (*(Cell((value,)) for value in found), *map(Cell, summary))
            rows.append(Row(f"{variant.name}, {which}", cells))
    claims = [
        _difference(f"{name}, best above last", values[name, "best"], values[name, "last"])
        for name in (BASELINE.name, FULL.name)
    ]
    claims += [
        _difference(
            f"{FULL.name} above {BASELINE.name}, {which}",
            values[FULL.name, which],
            values[BASELINE.name, which],
        )
        for which in ("last", "best")
    ]
    title = f"Study: last or best checkpoint, and seeds ({average_column(lab)})"
    return Item(Comparison(title, tuple(columns), tuple(rows), notes(lab), tuple(claims)))


def _difference(text: str, higher: Sequence[float], lower: Sequence[float]) -> Claim:
    return Claim(text, tuple(np.subtract(higher, lower).tolist()))


# Beyond the paper

_PLUS_ROWS = (
    MapRow(BASELINE, "baseline"),
    MapRow(SETTLED_BASELINE, SETTLED_BASELINE.name),
    MapRow(FULL, "CASE: P^M at test time"),
    MapRow(WITH_CCC, "CASE: P^A at test time"),
    MapRow(SETTLED, "CASE, settled: P^A at test time"),
    MapRow(SETTLED_ATTENTION, SETTLED_ATTENTION.name),
    MapRow(PLUS, PLUS.name),
    MapRow(MIXED, MIXED.name),
)
_DIAGNOSED = {  # what `diagnose` returns -> its column
    "AUC P^A": Column("AUC P^A", 1),
    "AUC P^T": Column("AUC P^T", 1),
    "purity": Column("purity (%)", 1),
    "called": Column("clusters called", 1),
    "are": Column("that are", 1),
    "true": Column("true (%)", 1),
}
Diagnoses = Sequence[Sequence[Mapping[str, float]]]  # of each row, of each seed


def _plus(lab: Laboratory) -> Item:
    """What do the settings beyond the paper gain, step by step, and what do they do to the foreground?"""
    table = compare(
        lab,
        "Study: beyond the paper",
        _PLUS_ROWS,
        ordered=[(1, 0), (4, 3), (5, 4), (6, 5), (6, 0), (6, 1), (6, 2), (7, 6)],
        extra_notes=(
            'Rows below "CASE, settled" add to it, one on the other, but for the last one, which stands in '
            "place of the row before; all from there on are tested with P^A.",
            "AUC: how well P^A (P^T) tells test snippets inside actions from those outside: 50 by chance, "
            "below that the wrong way round.",
            "marked: share of training snippets that L_A takes for foreground, at the end; true: share of "
            "test snippets inside actions.",
            "clusters: called foreground by Q^C, and those most of whose test snippets are; purity: share of "
            "test snippets that are of their cluster's more frequent kind.",
        ),
    )
    diagnoses = [[diagnose(lab, lab.state(row.variant, seed)) for seed in lab.seeds] for row in _PLUS_ROWS]
    return Item(_with_diagnoses(lab, table, diagnoses), _plus_figure(lab, diagnoses))


def _with_diagnoses(lab: Laboratory, table: Comparison, diagnoses: Diagnoses) -> Comparison:
    """Adds a column for each diagnosed quantity, and one for the snippets that L_A takes for foreground."""
    return table._replace(
        columns=(*table.columns, *_DIAGNOSED.values(), Column("marked (%)", 1)),
        rows=tuple(
            shown._replace(
                cells=(
                    *shown.cells,
                    *(_cell_of([found.get(name) for found in of_seeds]) for name in _DIAGNOSED),
                    Cell(tuple((100 * _last(lab, row.variant, "foreground_snippets")).tolist())),
                )
            )
            for shown, row, of_seeds in zip(table.rows, _PLUS_ROWS, diagnoses)
        ),
    )


def _plus_figure(lab: Laboratory, diagnoses: Diagnoses) -> Figure:
    """The share of snippets that the attention is taught to be foreground, over training."""
    curves = {
        name: lab.history(variant, "foreground_snippets")
        for name, variant in (("CASE", FULL), ("CASE, settled", SETTLED), ("CASE+", PLUS), ("P^M's", MIXED))
    }
    return spread_curves(
        curves,
        lines={"inside actions (test)": float(diagnoses[0][0]["true"]) / 100},
        xlabel="step",
        ylabel="share of snippets",
        title="what the attention is taught to be foreground",
        markers=False,
    )


def _cell_of(values: Sequence[float | None]) -> Cell | None:
    """A cell of one value per seed; None where a model has no such quantity."""
    known = tuple(value for value in values if value is not None)
    return Cell(known) if len(known) == len(values) else None


# Metrics of training

_METRICS = "H(Q^S), H(Q^C), foreground clusters (mean of Q^C) and marginal error: of training's last steps."
_METRIC_COLUMNS = {
    "entropy_snippets": Column("H(Q^S)", 2),
    "entropy_clusters": Column("H(Q^C)", 2),
    "foreground_clusters": Column("foreground clusters (%)", 1),
    "marginal_error": Column("marginal error", 4),
}


def _with_metrics(
    lab: Laboratory, table: Comparison, variants: Sequence[Variant], metrics: Sequence[str]
) -> Comparison:
    """Adds a column for each metric, as training measured it over its last steps."""

    def cell(variant: Variant, metric: str) -> Cell:
        last = _last(lab, variant, metric)
        return Cell(tuple((100 * last if metric == "foreground_clusters" else last).tolist()))

    return table._replace(
        columns=(*table.columns, *(_METRIC_COLUMNS[metric] for metric in metrics)),
        rows=tuple(
            row._replace(cells=(*row.cells, *(cell(variant, metric) for metric in metrics)))
            for row, variant in zip(table.rows, variants)
        ),
    )


def _last(lab: Laboratory, variant: Variant, metric: str) -> np.ndarray:
    """(seeds,) the metric over the last steps of training."""
    return lab.history(variant, metric)[1][:, -1]


STUDIES: Mapping[str, Callable[[Laboratory], Item]] = {
    "prior": _prior,
    "sinkhorn": _sinkhorn,
    "selection": _selection,
    "plus": _plus,
}
