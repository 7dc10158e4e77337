"""Videos with made-up detections and curves, for the page that plays them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from case_jax.localization.curves import Curves
from case_jax.report.video_page import PagedVideo

__all__ = ["CLASSES", "detection", "made_up_curves", "paged_video"]

CLASSES = ("Jump", "Run & <i>hide</i>", "Swim")
STEP = 0.4  # seconds of a snippet


def detection(label: str, start: float, end: float, score: float) -> dict:
    """An entry as detections are exported."""
    return {"label": label, "segment": [start, end], "score": score}


def made_up_curves(
    duration: float, *, clusters: bool = True, num_classes: int = len(CLASSES), seed: int = 0
) -> Curves:
    """Curves of random values at snippets of 0.4 s."""
    times = np.arange(0, duration - 1e-9, STEP)
    draw = np.random.default_rng(seed)
    attention, transformed = draw.uniform(size=(2, len(times)))
    return Curves(
        times,
        attention,
        transformed if clusters else None,
        (attention + transformed) / 2 if clusters else None,
        draw.uniform(size=(len(times), num_classes)),
    )


def paged_video(
    path: Path, detections: Sequence[dict], *, duration: float, name: str | None = None, **curves
) -> PagedVideo:
    """A video with detections, which are sorted, and made-up curves."""
    surest_first = sorted(detections, key=lambda entry: -entry["score"])
    return PagedVideo(name or path.stem, path, duration, surest_first, made_up_curves(duration, **curves))
