"""mAP tables as aligned text."""

from collections.abc import Mapping, Sequence

from case_jax.localization.detection_map import DetectionMap, average_over

__all__ = ["format_table", "map_rows", "map_table", "per_class_rows", "per_class_table"]

_RANGES = ((0.1, 0.5), (0.3, 0.7), (0.1, 0.7))


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Aligns rows of text: the first column to the left, the others to the right; a rule under row 0.

    Example:
        >>> print(format_table([["run", "mAP"], ["last", "46.2"]]))
        run    mAP
        ----------
        last  46.2
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def map_table(results: Mapping[str, DetectionMap]) -> str:
    """`map_rows` as aligned text."""
    return format_table(map_rows(results))


def map_rows(results: Mapping[str, DetectionMap]) -> list[list[str]]:
    """Mean AP in % per tIoU and the averages the field reports, one row per result after a header.

    Averages over 0.1:0.5, 0.3:0.7 and 0.1:0.7 stand where their thresholds were evaluated; over other
    thresholds there is one column of their average.

    Args:
        results: row title -> `DetectionMap`, all over the same thresholds.
    """
    first = next(iter(results.values()))
    ranges = [r for r in _RANGES if average_over(first, *r) is not None]
    header = ["mAP (%) at tIoU", *(f"{t:.4g}" for t in first.tiou)]
    header += [f"avg {a}:{b}" for a, b in ranges] or ["avg"]
    rows = [header]
    for title, result in results.items():
        averages = [average_over(result, *r) for r in ranges] or [result.average]
        rows.append([title, *(f"{100 * v:.2f}" for v in (*result.per_tiou, *averages))])
    return rows


def per_class_table(result: DetectionMap) -> str:
    """`per_class_rows` as aligned text."""
    return format_table(per_class_rows(result))


def per_class_rows(result: DetectionMap) -> list[list[str]]:
    """AP in % per class and tIoU after a header, with each class's average."""
    rows = [["AP (%) at tIoU", *(f"{t:.4g}" for t in result.tiou), "avg"]]
    for name, values in zip(result.classes, result.per_class):
        rows.append([name, *(f"{100 * v:.2f}" for v in (*values, values.mean()))])
    return rows
