"""The conventions by which results on THUMOS14 are published.

| | activitynet (`detection_map`) | thumos14 | wtalc |
| --- | --- | --- | --- |
| used by | ActivityNet's evaluator | the official evaluator | W-TALC and its successors |
| "Ambiguous" intervals | do not matter | excuse false positives | delete touching detections |
| a match needs | tIoU >= threshold | tIoU > threshold | tIoU >= threshold |
| tIoU is in | seconds | seconds | whole snippets |
| AP uses | non-increasing precision | precision at instances | precision at instances |

In these three, detections choose their instance by falling score. The loop in THUMOS14's own Matlab kit works
the other way round: instances choose their best detection, however unsure it is, and surer detections become
false positives. The protocol "thumos14_kit" does that. It makes no difference where suppression leaves one
detection per action, and a large one where it leaves many.

In all protocols, ties are resolved as in `case_jax.evaluation.matching`, "Ambiguous" is never a class, and in
a video without any action every detection is a false positive of its class.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from case_jax.data.ambiguous import AMBIGUOUS, is_ambiguous
from case_jax.data.info import THUMOS14
from case_jax.evaluation.matching import Segments, class_slices, match, overlapping_pairs, rank
from case_jax.evaluation.mean_average_precision import DetectionMap, average_precision, detection_map

__all__ = ["AMBIGUOUS", "PROTOCOLS", "Given", "Protocol", "map_by_protocol", "thumos14_map", "wtalc_map"]


def map_by_protocol(
    protocol: str,
    ground_truth: Segments,
    detections: Segments,
    tiou_thresholds: Sequence[float],
    *,
    ambiguous: Segments | None = None,
    seconds_per_snippet: float = THUMOS14.seconds_per_snippet,
) -> DetectionMap:
    """Average precision by one of the conventions.

    Args:
        protocol: a name in `PROTOCOLS`.
        ground_truth: instances, in seconds; their order breaks ties in tIoU.
        detections: detections with scores, in seconds and in any order.
        tiou_thresholds: (Q,) thresholds in (0, 1].
        ambiguous: ambiguous intervals besides the ground truth that is labelled "Ambiguous", in seconds; the
            protocol "activitynet" ignores both.
        seconds_per_snippet: the grid of "wtalc"; other protocols ignore it.

    Returns:
        `DetectionMap`.

    Raises:
        ValueError: if there is no ground truth or no threshold, or the protocol is unknown.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    given = Given(ground_truth, detections, tiou_thresholds, ambiguous, seconds_per_snippet)
    return PROTOCOLS[protocol].score(given)


def thumos14_map(
    ground_truth: Segments,
    detections: Segments,
    tiou_thresholds: Sequence[float],
    *,
    ambiguous: Segments | None = None,
    instances_choose: bool = False,
) -> DetectionMap:
    """Average precision by the official conventions of THUMOS14.

    A detection that matches no instance is a false positive, unless it overlaps an ambiguous interval. A
    detection that matches an instance always counts.

    Args:
        ground_truth: instances, in seconds; those labelled "Ambiguous" are ambiguous intervals.
        detections: detections with scores, in seconds and in any order.
        tiou_thresholds: (Q,) thresholds in (0, 1]; only a higher tIoU matches.
        ambiguous: more ambiguous intervals, in seconds; their labels are ignored.
        instances_choose: if true, instances choose in their order, as in the Matlab kit: each takes the free
            detection of highest tIoU (of equal ones the surer). If false, detections choose by falling score.

    Returns:
        `DetectionMap`.

    Raises:
        ValueError: if there is no ground truth or no threshold.

    Example:
        >>> from case_jax.evaluation.matching import make_segments
        >>> truth = make_segments({"v": [{"label": "Jump", "segment": (0.0, 10.0)}]})
        >>> surer = {"label": "Jump", "segment": (30.0, 40.0), "score": 0.9}
        >>> found = make_segments({"v": [surer, {"label": "Jump", "segment": (0.0, 8.0), "score": 0.5}]})
        >>> thumos14_map(truth, found, [0.5]).average
        0.5
        >>> unclear = make_segments({"v": [{"label": "Ambiguous", "segment": (39.0, 41.0)}]})
        >>> thumos14_map(truth, found, [0.5], ambiguous=unclear).average
        1.0
    """
    truth, ambiguous, thresholds = _prepare(ground_truth, ambiguous, tiou_thresholds)
    classes, truth_label = np.unique(truth.label, return_inverse=True)
    detections, label = rank(detections, classes)
    if instances_choose:
        pairs = overlapping_pairs(truth, truth_label, detections, label)
        hit = np.stack([_taken(*pairs, threshold, label.size) for threshold in thresholds])
    else:
        above = np.nextafter(thresholds, np.inf)  # the lowest tIoU above each threshold
        hit = match(truth, truth_label, detections, label, above)
    counted = hit | ~_touches(detections, ambiguous)
    return _as_map(thresholds, classes, truth_label, label, hit, counted)


