"""From the scores of videos to their final detections: kept classes, upsampling, proposals, soft-NMS."""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from case_jax.config import CaseConfig
from case_jax.localization.detections import Detections, concatenate
from case_jax.localization.nms import published_soft_nms, standard_soft_nms
from case_jax.localization.proposals import kept_classes, proposals, upsample
from case_jax.localization.rescoring import Judge, ProposalScorer, rescore
from case_jax.localization.tiou import tiou

__all__ = ["localize_video", "localize_videos", "localize_windows"]

# Soft-NMS compares all proposals of a class with each other, so that its memory grows with their number
# squared. Where there are more than this many, it runs on groups that cannot suppress each other.
_AT_ONCE = 4096


def localize_video(
    fused: np.ndarray,
    video_scores: np.ndarray,
    *,
    duration: float,
    config: CaseConfig,
    judges: Sequence[Judge] = (),
) -> Detections:
    """Detects actions in one video.

    Args:
        fused: (T, G) float, fused class activation sequences, evenly spaced over the video.
        video_scores: (G,) float, video-level scores.
        duration: how many seconds of video the T samples cover (T_v * seconds per snippet).
        config: its settings of proposals and soft-NMS are used.
        judges: second stages, if there are any.

    Returns:
        `Detections`, class by class in the order of soft-NMS.
    """
    scores = np.asarray(video_scores)[None]
    return localize_windows(fused, scores, duration=duration, config=config, judges=judges)


def localize_videos(
    fused: np.ndarray,
    video_scores: np.ndarray,
    durations: Sequence[float] | np.ndarray,
    config: CaseConfig,
    scorer: ProposalScorer | None = None,
    projected: np.ndarray | None = None,
) -> list[Detections]:
    """Applies `localize_video` to each of V videos.

    Args:
        fused: (V, T, G) float, fused class activation sequences.
        video_scores: (V, G) float, video-level scores.
        durations: (V,) seconds of video that the T samples cover.
        config: its settings of proposals and soft-NMS are used.
        scorer: a second stage behind its first layer.
        projected: (V, T, 4, H) float32, what that layer makes of the samples; needed with ``scorer``.

    Returns:
        V `Detections`.
    """
    judges: Iterable[tuple[Judge, ...]] = itertools.repeat(())
    if scorer is not None and projected is not None:
        judges = ((Judge(scorer, of_video),) for of_video in projected)
    return [
        localize_video(sequence, scores, duration=float(duration), config=config, judges=of_video)
        for sequence, scores, duration, of_video in zip(fused, video_scores, durations, judges)
    ]


def localize_windows(
    fused: np.ndarray,
    window_scores: np.ndarray,
    config: CaseConfig,
    judges: Sequence[Judge] = (),
    *,
    duration: float,
) -> Detections:
    """Detects actions in one video that was scored window by window.

    Windows only decide which classes may occur, and where: each window keeps the classes that a video with
    the same scores would keep. Proposals are made on the sequence of the whole video, so that an action
    across the seam of two windows is one proposal. A proposal counts if it overlaps a window that keeps its
    class. With ``video_score="probability"``, its video score is the highest one of these windows.

    Args:
        fused: (n * T, G) float, fused class activation sequences, evenly spaced over the video.
        window_scores: (n, G) float, video-level scores of n windows of T samples each.
        config: its settings of proposals and soft-NMS are used.
        judges: second stages, if there are any, for the n * T samples.
        duration: how many seconds of video the n * T samples cover (T_v * seconds per snippet).

    Returns:
        `Detections`, class by class in the order of soft-NMS; a class with more than 4,096 proposals by
        falling score.

    Raises:
        ValueError: if the samples cannot be divided evenly into windows.

    Example:
        >>> action = np.array([0.0, 0.0, 0.0, 0.9, 0.9, 0.0, 0.0, 0.0])[:, None]  # the seam is in its middle
        >>> config = CaseConfig(upsampling=1, proposal_thresholds=(0.5,))
        >>> found = localize_windows(action, np.ones((2, 1)), duration=8.0, config=config)
        >>> found.start.tolist(), found.end.tolist()
        ([3.0], [5.0])
    """
    fused, window_scores = np.asarray(fused), np.asarray(window_scores)
    num_windows, num_classes = window_scores.shape
    if len(fused) % num_windows:
        raise ValueError(f"{len(fused)} samples do not divide into {num_windows} windows of the same size")
    positions_per_window = len(fused) // num_windows * config.upsampling
    kept = np.zeros((num_windows, num_classes), bool)
    for row, scores in zip(kept, window_scores):
        row[_kept(scores, config)] = True

    found = []
    for label in np.flatnonzero(kept.any(axis=0)):  # one at a time: a class takes 8 bytes per position
        sequence = upsample(fused[:, [label]], config.upsampling)
        seconds_per_position = duration / len(sequence)
        of_class = proposals(
            sequence,
            np.zeros(num_classes),
            classes=np.array([label]),
            seconds_per_position=seconds_per_position,
            thresholds=config.proposal_thresholds,
            flank=config.flank,
            video_score_weight=0.0,  # added below: it depends on the windows
        )
        first, end = (
            np.rint(seconds / seconds_per_position).astype(np.int64)
            for seconds in (of_class.start, of_class.end)
        )
        video_score = _highest(
            np.where(kept[:, label], window_scores[:, label].astype(np.float64), -np.inf),
            first // positions_per_window,
            (end - 1) // positions_per_window,
        )
        counts = video_score > -np.inf
        if config.video_score == "kept":
            video_score = np.ones_like(video_score)
        of_class = of_class._replace(score=of_class.score + config.video_score_weight * video_score)
        of_class = of_class.take(counts)
        if judges:
            of_class = rescore(of_class, judges, duration=duration, weight=config.refined_weight)
        found.append(_suppress(of_class, config))
    return concatenate(found)


