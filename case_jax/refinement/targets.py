"""What the second stage learns from: proposals of training videos, and what their own labels say of them.

Two things are known of a proposal. If its video is not labelled with a class, the proposal does not show it:
that is certain, for every class that the video lacks. If the video is labelled with a class, the first
stage's surest detections of it stand in for the truth, and its mistakes stay within the labels of a video.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from case_jax.config import CaseConfig
from case_jax.localization.detect import localize_video
from case_jax.localization.detections import Detections
from case_jax.localization.rescoring import PartMeans, extras
from case_jax.localization.tiou import tiou
from case_jax.refinement.settings import RefinementConfig

__all__ = ["Examples", "PseudoInstances", "distinct", "examples_of", "pseudo_instances", "raw_detections"]

_SAME = 0.9  # tIoU from which two proposals are one
_APART = 0.2  # tIoU from which two pseudo-instances of a class are one
_FUSED = 0.5  # tIoU from which a detection has a say in a pseudo-instance's bounds
_NONE, _WHOLE = (
    0.3,
    0.7,
)  # tIoU with a pseudo-instance up to which a proposal counts as 0, and from which as 1


class PseudoInstances(NamedTuple):
    """I pseudo-instances of one video."""

    label: np.ndarray  # (I,) int64
    start: np.ndarray  # (I,) float64 seconds
    end: np.ndarray  # (I,) float64 seconds
    weight: np.ndarray  # (I,) float64 in (0, 1], score as a part of the class's best in the video


class Examples(NamedTuple):
    """P proposals of a training video, filled up with zeros of weight 0."""

    parts: np.ndarray  # (P, 4, D) float32, see `case_jax.localization.rescoring.PARTS`
    extras: np.ndarray  # (P, 3) float32
    targets: np.ndarray  # (P, G) float32 in [0, 1]
    weights: np.ndarray  # (P, G) float32 in [0, 1]


def raw_detections(
    fused: np.ndarray, video_scores: np.ndarray, *, duration: float, config: CaseConfig
) -> Detections:
    """All that the first stage proposes in a training video, by the scores that it ranks them with.

    Every class that is at all likely has a say, and faint actions, too: settings of proposals are those of
    every_class.flags, whatever the run's own are. Nothing is suppressed.

    Args:
        fused: (T, G) float.
        video_scores: (G,) float.
        duration: seconds that the T samples cover.
        config: of the run.
    """
    thresholds = (0.02, 0.05, *(tenth / 10 for tenth in range(1, 10)))
    config = dataclasses.replace(
        config,
        class_threshold=0.02,
        always_localize="yes",
        video_score="probability",
        proposal_thresholds=thresholds,
        nms="published",
        nms_alpha=1e9,  # exp(-tIoU^2 / alpha) is 1
    )
    return localize_video(fused, video_scores, duration=duration, config=config)


def distinct(found: Detections, limit: int) -> np.ndarray:
    """Positions of the surest detections that are no two the same segment, whatever their classes."""
    order = np.argsort(-found.score, kind="stable")
    kept: list[int] = []
    while order.size and len(kept) < limit:
        best = order[0]
        kept.append(int(best))
        overlap = tiou(found.start[best], found.end[best], found.start[order], found.end[order])
        order = order[(overlap < _SAME) & (order != best)]
    return np.array(kept, np.int64)


def pseudo_instances(found: Detections, labels: np.ndarray, *, surest: float) -> PseudoInstances:
    """The surest detections of a video's own classes, each fused with those that agree with it.

    Args:
        found: D detections of the video.
        labels: (G,) multi-hot video labels.
        surest: a pseudo-instance scores at least this part of its class's best detection.

    Returns:
        `PseudoInstances`. Bounds are means, weighted by score, over the detections with a tIoU of 0.5.
    """
    rows = []
    for label in np.flatnonzero(labels):
        of_class = found.take(np.flatnonzero(found.label == label))
        of_class = of_class.take(np.argsort(-of_class.score, kind="stable"))
        _, start, end, score = of_class
        if not score.size or score[0] <= 0:
            continue
        waiting = score >= surest * score[0]
        for i in np.flatnonzero(waiting):
            if not waiting[i]:
                continue
            overlap = tiou(start[i], end[i], start, end)
            say = np.where(overlap >= _FUSED, np.maximum(score, 1e-6), 0.0)
            rows.append((label, say @ start / say.sum(), say @ end / say.sum(), score[i] / score[0]))
            waiting &= overlap < _APART
    columns = np.array(rows, np.float64).reshape(-1, 4).T
    return PseudoInstances(columns[0].astype(np.int64), *columns[1:])


def examples_of(
    features: np.ndarray,
    found: Detections,
    labels: np.ndarray,
    *,
    duration: float,
    config: RefinementConfig,
) -> Examples:
    """The proposals of a training video with what is known of them.

    Args:
        features: (T, D) float, evenly spaced over the video.
        found: from `raw_detections`.
        labels: (G,) multi-hot video labels.
        duration: seconds that the T samples cover.
        config: of the second stage.

    Returns:
        `Examples` of ``config.num_proposals`` proposals.
    """
    proposed = found.take(distinct(found, config.num_proposals))
    num_samples, count = len(features), proposed.score.size
    start, end = (seconds * num_samples / duration for seconds in (proposed.start, proposed.end))
    same = np.broadcast_to(np.asarray(features)[:, None], (num_samples, 4, features.shape[1]))
    parts = np.zeros((config.num_proposals, 4, features.shape[1]), np.float32)
    parts[:count] = np.stack(PartMeans(same, flank=config.flank)(start, end), axis=1)
    beside = np.zeros((config.num_proposals, 3), np.float32)
    beside[:count] = extras(start, end, num_samples)

    targets = np.zeros((config.num_proposals, len(labels)), np.float32)
    weights = np.zeros_like(targets)
    weights[:count] = np.where(labels > 0, config.unsure_weight, 1.0)
    instances = pseudo_instances(found, labels, surest=config.surest)
    for label in np.unique(instances.label):
        of_class = np.flatnonzero(instances.label == label)
        overlap = tiou(
            proposed.start[:, None], proposed.end[:, None], instances.start[of_class], instances.end[of_class]
        )
        target = np.clip((overlap.max(axis=1) - _NONE) / (_WHOLE - _NONE), 0, 1)
        sure = instances.weight[of_class][overlap.argmax(axis=1)]
        targets[:count, label] = target
        weights[:count, label] = np.where(target > 0, sure, config.unsure_weight)
    return Examples(parts, beside, targets, weights)
