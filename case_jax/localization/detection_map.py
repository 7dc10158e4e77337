"""Detection mAP by the ActivityNet protocol, vectorised over detections, classes and tIoU thresholds.

Rules where the protocol leaves a choice:
- Detections of a class are taken by falling score; equal scores by (video name, start, end), so that the
  order of the input never matters.
- A detection is matched with the free ground truth of highest tIoU that reaches the threshold; of equal
  tIoU the earlier in the ground truth's own order. A ground truth is matched once.
- A threshold is reached where tIoU >= threshold.
- AP is the area under the precision-recall curve with precision made non-increasing (VOC 2011).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from case_jax.localization.detections import Detections, concatenate

__all__ = [
    "DetectionMap",
    "Segments",
    "average_over",
    "detected_segments",
    "detection_map",
    "make_segments",
]


class Segments(NamedTuple):
    """Labelled segments of many videos: ground truth, or detections with scores."""

    video: np.ndarray  # (D,) text
    label: np.ndarray  # (D,) text
    start: np.ndarray  # (D,) float64 seconds
    end: np.ndarray  # (D,) float64 seconds
    score: np.ndarray  # (D,) float64; zeros for ground truth


class DetectionMap(NamedTuple):
    """Average precision per class and threshold."""

    tiou: np.ndarray  # (Q,) thresholds
    classes: tuple[str, ...]  # classes with ground truth, alphabetical
    per_class: np.ndarray  # (G, Q) AP in [0, 1]

    @property
    def per_tiou(self) -> np.ndarray:
        """(Q,) mAP at each threshold."""
        return self.per_class.mean(axis=0)

    @property
    def average(self) -> float:
        """Mean of mAP over all thresholds."""
        return float(self.per_tiou.mean())


def detected_segments(videos: Mapping[str, Detections], classes: Sequence[str]) -> Segments:
    """Flattens the detections of many videos; ``classes`` are the names that their labels index."""
    counts = [found.label.size for found in videos.values()]
    together = concatenate(list(videos.values()))
    return Segments(
        np.repeat(np.array(list(videos), dtype=str), counts),
        np.array(classes, dtype=str)[together.label],
        together.start,
        together.end,
        together.score,
    )


def make_segments(videos: Mapping[str, Sequence[Mapping]]) -> Segments:
    """Flattens per-video lists of {"label", "segment", and "score" for detections}, keeping their order."""
    rows = [(video, entry) for video, entries in videos.items() for entry in entries]
    return Segments(
        np.array([video for video, _ in rows], dtype=str),
        np.array([entry["label"] for _, entry in rows], dtype=str),
        np.array([entry["segment"][0] for _, entry in rows], np.float64),
        np.array([entry["segment"][1] for _, entry in rows], np.float64),
        np.array([entry.get("score", 0.0) for _, entry in rows], np.float64),
    )


def detection_map(
    ground_truth: Segments, detections: Segments, tiou_thresholds: Sequence[float]
) -> DetectionMap:
    """Average precision of detections against ground truth.

    Args:
        ground_truth: instances; their order breaks ties in tIoU.
        detections: scored detections in any order; those of classes without ground truth do not count,
            those in videos without ground truth of their class are false positives.
        tiou_thresholds: (Q,) thresholds in (0, 1].

    Returns:
        `DetectionMap` over the classes of ``ground_truth``.

    Raises:
        ValueError: if there is no ground truth or no threshold.

    Example:
        >>> truth = make_segments({"v": [{"label": "Jump", "segment": (0.0, 10.0)}]})
        >>> found = make_segments({"v": [{"label": "Jump", "segment": (0.0, 4.0), "score": 0.9}]})
        >>> detection_map(truth, found, [0.3, 0.5]).per_tiou.tolist()
        [1.0, 0.0]
    """
    thresholds = np.asarray(tiou_thresholds, np.float64)
    if not ground_truth.label.size or not thresholds.size:
        raise ValueError("detection mAP needs at least one ground truth and one tIoU threshold")
    classes, truth_label = np.unique(ground_truth.label, return_inverse=True)
    detections, label = _rank(detections, classes)
    hit = _match(ground_truth, truth_label, detections, label, thresholds)

    # Both are sorted by class: each class is one slice.
    bounds = np.searchsorted(label, np.arange(len(classes) + 1))
    instances = np.bincount(truth_label, minlength=len(classes))
    per_class = np.stack(
        [
            _average_precision(hit[:, begin:end], count)
            for begin, end, count in zip(bounds[:-1], bounds[1:], instances)
        ]
    )
    return DetectionMap(thresholds, tuple(classes.tolist()), per_class)


def average_over(result: DetectionMap, first: float, last: float) -> float | None:
    """Mean of mAP over thresholds first .. last in steps of 0.1 (0.1:0.5, 0.3:0.7, ...).

    Args:
        result: of `detection_map`.
        first: first threshold, included.
        last: last threshold, included.

    Returns:
        The mean, or None where not all of these thresholds were evaluated.
    """
    wanted = np.arange(round(first * 10), round(last * 10) + 1) / 10
    close = np.abs(result.tiou[:, None] - wanted[None, :]) < 1e-9
    if not close.any(axis=0).all():
        return None
    return float(result.per_tiou[close.any(axis=1)].mean())


def _rank(detections: Segments, classes: np.ndarray) -> tuple[Segments, np.ndarray]:
    """Detections of known classes, by class and the documented order, and their class indices."""
    label = np.minimum(np.searchsorted(classes, detections.label), len(classes) - 1)
    known = np.flatnonzero(classes[label] == detections.label)
    label = label[known]
    detections = Segments(*(column[known] for column in detections))
    order = np.lexsort((detections.end, detections.start, detections.video, -detections.score, label))
    return Segments(*(column[order] for column in detections)), label[order]


def _match(
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
    detection, instance, overlap = _overlapping_pairs(truth, truth_label, detections, label)
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


def _overlapping_pairs(
    truth: Segments, truth_label: np.ndarray, detections: Segments, label: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All (detection, ground truth, tIoU) of one class and video with tIoU > 0, in matching order."""
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
    shared = np.maximum(0.0, np.minimum(end, truth_end) - np.maximum(start, truth_start))
    union = (end - start) + (truth_end - truth_start) - shared
    overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

    some = overlap > 0
    detection, instance, overlap = detection[some], instance[some], overlap[some]
    order = np.lexsort((instance, -overlap, detection))
    return detection[order], instance[order], overlap[order]


def _average_precision(hit: np.ndarray, instances: int) -> np.ndarray:
    """(Q,) interpolated AP of one class from (Q, D) true positives in rank order."""
    if not hit.shape[1]:
        return np.zeros(hit.shape[0])
    precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Recall grows by 1 / instances at each true positive.
    return np.sum(precision * hit, axis=1) / instances
