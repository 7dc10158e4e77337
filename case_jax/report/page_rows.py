"""Rows of the tables in `report.html`, some of whose cells have a bar behind their text."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from case_jax.evaluation.buckets import Bucket
from case_jax.evaluation.error_analysis import ERRORS, OUTCOMES, ErrorAnalysis
from case_jax.report.page_data import Cluster

__all__ = ["Bar", "Rows", "cluster_rows", "gain_rows", "missed_rows", "profile_rows"]

_RATIOS = (1, 2, 3, 5, 10)  # rows of the profile


class Bar(NamedTuple):
    """A cell with a bar behind its text."""

    text: str
    part: float  # length of the bar as a part of the cell's width, in [0, 1]


Rows = Sequence[Sequence[str | Bar]]  # the first row is the header


def profile_rows(errors: ErrorAnalysis) -> Rows:
    """Outcomes of the surest detections, in % of them; a row for each multiple of the ground truth's size."""
    rows: list[Sequence[str | Bar]] = [["surest", *OUTCOMES, "detections"]]
    for ratio in _RATIOS:
        counts = errors.profile[ratio - 1]
        total = int(counts.sum())
        parts = [float(count) / max(1, total) for count in counts]
        rows.append([f"{ratio} G", *(Bar(f"{100 * part:.1f}", part) for part in parts), f"{total:,}"])
    return rows


def gain_rows(errors: ErrorAnalysis) -> Rows:
    """By how many points mAP rises without each error; bars are relative to the largest gain."""
    highest = max(1e-9, float(errors.gain.max()), float(errors.average_gain.max()))
    rows: list[Sequence[str | Bar]] = [["error", f"at tIoU {errors.tiou:g}", "average over the tIoUs"]]
    for name, *gains in zip(ERRORS, errors.gain.tolist(), errors.average_gain.tolist()):
        rows.append([name, *(Bar(f"{100 * gain:.2f}", gain / highest) for gain in gains)])
    return rows


def missed_rows(errors: ErrorAnalysis) -> Rows:
    """Missed actions in %, a row for each bucket with actions, and one for all of them."""
    rows: list[Sequence[str | Bar]] = [["by", "of", "missed", "actions"]]
    for title, buckets, unit in (
        ("length", errors.by_length, " s"),
        ("share of the video", errors.by_coverage, ""),
        ("actions in the video", errors.by_num_instances, ""),
    ):
        rows += [_missed_row(title, bucket, unit) for bucket in buckets if bucket.instances]
    total, missed = errors.num_instances, errors.num_missed
    rows.append(["all", "", Bar(f"{100 * missed / total:.1f}", missed / total), f"{total:,}"])
    return rows


def _missed_row(title: str, bucket: Bucket, unit: str) -> Sequence[str | Bar]:
    bounds = [f"above {bucket.lower:g}"] if bucket.lower else []
    bounds += [f"up to {bucket.upper:g}"] if math.isfinite(bucket.upper) else []
    part = bucket.missed / bucket.instances
    return [
        f"{title}, {bucket.name}",
        ", ".join(bounds) + unit,
        Bar(f"{100 * part:.1f}", part),
        f"{bucket.instances:,}",
    ]


def cluster_rows(clusters: Sequence[Cluster]) -> Rows:
    """Clusters with their foreground, their soft share and its part in actions; no rows without clusters."""
    if not clusters:
        return []
    rows: list[Sequence[str | Bar]] = [["cluster", "foreground", "share (%)", "in actions (%)"]]
    largest = max(cluster.soft_share for cluster in clusters)
    for cluster in clusters:
        acting = cluster.in_action
        rows.append(
            [
                str(cluster.number),
                Bar(f"{cluster.foreground:.3f}", cluster.foreground),
                Bar(f"{100 * cluster.soft_share:.1f}", cluster.soft_share / largest),
                "–" if acting is None else Bar(f"{100 * acting:.1f}", acting),
            ]
        )
    return rows
