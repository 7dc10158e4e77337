"""Multi-threshold proposals with outer-inner scores, as published for THUMOS14."""

from collections.abc import Sequence

import numpy as np

from case_jax.localization.detections import Detections, concatenate

__all__ = ["kept_classes", "proposals", "upsample"]


def kept_classes(video_scores: np.ndarray, threshold: float) -> np.ndarray:
    """Classes worth localising in a video: those whose score reaches a threshold, or the best one.

    Args:
        video_scores: (G,) video-level scores.
        threshold: score from which a class is kept.

    Returns:
        (C,) int64 class indices, ascending, C >= 1 (of equal best scores the first class).

    Example:
        >>> print(kept_classes(np.array([0.3, 0.1, 0.6]), 0.25), kept_classes(np.array([0.1, 0.2]), 0.25))
        [0 2] [1]
    """
    kept = np.flatnonzero(video_scores >= threshold)
    return kept if kept.size else np.array([np.argmax(video_scores)])


def upsample(sequence: np.ndarray, factor: int) -> np.ndarray:
    """Linear interpolation along time; positions after the last sample are extrapolated.

    Args:
        sequence: (T, C) float.
        factor: positions per sample.

    Returns:
        (T * factor, C) float64; position p lies at sample p / factor.

    Example:
        >>> print(upsample(np.array([[0.0], [1.0], [3.0]]), 2)[:, 0])
        [0.  0.5 1.  2.  3.  4. ]
    """
    sequence = np.asarray(sequence, np.float64)
    if sequence.shape[0] == 1:
        return np.repeat(sequence, factor, axis=0)
    # Every gap between samples, and once more the last one for the tail, is cut in `factor` equal steps.
    slopes = np.diff(sequence, axis=0)
    slopes = np.concatenate([slopes, slopes[-1:]])
    steps = np.arange(factor)[None, :, None] / factor
    return (sequence[:, None, :] + steps * slopes[:, None, :]).reshape(-1, sequence.shape[1])


def proposals(
    sequence: np.ndarray,
    video_scores: np.ndarray,
    *,
    classes: np.ndarray,
    seconds_per_position: float,
    thresholds: Sequence[float],
    flank: float = 0.15,
    video_score_weight: float = 0.2,
) -> Detections:
    """Runs of consecutive positions above each threshold, scored by outer-inner contrast.

    The score is the mean inside the run, minus the mean of its two flanks together, plus
    ``video_score_weight`` times the class's video score. A flank is ``flank`` times as long as the run n:
    for a run from position a to b, the left one is max(0, int(a - flank * n)) .. a - 1 and the right one
    b + 1 .. min(int(b + flank * n), last position); where both are empty their mean counts as 0.

    Args:
        sequence: (P, C) upsampled activation sequences of the C kept classes.
        video_scores: (G,) video-level scores.
        classes: (C,) int, the class of each column.
        seconds_per_position: how long one position lasts.
        thresholds: activation thresholds; a run lies strictly above one.
        flank: length of each flank relative to the run.
        video_score_weight: weight of the video score.

    Returns:
        `Detections` ordered by class, threshold and time; a run is [a, b + 1) * seconds_per_position.
    """
    return concatenate(
        [
            _class_proposals(
                np.ascontiguousarray(sequence[:, column], np.float64),
                label,
                video_score_weight * float(video_scores[label]),
                seconds_per_position,
                np.asarray(thresholds, np.float64),
                flank,
            )
            for column, label in enumerate(classes)
        ]
    )


def _class_proposals(
    sequence: np.ndarray,
    label: int,
    score_offset: float,
    seconds_per_position: float,
    thresholds: np.ndarray,
    flank: float,
) -> Detections:
    first, last = _runs_above(sequence, thresholds)
    length = last - first + 1
    left = np.maximum(0, np.trunc(first - flank * length).astype(np.int64))
    right = np.minimum(np.trunc(last + flank * length).astype(np.int64), sequence.size - 1)

    # Sums over [i, j) are differences of one running sum.
    running = np.concatenate([[0.0], np.cumsum(sequence)])
    inside = running[last + 1] - running[first]
    outside = (running[right + 1] - running[left]) - inside
    outside_length = (first - left) + (right - last)
    outer = np.where(outside_length > 0, outside / np.maximum(outside_length, 1), 0.0)

    return Detections(
        np.full(first.shape, label, np.int64),
        first * seconds_per_position,
        (last + 1) * seconds_per_position,
        inside / length - outer + score_offset,
    )


def _runs_above(sequence: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last positions of all runs, ordered by threshold, then time."""
    above = np.zeros((thresholds.size, sequence.size + 2), bool)
    above[:, 1:-1] = sequence[None, :] > thresholds[:, None]
    # Nothing is above at either end, so in every row a run's beginning and its end take turns.
    changes = np.flatnonzero(above[:, 1:] != above[:, :-1]) % (sequence.size + 1)
    return changes[0::2], changes[1::2] - 1