def wtalc_map(
    ground_truth: Segments,
    detections: Segments,
    tiou_thresholds: Sequence[float],
    *,
    ambiguous: Segments | None = None,
    seconds_per_snippet: float = THUMOS14.seconds_per_snippet,
) -> DetectionMap:
    """Average precision as the W-TALC line computes it.

    Bounds of instances and ambiguous intervals are rounded to whole snippets (half to even); bounds of
    detections are rounded down. Detections that then share a snippet with an ambiguous interval are deleted.

    Args:
        ground_truth: instances, in seconds; those labelled "Ambiguous" are ambiguous intervals.
        detections: detections with scores, in seconds and in any order.
        tiou_thresholds: (Q,) thresholds in (0, 1].
        ambiguous: more ambiguous intervals, in seconds; their labels are ignored.
        seconds_per_snippet: distance of the grid's points.

    Returns:
        `DetectionMap`.

    Raises:
        ValueError: if there is no ground truth or no threshold.

    Example:
        >>> from case_jax.evaluation.matching import make_segments
        >>> truth = make_segments({"v": [{"label": "Jump", "segment": (0.0, 1.5)}]})
        >>> found = make_segments({"v": [{"label": "Jump", "segment": (0.0, 1.28), "score": 0.9}]})
        >>> wtalc_map(truth, found, [1.0]).average  # both are snippets 0 and 1
        1.0
    """
    truth, ambiguous, thresholds = _prepare(ground_truth, ambiguous, tiou_thresholds)
    truth = _on_grid(truth, lambda seconds: np.round(seconds / seconds_per_snippet))
    ambiguous = _on_grid(ambiguous, lambda seconds: np.round(seconds / seconds_per_snippet))
    # The small addend keeps whole numbers of snippets whole: their division may round to slightly less.
    detections = _on_grid(detections, lambda seconds: np.floor(seconds / seconds_per_snippet + 1e-6))
    classes, truth_label = np.unique(truth.label, return_inverse=True)
    detections, label = rank(detections, classes)
    kept = ~_touches(detections, ambiguous)
    detections, label = Segments(*(column[kept] for column in detections)), label[kept]
    hit = match(truth, truth_label, detections, label, thresholds)
    return _as_map(thresholds, classes, truth_label, label, hit, np.ones_like(hit))


def _prepare(
    ground_truth: Segments, ambiguous: Segments | None, tiou_thresholds: Sequence[float]
) -> tuple[Segments, Segments, np.ndarray]:
    """Instances, all ambiguous intervals, and thresholds."""
    truth, intervals = _apart(ground_truth)
    thresholds = np.asarray(tiou_thresholds, np.float64)
    if not truth.label.size or not thresholds.size:
        raise ValueError("detection mAP needs at least one ground truth and one tIoU threshold")
    if ambiguous is not None:
        intervals = Segments(*(np.concatenate(columns) for columns in zip(intervals, ambiguous)))
    return truth, intervals, thresholds


def _apart(ground_truth: Segments) -> tuple[Segments, Segments]:
    """Instances of classes, and the intervals that are labelled as ambiguous."""
    labels, of_segment = np.unique(ground_truth.label, return_inverse=True)
    unclear = np.array([is_ambiguous(label) for label in labels.tolist()], bool)[of_segment]
    return (
        Segments(*(column[~unclear] for column in ground_truth)),
        Segments(*(column[unclear] for column in ground_truth)),
    )