def _kept(video_scores: np.ndarray, config: CaseConfig) -> np.ndarray:
    """The classes to localise by (G,) video scores. With a background class the scores sum to that of any."""
    any_action = video_scores.sum(dtype=np.float64)
    if config.has_background:
        if any_action < config.action_threshold and config.always_localize != "yes":
            return np.zeros(0, np.int64)
        video_scores = video_scores / max(any_action, np.finfo(np.float64).tiny)
    return kept_classes(video_scores, config.class_threshold, or_best=config.always_localize != "no")


def _highest(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(D,) highest of the (n,) values from (D,) ``first`` to (D,) ``last``, both included."""
    if not first.size:
        return np.zeros(0)
    bounds = np.stack([first, last + 1], axis=1).reshape(-1)
    return np.maximum.reduceat(np.append(values, -np.inf), bounds)[::2]  # the odd ones lie between two ranges


def _suppress(found: Detections, config: CaseConfig) -> Detections:
    """Soft-NMS of the detections of one class."""
    soft_nms = functools.partial(
        {"published": published_soft_nms, "standard": standard_soft_nms}[config.nms],
        threshold=config.nms_threshold,
        alpha=config.nms_alpha,
    )
    if found.score.size <= _AT_ONCE:
        return soft_nms(found)
    extra = 1.0 if config.nms == "published" else 0.0
    groups = _independent(found, threshold=config.nms_threshold, extra=extra)
    suppressed = concatenate([soft_nms(found.take(rows)) for rows in groups])
    return suppressed.take(np.argsort(-suppressed.score, kind="stable"))


def _independent(found: Detections, *, threshold: float, extra: float) -> Iterator[np.ndarray]:
    """Groups of detections such that no two of different groups reach the tIoU ``threshold``.

    Only pairs that overlap are compared. They are few: runs above a threshold lie inside runs above a
    lower one.

    Args:
        found: D detections.
        threshold: tIoU of soft-NMS. At 0 with ``extra`` seconds, even detections that do not overlap suppress
            each other, so that there is only one group.
        extra: seconds that are added to lengths in the tIoU.

    Yields:
        Ascending positions in ``found``; every position is in one group.
    """
    count = found.score.size
    if threshold == 0 and extra:
        yield np.arange(count)
        return
    by_start = np.argsort(found.start, kind="stable")
    start, end = found.start[by_start], found.end[by_start]
    later = np.searchsorted(start, end + extra) - np.arange(1, count + 1)  # how many overlap and start later
    one = np.repeat(np.arange(count), later)
    other = one + 1 + np.arange(one.size) - np.repeat(np.cumsum(later) - later, later)
    overlap = tiou(start[one], end[one], start[other], end[other], extra=extra)
    linked = (overlap >= threshold) & (overlap > 0)
    one, other = by_start[one[linked]], by_start[other[linked]]

    group = np.arange(count)  # the lowest position that each detection is known to be linked with
    while True:
        before, lowest = group, np.minimum(group[one], group[other])
        group = group.copy()
        np.minimum.at(group, one, lowest)
        np.minimum.at(group, other, lowest)
        group = group[group]
        if np.array_equal(group, before):
            break
    order = np.argsort(group, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
