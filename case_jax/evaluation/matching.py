"""Ranking detections and matching them with ground truth, for all classes and thresholds at once.

Rules where evaluation protocols leave a choice:
- Detections of a class are taken by falling score; equal scores by (video name, start, end), so that the
  order of the input never matters.
- A detection is matched with the free ground truth of highest tIoU that reaches the threshold; of equal
  tIoU the earlier in the ground truth's own order. A ground truth is matched once.
- A threshold is reached where tIoU >= threshold.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from case_jax.errors import InputError
from case_jax.localization.detections import Detections, concatenate

__all__ = [
    "Segments",
    "class_slices",
    "detected_segments",
    "make_segments",
    "match",
    "overlapping_pairs",
    "rank",
    "require_finite",
    "tiou",
]


class Segments(NamedTuple):
    """Labelled segments of many videos: ground truth, or detections with scores."""

    video: np.ndarray  # (D,) text
    label: np.ndarray  # (D,) text
    start: np.ndarray  # (D,) float64 seconds
    end: np.ndarray  # (D,) float64 seconds
    score: np.ndarray  # (D,) float64; zeros for ground truth


def detected_segments(videos: Mapping[str, Detections], classes: Sequence[str]) -> Segments:
    """Flattens the detections of many videos; ``classes`` are the names that their labels index.

    Raises:
        InputError: as `make_segments`.
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
    """Flattens per-video lists of {"label", "segment", and "score" for detections}, keeping their order.

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
    """Raises ValueError, naming the ``kind`` of segments, where a score or a bound is NaN or infinite."""
    for name in ("score", "start", "end"):
        values = getattr(segments, name)
        finite = np.isfinite(values)
        if not finite.all():
            raise ValueError(
                f"{kind} must have finite scores and bounds, got the {name} {values[~finite][0]}"
            )


def rank(detections: Segments, classes: np.ndarray) -> tuple[Segments, np.ndarray]:
    """Detections of known classes, by class and the documented order, and their class indices.

    Raises:
        ValueError: if a score or a bound is not finite: NaN has no place in an order.
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
    """(Q, D) bool: whether each detection, in rank order, is a true positive at each threshold.

    Taking detections in order, each with its best free ground truth, is a stable matching in which every
    ground truth prefers the detection of better rank. Deferred acceptance finds the same matching for all
    detections at once: each asks its best ground truth, which keeps the best-ranked one that asks; the
    others go on to their next. The number of rounds is that of overlapping ground truths, not of detections.
    """
    detection, instance, overlap = overlapping_pairs(truth, truth_label, detections, label)
    num_detections, num_thresholds = label.size, thresholds.size
    # Pairs of one detection stand together, best tIoU first, earlier ground truth first.
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
        # Refused: those who asked in vain, and those who were replaced.
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
    """All (detection, ground truth, tIoU) of one class and video with tIoU > 0, in matching order.

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


def tiou(start: np.ndarray, end: np.ndarray, other_start: np.ndarray, other_end: np.ndarray) -> np.ndarray:
    """Temporal intersection over union of segments, in [0, 1], broadcast; 0 where both have no length."""
    shared = np.maximum(0.0, np.minimum(end, other_end) - np.maximum(start, other_start))
    union = (end - start) + (other_end - other_start) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def class_slices(label: np.ndarray, num_classes: int) -> list[slice]:
    """Where the detections of each class are, in the order that `rank` gives."""
    bounds = np.searchsorted(label, np.arange(num_classes + 1))
    return [slice(begin, end) for begin, end in itertools.pairwise(bounds)]


def _text(kind: str, names: Sequence[str]) -> np.ndarray:
    """Names as an array. Numpy fills text up with NULs, so that a name's own at its end would be lost."""
    for name in names:
        if str(name).endswith("\0"):
            raise InputError(
                f"{kind} {name!r}: ends in a NUL character; expected a name that numpy's text can hold"
            )
    return np.array(names, dtype=str)
