"""Writes generated features in the size and form of ActivityNet's to disk. They show no real video."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from case_jax.data.files import write_text_atomically

__all__ = ["write_activitynet_shape"]

_SECONDS_PER_SNIPPET = 16 / 25
_NOISE = 4096  # rows of noise; every video takes a part of them


def write_activitynet_shape(
    folder: Path,
    *,
    num_train: int = 10_024,
    num_test: int = 4_926,
    num_classes: int = 200,
    width: int = 1024,
    seed: int = 0,
    progress: Callable[[Iterator], Iterator] = iter,
) -> None:
    """Writes annotations in the official form, and rgb and flow features as float16 .npy files.

    Videos last 5 to 235 s (117 s on average) and have one to three actions of one class, of any length.
    Features are noise; during an action the direction of its class is added to them.

    Args:
        folder: is made if needed. Files that exist are kept, so an interrupted call can be repeated.
        num_train: videos of the subset "training".
        num_test: videos of the subset "validation".
        num_classes: G.
        width: channels of each stream.
        seed: determines everything that is generated.
        progress: wraps the iteration over video numbers, for example to show a bar.
    """
    rng = np.random.default_rng(seed)
    streams = ("rgb", "flow")
    directions = {s: rng.standard_normal((num_classes, width)).astype(np.float16) for s in streams}
    noise = {s: rng.standard_normal((_NOISE, width)).astype(np.float16) for s in streams}
    for stream in streams:
        (folder / "features" / stream).mkdir(parents=True, exist_ok=True)
    database = {}
    for number in progress(iter(range(num_train + num_test))):
        rng = np.random.default_rng((seed, number))
        name, label = f"{number:011d}", number % num_classes
        duration = float(np.clip(rng.normal(117, 60), 5, 235))
        segments = _segments(rng, duration)
        length = max(1, int(duration / _SECONDS_PER_SNIPPET))
        middles = (np.arange(length) + 0.5) * _SECONDS_PER_SNIPPET
        acting = np.any([(a <= middles) & (middles < b) for a, b in segments], axis=0)
        begin = int(rng.integers(_NOISE))
        for stream in streams:
            path = folder / "features" / stream / f"v_{name}.npy"
            if path.exists():
                continue
            rows = np.take(noise[stream], range(begin, begin + length), axis=0, mode="wrap")
            rows[acting] += directions[stream][label]
            beside = path.with_suffix(".part")
            with open(beside, "wb") as file:
                np.save(file, rows)
            beside.replace(path)
        database[name] = {
            "subset": "training" if number < num_train else "validation",
            "duration": round(duration, 2),
            "annotations": [{"label": f"Action {label + 1:03d}", "segment": s} for s in segments],
        }
    write_text_atomically(
        folder / "activity_net.json", json.dumps({"version": "generated", "database": database})
    )


def _segments(rng: np.random.Generator, duration: float) -> list[list[float]]:
    """One to three actions that do not overlap, as [start, end] in seconds."""
    count = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
    bounds = np.sort(rng.uniform(0, duration, 2 * count)).round(2)
    return bounds.reshape(count, 2).tolist()
