"""Detection mAP by the ActivityNet protocol, vectorised over detections, classes and tIoU thresholds.

Where the protocol leaves a choice open, the rules of `case_jax.evaluation.matching` apply. AP is the area
under the precision-recall curve, after precision was made non-increasing (VOC 2011). Other protocols are in
`case_jax.evaluation.protocols`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from case_jax.evaluation.matching import Segments, class_slices, match, rank

__all__ = ["DetectionMap", "average_over", "average_precision", "detection_map"]


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


def detection_map(
    ground_truth: Segments, detections: Segments, tiou_thresholds: Sequence[float]
) -> DetectionMap:
    """Average precision of detections against ground truth.

    Args:
        ground_truth: instances, in seconds; their order breaks ties in tIoU.
        detections: detections with scores, in seconds and in any order. Those of classes without ground truth
            do not count; those in videos without ground truth of their class are false positives.
        tiou_thresholds: (Q,) thresholds in (0, 1].

    Returns:
        `DetectionMap` over the classes of ``ground_truth``.

    Raises:
        ValueError: if there is no ground truth or no threshold, or a score or a bound is NaN or infinite.

    Example:
        >>> from case_jax.evaluation.matching import make_segments
        >>> truth = make_segments({"v": [{"label": "Jump", "segment": (0.0, 10.0)}]})
        >>> found = make_segments({"v": [{"label": "Jump", "segment": (0.0, 4.0), "score": 0.9}]})
        >>> detection_map(truth, found, [0.3, 0.5]).per_tiou.tolist()
        [1.0, 0.0]
    """
    thresholds = np.asarray(tiou_thresholds, np.float64)
    if not ground_truth.label.size or not thresholds.size:
        raise ValueError("detection mAP needs at least one ground truth and one tIoU threshold")
    classes, truth_label = np.unique(ground_truth.label, return_inverse=True)
    detections, label = rank(detections, classes)
    hit = match(ground_truth, truth_label, detections, label, thresholds)
    per_class = np.stack(
        [
            average_precision(hit[:, of_class], count)
            for of_class, count in zip(class_slices(label, len(classes)), np.bincount(truth_label))
        ]
    )
    return DetectionMap(thresholds, tuple(classes.tolist()), per_class)


def average_over(result: DetectionMap, first: float, last: float) -> float | None:
    """Mean of mAP over thresholds first .. last in steps of 0.1 (0.1:0.5, 0.3:0.7, ...).

    Args:
        result: mAP at thresholds in any order.
        first: first threshold, included.
        last: last threshold, included.

    Returns:
        The mean in [0, 1]; None if one of these thresholds was not evaluated.
    """
    wanted = np.arange(round(first * 10), round(last * 10) + 1) / 10
    close = np.abs(result.tiou[:, None] - wanted[None, :]) < 1e-9
    if not close.any(axis=0).all():
        return None
    return float(result.per_tiou[close.any(axis=1)].mean())


def average_precision(hit: np.ndarray, instances: int, *, interpolated: bool = True) -> np.ndarray:
    """AP of one class at each threshold: the mean over instances of the precision at which each was found.

    Args:
        hit: (Q, D) bool, which detections are true positives, in rank order.
        instances: number of instances of the class; an instance that is not found counts as 0.
        interpolated: whether to make precision non-increasing first (VOC 2011).

    Returns:
        (Q,) in [0, 1].
    """
    if not hit.shape[1]:
        return np.zeros(hit.shape[0])
    precision = np.cumsum(hit, axis=1) / np.arange(1, hit.shape[1] + 1)
    if interpolated:
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Recall grows by 1 / instances at each true positive.
    return np.sum(precision * hit, axis=1) / instances
