"""How well each video is served: average precision within a video alone."""

from collections.abc import Sequence

import numpy as np

from case_jax.evaluation.matching import Segments
from case_jax.evaluation.mean_average_precision import detection_map

__all__ = ["per_video_ap"]


def per_video_ap(
    ground_truth: Segments, detections: Segments, tiou_thresholds: Sequence[float]
) -> dict[str, float]:
    """Mean AP within each video, over the classes that are annotated there.

    Detections of a class that is not annotated in their video do not count.

    Args:
        ground_truth: instances, in seconds; their order breaks ties in tIoU.
        detections: detections with scores, in seconds and in any order.
        tiou_thresholds: (Q,) thresholds in (0, 1].

    Returns:
        Name of each video with ground truth -> mean AP over its annotated classes and the thresholds, in
        [0, 1]. The worst video comes first; equal ones are ordered by name.

    Raises:
        ValueError: if there is no ground truth or no threshold.

    Example:
        >>> from case_jax.evaluation.matching import make_segments
        >>> jump = {"label": "Jump", "segment": (0.0, 10.0), "score": 0.9}
        >>> truth = make_segments({"v": [jump], "w": [jump, jump | {"label": "Run"}]})
        >>> per_video_ap(truth, make_segments({"v": [jump], "w": [jump]}), [0.5])
        {'w': 0.5, 'v': 1.0}
    """
    videos, truth_video = np.unique(ground_truth.video, return_inverse=True)
    classes, truth_label = np.unique(ground_truth.label, return_inverse=True)
    video, label = _positions(videos, detections.video), _positions(classes, detections.label)
    # Each (video, class) is evaluated as a class of its own; detection_map drops those without ground truth.
    pair = np.where((video < 0) | (label < 0), -1, video * len(classes) + label)
    result = detection_map(
        ground_truth._replace(video=truth_video, label=truth_video * len(classes) + truth_label),
        detections._replace(video=video, label=pair),
        tiou_thresholds,
    )
    video_of_pair = np.array(result.classes) // len(classes)
    ap = np.bincount(video_of_pair, result.per_class.mean(axis=1)) / np.bincount(video_of_pair)
    order = np.argsort(ap, kind="stable")
    return dict(zip(videos[order].tolist(), ap[order].tolist()))


def _positions(known: np.ndarray, names: np.ndarray) -> np.ndarray:
    """(D,) positions of ``names`` in the sorted ``known`` names; -1 for unknown ones."""
    if not known.size:
        return np.full(names.size, -1)
    position = np.minimum(np.searchsorted(known, names), known.size - 1)
    return np.where(known[position] == names, position, -1)
