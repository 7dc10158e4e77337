"""False alarms per hour: what detections cost where nothing happens.

mAP hardly tells how a detector does in hours without any action: it ranks detections, and a detector that
calls something everywhere, but calls it unsurely, loses little. Whoever must look at each alarm counts alarms
per hour of video, at a score that still finds enough of the actions. So both stand beside each other here.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from case_jax.evaluation.matching import Segments, match, rank

__all__ = ["DEFAULT_SHARES", "FalseAlarms", "false_alarms"]

# Of the actions that are found at all; `false_alarms` chooses the scores that find so many of them.
DEFAULT_SHARES = (0.1, 0.25, 0.5, 0.75)


class FalseAlarms(NamedTuple):
    """False alarms in action-free videos and actions found elsewhere, by detections of at least a score."""

    score: np.ndarray  # (S,) float64: a detection counts if its score is this or higher
    per_hour: np.ndarray  # (S,) float64, detections in action-free videos per hour of these videos
    recall: np.ndarray  # (S,) float64 in [0, 1], share of the annotated actions that are found
    num_videos: int  # action-free videos
    hours: float  # their whole duration
    tiou: float  # an action is found by a detection of its class with this tIoU or more


def false_alarms(
    truth: Segments,
    found: Segments,
    hours_of: Mapping[str, float],
    *,
    scores: Sequence[float] | None = None,
    tiou: float = 0.5,
) -> FalseAlarms:
    """Counts the false alarms in action-free videos, and beside them the actions that are found.

    "At score s" means: as if only the detections with score >= s had been made. Of these, each in an
    action-free video is a false alarm, whatever its class. An action is found if one of them is matched with
    it by the rules of `case_jax.evaluation.matching`: one detection per action, and one action per detection.
    Both numbers can only rise as s falls.

    Args:
        truth: the annotated actions, in seconds.
        found: detections with scores in any order, in seconds, in videos with and without actions. Those in
            videos that neither ``truth`` nor ``hours_of`` names have no effect.
        hours_of: name of each action-free video -> its duration in hours.
        scores: the S scores, in any order; by default the highest scores that find 10, 25, 50 and 75 % of the
            actions that are found at all, highest first and each once. So they suit detections of any scale.
            Where nothing is found there is one score, the lowest of all detections; without any detection
            there is none.
        tiou: threshold in (0, 1].

    Returns:
        `FalseAlarms`.

    Raises:
        ValueError: if there is no action or no action-free video, a duration is not positive and finite, an
            action-free video has an action, a number is out of its range, or a score or a bound is NaN or
            infinite.

    Example:
        >>> from case_jax.evaluation.matching import make_segments
        >>> jump = {"label": "Jump", "segment": (0.0, 10.0)}
        >>> truth = make_segments({"v": [jump]})
        >>> alarms = [jump | {"score": 0.9}, jump | {"score": 0.2}, jump | {"score": 0.1}]
        >>> found = make_segments({"v": [jump | {"score": 0.8}], "still": alarms})
        >>> result = false_alarms(truth, found, {"still": 0.5}, scores=[0.85, 0.8, 0.2])
        >>> result.per_hour.tolist(), result.recall.tolist()
        ([2.0, 2.0, 4.0], [0.0, 1.0, 1.0])
        >>> false_alarms(truth, found, {"still": 0.5}).score.tolist()
        [0.8]
    """
    if not truth.label.size:
        raise ValueError("false alarms need at least one annotated action, to tell what a score finds")
    if not 0 < tiou <= 1:
        raise ValueError(f"tiou must be in (0, 1], got {tiou}")
    hours = _total(hours_of, set(truth.video.tolist()))
    classes, truth_label = np.unique(truth.label, return_inverse=True)
    ranked, label = rank(found, classes)
    hit = match(truth, truth_label, ranked, label, np.array([tiou]))[0]
    hits = np.sort(ranked.score[hit])
    alarms = np.sort(found.score[np.isin(found.video, list(hours_of))])
    chosen = _default_scores(hits, found.score) if scores is None else np.array(scores, np.float64)
    if not np.isfinite(chosen).all():
        raise ValueError(f"scores must be finite, got {chosen[~np.isfinite(chosen)][0]}")
    return FalseAlarms(
        score=chosen,
        per_hour=_at_least(alarms, chosen) / hours,
        recall=_at_least(hits, chosen) / truth.label.size,
        num_videos=len(hours_of),
        hours=hours,
        tiou=tiou,
    )


def _total(hours_of: Mapping[str, float], with_actions: set[str]) -> float:
    """The checked sum of the durations."""
    if not hours_of:
        raise ValueError("false alarms need at least one action-free video")
    for name, hours in hours_of.items():
        if not 0 < hours < math.inf:
            raise ValueError(f"video {name!r} must last more than 0 hours, got {hours}")
        if name in with_actions:
            raise ValueError(f"video {name!r} must be action-free, but has an annotated action")
    return math.fsum(hours_of.values())


def _default_scores(hits: npt.NDArray[np.float64], every: npt.NDArray[np.float64]) -> np.ndarray:
    """The highest scores that find `DEFAULT_SHARES` of what all detections find.

    Args:
        hits: (H,) scores of the detections that find an action, ascending.
        every: (D,) scores of all detections.
    """
    if not hits.size:
        return every.min(keepdims=True) if every.size else every
    # The addend undoes rounding errors: 0.1 of 10 actions is 1 action.
    ranks = [math.ceil(share * hits.size - 1e-9) for share in DEFAULT_SHARES]
    return np.unique(hits[[-rank for rank in ranks]])[::-1]


def _at_least(ascending: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(S,) int64: how many of the (N,) ascending values reach each score."""
    return ascending.size - np.searchsorted(ascending, scores, side="left")
