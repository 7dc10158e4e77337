"""A small trained run as commands leave it, and what they wrote and printed."""

import json
from pathlib import Path
from typing import NamedTuple

__all__ = ["BASELINE", "SMALL", "Trained", "best_of", "metrics_of", "results_of", "table_of"]

# Flags of a training that takes seconds.
SMALL = "--num_snippets=32 --hidden_dim=16 --num_clusters=4 --batch_size=4 --eval_every=2 --noreport".split()
# Without clusters: the programs compile in half the time.
BASELINE = ["--noscc", "--noccc", "--noclustering_assisted_testing"]


class Trained(NamedTuple):
    """A finished run of six steps, evaluated at steps 2, 4 and 6."""

    flags: list[str]  # all but --workdir and --num_steps
    workdir: Path
    stdout: str


def metrics_of(workdir: Path) -> list[dict]:
    """The rows of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def best_of(rows: list[dict]) -> dict:
    """The row of the best evaluation."""
    return max(rows, key=lambda row: row["average"])


def results_of(path: Path) -> dict[str, list[dict]]:
    """The detections in a file of ActivityNet's form, by video."""
    return json.loads(path.read_text())["results"]


def table_of(stdout: str) -> list[str]:
    """The lines of the table of mAP; what a training says after it follows an empty line."""
    lines = stdout.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("mAP (%)")) :]
    return table[: table.index("")] if "" in table else table