def _touches(detections: Segments, intervals: Segments) -> np.ndarray:
    """(D,) bool: whether each detection overlaps an interval of its video; labels are ignored."""
    touched = np.zeros(detections.label.size, bool)
    if intervals.label.size:
        same = np.zeros(intervals.label.size, np.int64)
        pairs = overlapping_pairs(intervals, same, detections, np.zeros(touched.size, np.int64))
        touched[pairs[0]] = True
    return touched


def _taken(
    detection: np.ndarray, instance: np.ndarray, overlap: np.ndarray, threshold: float, count: int
) -> np.ndarray:
    """(D,) bool: which of ``count`` detections are taken by instances that choose one after the other.

    Args:
        detection: (P,) int, detections of overlapping pairs.
        instance: (P,) int, their instances.
        overlap: (P,) float, their tIoU.
        threshold: only a higher tIoU matches.
        count: D.
    """
    free = np.ones(count, bool)
    order = np.lexsort((detection, -overlap, instance))
    order = order[overlap[order] > threshold]
    served = -1
    for i, d in zip(instance[order].tolist(), detection[order].tolist()):
        if i != served and free[d]:
            free[d] = False
            served = i
    return ~free


def _as_map(
    thresholds: np.ndarray,
    classes: np.ndarray,
    truth_label: np.ndarray,
    label: np.ndarray,
    hit: np.ndarray,
    counted: np.ndarray,
) -> DetectionMap:
    """AP from true positives, over the detections that count.

    Args:
        thresholds: (Q,) tIoU thresholds.
        classes: (G,) class names.
        truth_label: (M,) int, classes of the instances.
        label: (D,) int, classes of the detections, ascending.
        hit: (Q, D) bool, true positives in rank order.
        counted: (Q, D) bool, detections that count.
    """
    per_class = np.array(
        [
            [
                average_precision(h[None, of_class][:, c[of_class]], count, interpolated=False).item()
                for h, c in zip(hit, counted)
            ]
            for of_class, count in zip(class_slices(label, len(classes)), np.bincount(truth_label))
        ]
    )
    return DetectionMap(thresholds, tuple(classes.tolist()), per_class)


def _on_grid(segments: Segments, to_grid) -> Segments:
    return segments._replace(start=to_grid(segments.start), end=to_grid(segments.end))


class Given(NamedTuple):
    """What a protocol is given; see `map_by_protocol`."""

    ground_truth: Segments
    detections: Segments
    tiou_thresholds: Sequence[float]
    ambiguous: Segments | None
    seconds_per_snippet: float


class Protocol(NamedTuple):
    """A convention of evaluation."""

    title: str  # under a table of results
    score: Callable[[Given], DetectionMap]
    ambiguous: str  # what it does about ambiguous intervals


def _activitynet(given: Given) -> DetectionMap:
    return detection_map(_apart(given.ground_truth)[0], given.detections, given.tiou_thresholds)


def _thumos14(given: Given, *, instances_choose: bool = False) -> DetectionMap:
    return thumos14_map(*given[:3], ambiguous=given.ambiguous, instances_choose=instances_choose)


def _wtalc(given: Given) -> DetectionMap:
    return wtalc_map(*given[:3], ambiguous=given.ambiguous, seconds_per_snippet=given.seconds_per_snippet)


_EXCUSED = "false positives that overlap one do not count"

# The one list of protocols: name -> what it is and how it scores.
PROTOCOLS = {
    "activitynet": Protocol(
        "ActivityNet protocol", _activitynet, "detections there count as they do without the interval"
    ),
    "thumos14": Protocol("THUMOS14's official protocol", _thumos14, _EXCUSED),
    "thumos14_kit": Protocol(
        "THUMOS14's official protocol, matched as its Matlab kit does",
        functools.partial(_thumos14, instances_choose=True),
        _EXCUSED,
    ),
    "wtalc": Protocol("W-TALC's protocol", _wtalc, "detections that touch one are deleted"),
}
