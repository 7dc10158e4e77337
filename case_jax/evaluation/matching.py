"""Ranking detections and matching them with ground truth, for all classes and thresholds at once.

Evaluation protocols leave some choices open. The rules here are:
- Detections of a class are taken by falling score, and equal scores by (video name, start, end), so that the
  order of the input never matters.
- A detection is matched with the free ground truth of highest tIoU that reaches the threshold. Of equal
  tIoUs, the ground truth that comes first is taken. A ground truth is matched once.
- A tIoU reaches a threshold if tIoU >= threshold.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from case_jax.errors import InputError
from case_jax.localization.detections import Detections, concatenate
from case_jax.localization.tiou import tiou

__all__ = [
    "Segments",
    "class_slices",
    "detected_segments",
    "make_segments",
    "match",
    "overlapping_pairs",
    "rank",
    "require_finite",
]


class Segments(NamedTuple):
    """Labelled segments of many videos: ground truth, or detections with scores."""

    video: np.ndarray  # (D,) text
    label: np.ndarray  # (D,) text
    start: np.ndarray  # (D,) float64 seconds
    end: np.ndarray  # (D,) float64 seconds
    score: np.ndarray  # (D,) float64; zeros for ground truth


def detected_segments(videos: Mapping[str, Detections], classes: Sequence[str]) -> Segments:
    """Flattens the detections of many videos.

    Args:
        videos: video name -> `Detections`, times in seconds.
        classes: names of the classes, which the detections' labels index.

    Returns:
        `Segments`, video by video in the order given.

    Raises:
        InputError: if a name ends in a NUL character.
    """
    counts = [found.label.size for found in videos.values()]
    together = concatenate(list(videos.values()))
    return Segments(
        np.repeat(_text("video", list(videos)), counts),
        _text("class", classes)[together.label],
        together.start,
        together.end,
        together.score,
    )


def make_segments(videos: Mapping[str, Sequence[Mapping]]) -> Segments:
    """Flattens lists of entries per video, keeping their order.

    Args:
        videos: video name -> entries {"label": name, "segment": (start, end) in seconds}; entries of
            detections also have a "score".

    Returns:
        `Segments`, video by video in the order given.

    Raises:
        InputError: if a name ends in a NUL character.
    """
    rows = [(video, entry) for video, entries in videos.items() for entry in entries]
    return Segments(
        _text("video", [video for video, _ in rows]),
        _text("class", [entry["label"] for _, entry in rows]),
        np.array([entry["segment"][0] for _, entry in rows], np.float64),
        np.array([entry["segment"][1] for _, entry in rows], np.float64),
        np.array([entry.get("score", 0.0) for _, entry in rows], np.float64),
    )


def require_finite(kind: str, segments: Segments) -> None:
    """Checks that all scores and bounds are finite.

    Args:
        kind: what the message calls the segments, in the plural.
        segments: D segments.

    Raises:
        ValueError: if a score or a bound is NaN or infinite.
    """
    for name in ("score", "start", "end"):
        values = getattr(segments, name)
        finite = np.isfinite(values)
        if not finite.all():
            raise ValueError(
                f"{kind} must have finite scores and bounds, got the {name} {values[~finite][0]}"
            )


def rank(detections: Segments, classes: np.ndarray) -> tuple[Segments, np.ndarray]:
    """Drops detections of unknown classes and sorts the others by class, then by the order documented above.

    Args:
        detections: D detections in any order.
        classes: (G,) class names, ascending.

    Returns:
        The D' sorted detections, and their (D',) int64 class indices.

    Raises:
        ValueError: if a score or a bound is not finite. NaN cannot be sorted.
    """
    require_finite("detections", detections)
    label = np.minimum(np.searchsorted(classes, detections.label), len(classes) - 1)
    known = np.flatnonzero(classes[label] == detections.label)
    label = label[known]
    detections = Segments(*(column[known] for column in detections))
    order = np.lexsort((detections.end, detections.start, detections.video, -detections.score, label))
    return Segments(*(column[order] for column in detections)), label[order]


def match(
    truth: Segments,
    truth_label: np.ndarray,
    detections: Segments,
    label: np.ndarray,
    thresholds: np.ndarray,
) -> np.ndarray:
    """Which detections are true positives, at each threshold.

    To take detections in order, each with its best free ground truth, gives a stable matching in which every
    ground truth prefers the detection of better rank. Deferred acceptance finds the same matching for all
    detections at once: each detection asks its best ground truth, which keeps the best-ranked one of those
    that ask; the others go on to their next choice. This takes as many rounds as a detection overlaps ground
    truths, which is far fewer than there are detections.

    Args:
        truth: M instances.
        truth_label: (M,) int, their classes.
        detections: D detections in the order of `rank`.
        label: (D,) int, their classes.
        thresholds: (Q,) tIoU thresholds.

    Returns:
        (Q, D) bool.
    """
    detection, instance, overlap = overlapping_pairs(truth, truth_label, detections, label)
    num_detections, num_thresholds = label.size, thresholds.size
    # Pairs of one detection are neighbours: the highest tIoU first, of equal ones the earlier ground truth.
    first_pair = np.searchsorted(detection, np.arange(num_detections))
    choices = np.stack(
        [np.bincount(detection[overlap >= threshold], minlength=num_detections) for threshold in thresholds]
    )

    nobody = num_detections
    holder = np.full((num_thresholds, truth.label.size), nobody)
    asked = np.zeros((num_thresholds, num_detections), np.int64)
    q, d = np.nonzero(choices > 0)
    while q.size:
        wanted = instance[first_pair[d] + asked[q, d]]
        previous = holder[q, wanted]
        np.minimum.at(holder, (q, wanted), d)
        # Two kinds of detections are refused: those that asked in vain, and those that were replaced.
        refused = holder[q, wanted] != d
        replaced = (previous != nobody) & (holder[q, wanted] != previous)
        again = np.unique(
            np.concatenate(
                [
                    q[refused] * num_detections + d[refused],
                    q[replaced] * num_detections + previous[replaced],
                ]
            )
        )
        q, d = np.divmod(again, num_detections)
        asked[q, d] += 1
        has_choice = asked[q, d] < choices[q, d]
        q, d = q[has_choice], d[has_choice]

    hit = np.zeros((num_thresholds, num_detections + 1), bool)
    np.put_along_axis(hit, holder, True, axis=1)
    return hit[:, :num_detections]


def overlapping_pairs(
    truth: Segments, truth_label: np.ndarray, detections: Segments, label: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of a detection and a ground truth of the same class and video that overlap.

    Args:
        truth: M instances.
        truth_label: (M,) int, their classes.
        detections: D detections.
        label: (D,) int, their classes.

    Returns:
        (P,) int64 detections, (P,) int64 instances and their (P,) float64 tIoU, above 0. Pairs are ordered by
        detection, then by falling tIoU, then by instance.

    Raises:
        ValueError: if a bound of ``truth`` is not finite.
    """
    require_finite("ground truth", truth)
    videos, truth_video = np.unique(truth.video, return_inverse=True)
    video = np.minimum(np.searchsorted(videos, detections.video), len(videos) - 1)
    group = np.where(videos[video] == detections.video, label * len(videos) + video, -1)
    truth_group = truth_label * len(videos) + truth_video

    by_group = np.argsort(truth_group, kind="stable")
    sorted_groups = truth_group[by_group]
    begin = np.searchsorted(sorted_groups, group, side="left")
    count = np.searchsorted(sorted_groups, group, side="right") - begin
    detection = np.repeat(np.arange(label.size), count)
    within = np.arange(detection.size) - np.repeat(np.cumsum(count) - count, count)
    instance = by_group[np.repeat(begin, count) + within]

    start, end = detections.start[detection], detections.end[detection]
    truth_start, truth_end = truth.start[instance], truth.end[instance]
    overlap = tiou(start, end, truth_start, truth_end)

    some = overlap > 0
    detection, instance, overlap = detection[some], instance[some], overlap[some]
    order = np.lexsort((instance, -overlap, detection))
    return detection[order], instance[order], overlap[order]


def class_slices(label: np.ndarray, num_classes: int) -> list[slice]:
    """The detections of each class as a slice, where (D,) ``label`` ascends as `rank` returns it."""
    bounds = np.searchsorted(label, np.arange(num_classes + 1))
    return [slice(begin, end) for begin, end in itertools.pairwise(bounds)]


def _text(kind: str, names: Sequence[str]) -> np.ndarray:
    """Names as an array of text. Numpy pads text with NULs and would lose a NUL at the end of a name."""
    for name in names:
        if str(name).endswith("\0"):
            raise InputError(
                f"{kind} {name!r}: ends in a NUL character; expected a name that numpy's text can hold"
            )
    return np.array(names, dtype=str)
