"""Stands for a laboratory whose variants are trained: results are made up."""

import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from case_jax.data.dataset import Annotation, Split, Video
from experiments.ablations.runs import Evaluated
from experiments.ablations.variants import Variant

__all__ = ["made_up_laboratory"]


def made_up_laboratory(
    tiou: Sequence[float], quality: Mapping[tuple[str, str], Sequence[float]] | None = None, **parts: Any
) -> types.SimpleNamespace:
    """A laboratory of two seeds on one test video.

    Args:
        tiou: thresholds of mAP.
        quality: (variant's name, its foreground) -> average mAP of each seed; default 0.2 and 0.3. The best
            checkpoint has 0.01 more than the last one.
        **parts: further attributes.
    """
    video = Video("v", {"acc": np.zeros((3, 2))}, (Annotation("Jump", 0.0, 1.0),))
    trained: list[str] = []

    def evaluated(variant: Variant, which: str = "last") -> list[Evaluated]:
        extra = 0.01 if which == "best" else 0.0
        averages = (quality or {}).get((variant.name, variant.foreground), (0.2, 0.3))
        return [Evaluated(5, tiou, tuple(a + extra for _ in tiou), a + extra, 1.5) for a in averages]

    def history(variant: Variant, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Values that tell the metric, the step and the seed."""
        base = len(metric) / 100
        return np.array([1, 3, 5]), np.array([[base, base + 0.1, base + 0.2], [base, base + 0.3, base + 0.4]])

    fields = {
        "base": types.SimpleNamespace(
            tiou=tiou,
            config=types.SimpleNamespace(
                num_steps=5, num_clusters=4, sigma=10.0, epsilon=0.5, sinkhorn_iters=3
            ),
            eval_every=2,
        ),
        "dataset": types.SimpleNamespace(test=Split("test", (video,), left_out={"without features": 2})),
        "data_name": "made up",
        "seeds": (0, 1),
        "trained": trained,
        "train": lambda variants: trained.extend(variant.name for variant in variants),
        "evaluated": evaluated,
        "history": history,
    }
    return types.SimpleNamespace(**(fields | parts))
