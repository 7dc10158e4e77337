"""What a run keeps: which checkpoint besides the latest, and of several seeds which seed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from case_jax.evaluation.health import Health
from case_jax.runs.settings import Keep

__all__ = ["health_of", "quality_of"]


def quality_of(keep: Keep, row: Mapping[str, Any]) -> float:
    """By what a checkpoint is kept: average mAP, or the agreement of `Health`.

    Args:
        keep: what the run keeps.
        row: its evaluation, of `metrics.jsonl`; without a health it is the worst of all by health.
    """
    if keep == "best":
        return row["average"]
    return row["health"]["agreement"] if "health" in row else -math.inf


def health_of(rows: Sequence[Mapping[str, Any]], keep: Keep, which: Literal["best", "last"]) -> Health | None:
    """The health of a checkpoint.

    Args:
        rows: the run's evaluations, of `metrics.jsonl`.
        keep: what the run keeps.
        which: the checkpoint it keeps ("best"), or the last one.

    Returns:
        `Health`; None where it was not measured, as in runs of earlier versions.
    """
    if not rows:
        return None
    row = rows[-1] if which == "last" else max(rows, key=lambda row: quality_of(keep, row))
    return Health(**row["health"]) if "health" in row else None
