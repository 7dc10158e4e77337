"""Multi-threshold proposals with outer-inner scores, as published for THUMOS14."""

from collections.abc import Sequence

import numpy as np

from case_jax.localization.detections import Detections, concatenate

__all__ = ["kept_classes", "proposals", "upsample"]


def kept_classes(video_scores: np.ndarray, threshold: float, *, or_best: bool = True) -> np.ndarray:
    """Classes to localise in a video: those whose score reaches a threshold, or else the best class.

    Args:
        video_scores: (G,) video-level scores.
        threshold: score from which a class is kept.
        or_best: whether the best class is kept where none reaches the threshold. A video without any action
            otherwise has no class.

    Returns:
        (C,) int64 class indices, ascending; at least one with ``or_best``. Of equal best scores, the first
        class is taken.

    Example:
        >>> print(kept_classes(np.array([0.3, 0.1, 0.6]), 0.25), kept_classes(np.array([0.1, 0.2]), 0.25))
        [0 2] [1]
    """
    kept = np.flatnonzero(video_scores >= threshold)
    return kept if kept.size or not or_best else np.array([np.argmax(video_scores)])


def upsample(sequence: np.ndarray, factor: int) -> np.ndarray:
    """Linear interpolation along time; positions after the last sample are extrapolated.

    Args:
        sequence: (T, C) float, T samples.
        factor: positions per sample, 1 or more.

    Returns:
        (T * factor, C) float64; position p lies at sample p / factor.

    Example:
        >>> print(upsample(np.array([[0.0], [1.0], [3.0]]), 2)[:, 0])
        [0.  0.5 1.  2.  3.  4. ]
    """
    sequence = np.asarray(sequence, np.float64)
    if sequence.shape[0] == 1:
        return np.repeat(sequence, factor, axis=0)
    # Every gap between two samples is cut into `factor` equal steps. The tail goes on as the last gap did.
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
    flank: float,
    video_score_weight: float,
) -> Detections:
    """Runs of consecutive positions above each threshold, scored by outer-inner contrast.

    A run of n positions, from a to b, has two flanks, each ``flank`` times as long as the run. The left flank
    is max(0, int(a - flank * n)) .. a - 1, the right one b + 1 .. min(int(b + flank * n), last position). The
    run's score is the mean inside it, minus the mean of both flanks together (0 where both are empty), plus
    ``video_score_weight`` times the class's video score.

    Args:
        sequence: (P, C) float, upsampled activation sequences of the C kept classes.
        video_scores: (G,) video-level scores of all G classes.
        classes: (C,) int, the class of each column of ``sequence``.
        seconds_per_position: how long one position lasts.
        thresholds: activation thresholds; a run lies strictly above its threshold.
        flank: length of a flank, in lengths of the run.
        video_score_weight: weight of the video score.

    Returns:
        `Detections` ordered by class, threshold and time. A run lasts from a * seconds_per_position to
        (b + 1) * seconds_per_position.
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

    # The sum over [i, j) is running[j] - running[i].
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
    """(R,) first and (R,) last positions of all runs, ordered by threshold, then time."""
    above = np.zeros((thresholds.size, sequence.size + 2), bool)
    above[:, 1:-1] = sequence[None, :] > thresholds[:, None]
    # Rows are padded with False at both ends, so that beginnings and ends of runs alternate in every row.
    changes = np.flatnonzero(above[:, 1:] != above[:, :-1]) % (sequence.size + 1)
    return changes[0::2], changes[1::2] - 1
