"""mAP tables as aligned text."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from case_jax.evaluation.false_alarms import FalseAlarms
from case_jax.evaluation.mean_average_precision import DetectionMap, average_over

__all__ = [
    "alarm_rows",
    "alarm_table",
    "format_table",
    "map_rows",
    "map_table",
    "per_class_rows",
    "per_class_table",
    "seeds_table",
]

_RANGES = ((0.1, 0.5), (0.3, 0.7), (0.1, 0.7))


def format_table(rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,)) -> str:
    """Aligns rows of text, with a rule under the first row.

    Args:
        rows: rows of cells, all of the same length.
        left: positions of the columns that are aligned to the left; the others are aligned to the right.

    Example:
        >>> print(format_table([["run", "mAP"], ["last", "46.2"]]))
        run    mAP
        ----------
        last  46.2
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def map_table(results: Mapping[str, DetectionMap]) -> str:
    """`map_rows` as aligned text."""
    return format_table(map_rows(results))


def map_rows(results: Mapping[str, DetectionMap]) -> list[list[str]]:
    """Mean AP in % per tIoU, with the averages that papers report.

    Averages over 0.1:0.5, 0.3:0.7 and 0.1:0.7 are given if their thresholds were evaluated. If none of them
    was, there is one column with the average over all thresholds.

    Args:
        results: title -> `DetectionMap`, all at the same thresholds.

    Returns:
        A header and one row per result.
    """
    rows = [_map_header(next(iter(results.values())))]
    return rows + [[title, *_percent(_map_values(result))] for title, result in results.items()]


def seeds_table(
    seeds: Mapping[int, Mapping[str, DetectionMap]], together: Mapping[str, DetectionMap] | None = None
) -> str:
    """`map_rows` of several seeds, then mean and standard deviation over the seeds, as aligned text.

    Args:
        seeds: seed -> {"last ...": result, "best ...": result}, with the same order and thresholds for all
            seeds. Results whose titles have the same first word are averaged.
        together: title -> result of all seeds as one model; rows at the end.

    Returns:
        A table. The deviation is the sample standard deviation (n - 1), which is nan for one seed.
    """
    columns: dict[str, list[list[float]]] = {}
    rows = [_map_header(next(iter(next(iter(seeds.values())).values())))]
    for seed, results in seeds.items():
        for title, result in results.items():
            values = _map_values(result)
            rows.append([f"seed {seed}, {title}", *_percent(values)])
            columns.setdefault(title.split()[0], []).append(values)
    for name, of_seeds in columns.items():
        spread = np.std(of_seeds, axis=0, ddof=1) if len(of_seeds) > 1 else np.full(len(of_seeds[0]), np.nan)
        rows.append([f"{name}, mean of {len(of_seeds)} seeds", *_percent(np.mean(of_seeds, axis=0))])
        rows.append([f"{name}, standard deviation", *_percent(spread)])
    for title, result in (together or {}).items():
        rows.append([title, *_percent(_map_values(result))])
    return format_table(rows)


def _map_header(result: DetectionMap) -> list[str]:
    averages = [f"avg {a}:{b}" for a, b in _ranges(result)] or ["avg"]
    return ["mAP (%) at tIoU", *(f"{t:.4g}" for t in result.tiou), *averages]


def _map_values(result: DetectionMap) -> list[float]:
    averages = [average_over(result, *r) for r in _ranges(result)] or [result.average]
    return [*result.per_tiou.tolist(), *averages]


def _ranges(result: DetectionMap) -> list[tuple[float, float]]:
    return [r for r in _RANGES if average_over(result, *r) is not None]


def _percent(values: Iterable[float]) -> list[str]:
    return [f"{100 * value:.2f}" for value in values]


def alarm_rows(alarms: FalseAlarms) -> list[list[str]]:
    """False alarms per hour at each score, and the share of the actions found there: a header and S rows."""
    rows = [["from score", "false alarms per hour", f"actions found (%) at tIoU {alarms.tiou:g}"]]
    for score, per_hour, recall in zip(alarms.score, alarms.per_hour, alarms.recall):
        rows.append([f"{score:.4g}", f"{per_hour:.1f}", f"{100 * recall:.1f}"])
    return rows


def alarm_table(alarms: FalseAlarms) -> str:
    """`alarm_rows` as aligned text, with a line that says in which videos alarms were counted."""
    said = f"false alarms in {alarms.num_videos:,} videos without any action, {alarms.hours:.2f} hours:"
    if not alarms.score.size:
        return f"{said} none, as nothing was detected in any video"
    return f"{said}\n{format_table(alarm_rows(alarms))}"


def per_class_table(result: DetectionMap) -> str:
    """`per_class_rows` as aligned text."""
    return format_table(per_class_rows(result))


def per_class_rows(result: DetectionMap) -> list[list[str]]:
    """AP in % per class and tIoU, with each class's average: a header and one row per class."""
    rows = [["AP (%) at tIoU", *(f"{t:.4g}" for t in result.tiou), "avg"]]
    for name, values in zip(result.classes, result.per_class):
        rows.append([name, *(f"{100 * v:.2f}" for v in (*values, values.mean()))])
    return rows
