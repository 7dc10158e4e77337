"""What a folder is that was given as a run's but holds no run itself."""

import os
from pathlib import Path

__all__ = ["explain_place"]

_CONFIG = "config.json"
_ABOVE = 4  # how far above a folder its run may be: checkpoints/50/default/d is inside of a run


def explain_place(path: str | os.PathLike) -> str | None:
    """Says what a folder without `config.json` is, and which one was probably meant.

    Args:
        path: was given as the workdir of a run.

    Returns:
        A message of one line; None if the path has nothing to do with a run.
    """
    path = Path(path)
    if not os.path.exists(path):
        return None
    for run in list(dict.fromkeys((*path.parents, *path.absolute().parents)))[: 2 * _ABOVE]:
        if os.path.isfile(run / _CONFIG) and os.path.isdir(run / "checkpoints"):
            return f"{path}: is a part of a run; expected the run's folder, {run}"
    if not os.path.isdir(path):
        return None
    try:
        runs = sorted(inside.name for inside in path.iterdir() if os.path.isfile(inside / _CONFIG))
    except OSError:  # may not be read, as whoever reads config.json says
        return None
    if not runs:
        return None
    numbers = [int(name.removeprefix("seed_")) for name in runs if name.removeprefix("seed_").isdecimal()]
    of_seeds = len(numbers) == len(runs) and all(name.startswith("seed_") for name in runs)
    if of_seeds:
        runs = [f"seed_{number}" for number in sorted(numbers)]
    shown = ", ".join(runs[:4]) + (", ..." if len(runs) > 4 else "")
    count = f"runs of {len(runs):,} seeds" if of_seeds else f"{len(runs):,} runs"
    return f"{path}: holds {count} ({shown}); expected one of them, such as {path / runs[0]}"
