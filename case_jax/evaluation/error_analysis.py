"""What the errors of detections are and what they cost, as DETAD takes them apart.

Alwassel, Caba Heilbron, Escorcia and Ghanem, "Diagnosing Error in Temporal Action Detectors", ECCV 2018. At a
threshold α, each detection has one of six outcomes:

| outcome | meaning |
| --- | --- |
| true positive | it is matched, by the rules of `case_jax.evaluation.matching` |
| double detection | tIoU >= α with an instance of its class, which a better detection has taken |
| wrong label | tIoU >= α with an instance of another class |
| localization | background_tiou <= tIoU < α with an instance of its class |
| confusion | background_tiou <= tIoU < α with an instance of another class |
| background | tIoU < background_tiou with every instance of its video |

A true positive is never anything else. Where several of the others apply, the instance of highest tIoU in
the video decides, whatever its class; of equal tIoUs, an instance of the detection's own class (THUMOS14
labels every cliff dive as a dive too, second for second).

DETAD's code differs in three ways: in that tie it takes the first instance in the file; it measures gains in
a mAP with normalised precision, over the best 10 G detections; and it counts an instance as found only while
that precision is above 5 %. Here mAP is that of `case_jax.evaluation.mean_average_precision`, and all
detections count for both.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from case_jax.evaluation.buckets import EDGES, Bucket, BucketSet, buckets_for, into_buckets
from case_jax.evaluation.matching import Segments, class_slices, match, overlapping_pairs, rank
from case_jax.evaluation.mean_average_precision import average_precision

__all__ = ["ERRORS", "OUTCOMES", "ErrorAnalysis", "analyse_errors"]

ERRORS = ("double detection", "wrong label", "localization", "confusion", "background")
OUTCOMES = ("true positive", *ERRORS)


class ErrorAnalysis(NamedTuple):
    """Errors of detections: which there are, what they cost in mAP, and which instances are missed."""

    tiou: float  # α of the profile, `map`, `gain` and the missed instances
    background_tiou: float
    tiou_thresholds: np.ndarray  # (Q,) α of `average` and `average_gain`
    profile: np.ndarray  # (R, 6) int64, count of each of OUTCOMES among the best r G detections, r = 1 .. R
    map: float  # mAP at `tiou`, in [0, 1]
    average: float  # mean of mAP over `tiou_thresholds`, in [0, 1]
    gain: np.ndarray  # (5,) float64, how much `map` rises without each of ERRORS
    average_gain: np.ndarray  # (5,) float64, how much `average` rises without each of ERRORS
    buckets: BucketSet  # the data set whose bounds the following buckets have
    by_length: tuple[Bucket, ...]  # length of the instance, in seconds
    by_coverage: tuple[Bucket, ...]  # length as a share of the video; () where durations are not known
    by_num_instances: tuple[Bucket, ...]  # number of instances of all classes in the video

    @property
    def bands(self) -> np.ndarray:
        """(R, 6) int64, the profile of the r-th G detections alone: the bars of DETAD's figure."""
        return np.diff(self.profile, axis=0, prepend=0)

    @property
    def num_instances(self) -> int:
        """How many instances there are."""
        return sum(bucket.instances for bucket in self.by_length)

    @property
    def num_missed(self) -> int:
        """How many instances no detection is matched with."""
        return sum(bucket.missed for bucket in self.by_length)


def analyse_errors(
    ground_truth: Segments,
    detections: Segments,
    durations: Mapping[str, float] | None,
    *,
    tiou_thresholds: Sequence[float],
    tiou: float = 0.5,
    background_tiou: float = 0.1,
    max_ratio: int = 10,
    buckets: BucketSet | None = None,
) -> ErrorAnalysis:
    """Takes the errors of detections apart.

    "The best r G detections" are the best r G_c detections of each class with G_c instances, so that no class
    has more than its share. A class with fewer detections contributes all of them.

    To remove an error means to delete all false positives of that kind, at each threshold its own. Matches
    stay as they are, so that mAP cannot fall.

    The buckets have DETAD's bounds, (lower, upper]:

    | | activitynet | thumos14 |
    | --- | --- | --- |
    | length, seconds | 0, 30, 60, 120, 180, inf | 0, 3, 6, 12, 18, inf |
    | coverage | 0, 0.2, 0.4, 0.6, 0.8, 1 | 0, 0.02, 0.04, 0.06, 0.08, 1 |
    | instances in the video | 0, 1, 4, 8, inf | 0, 1, 40, 80, inf |

    DETAD leaves out two kinds of instances that mAP counts. Here, instances without length are in the first
    buckets, and instances that are longer than their video's duration are in the last bucket of coverage.

    Args:
        ground_truth: instances, in seconds; their order breaks ties in tIoU.
        detections: detections with scores, in seconds and in any order. Those of classes without ground truth
            do not count; those in videos without ground truth are background.
        durations: seconds of every video with ground truth, by name; None where they are not known.
        tiou_thresholds: (Q,) thresholds in (0, 1] over which `average` and `average_gain` are averaged.
        tiou: threshold in (0, 1] of everything else.
        background_tiou: in (0, 1]; at thresholds up to it, no error is localization or confusion.
        max_ratio: R, the largest r.
        buckets: the data set whose bounds to use; None for "thumos14" where the median instance lasts 18 s or
            less, and "activitynet" where it lasts longer.

    Returns:
        `ErrorAnalysis`.

    Raises:
        ValueError: if there is no ground truth or no threshold, a number is out of its range, or a video's
            duration is missing or not positive.

    Example:
        >>> from case_jax.evaluation.matching import make_segments
        >>> truth = make_segments({"v": [{"label": "Jump", "segment": (0.0, 10.0)}]})
        >>> late = {"label": "Jump", "segment": (6.0, 12.0), "score": 0.9}
        >>> found = make_segments({"v": [late, {"label": "Jump", "segment": (0.0, 8.0), "score": 0.5}]})
        >>> result = analyse_errors(truth, found, {"v": 60.0}, tiou_thresholds=[0.5], max_ratio=2)
        >>> [dict(zip(OUTCOMES, row))["localization"] for row in result.profile.tolist()]
        [1, 1]
        >>> result.map, dict(zip(ERRORS, result.gain.tolist()))["localization"]
        (0.5, 0.5)
        >>> result.by_length[2]
        Bucket(name='M', lower=6.0, upper=12.0, instances=1, missed=0)
    """
    thresholds = np.array([tiou, *tiou_thresholds], np.float64)
    if not ground_truth.label.size or thresholds.size == 1:
        raise ValueError("error analysis needs at least one ground truth and one tIoU threshold")
    for name, value in (("tiou", tiou), ("background_tiou", background_tiou)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} must be in (0, 1], got {value}")
    if max_ratio < 1:
        raise ValueError(f"max_ratio must be 1 or more, got {max_ratio}")
    if buckets is None:
        buckets = buckets_for(ground_truth.end - ground_truth.start)
    elif buckets not in EDGES:
        raise ValueError(f"buckets must be one of {', '.join(EDGES)}, got {buckets!r}")
    seconds = None if durations is None else _durations(ground_truth, durations)

    truth, detections = _number_videos(ground_truth, detections)
    classes, truth_label = np.unique(truth.label, return_inverse=True)
    counts = np.bincount(truth_label)
    detections, label = rank(detections, classes)
    hit = match(truth, truth_label, detections, label, thresholds)
    outcome = _outcomes(truth, truth_label, detections, label, hit, thresholds, background_tiou)
    ap, rise = _removal(hit, outcome, class_slices(label, len(classes)), counts)

    missed = ~_found(truth, truth_label, detections, label, hit[0], tiou)
    length = truth.end - truth.start
    edges = EDGES[buckets]
    return ErrorAnalysis(
        tiou=tiou,
        background_tiou=background_tiou,
        tiou_thresholds=thresholds[1:],
        profile=_profile(outcome[0], label, counts, max_ratio),
        map=float(ap[0]),
        average=float(ap[1:].mean()),
        gain=rise[0],
        average_gain=rise[1:].mean(axis=0),
        buckets=buckets,
        by_length=into_buckets(length, missed, edges["length"]),
        by_coverage=() if seconds is None else into_buckets(length / seconds, missed, edges["coverage"]),
        by_num_instances=into_buckets(np.bincount(truth.video)[truth.video], missed, edges["num_instances"]),
    )


def _number_videos(truth: Segments, detections: Segments) -> tuple[Segments, Segments]:
    """Replaces the names of videos by numbers in the same order, which sort and compare faster."""
    together = np.concatenate([truth.video, detections.video])
    video = np.unique(together, return_inverse=True)[1]
    count = truth.video.size
    return truth._replace(video=video[:count]), detections._replace(video=video[count:])


def _durations(truth: Segments, durations: Mapping[str, float]) -> np.ndarray:
    """(G,) float64 seconds, the duration of each instance's video."""
    videos, of_instance = np.unique(truth.video, return_inverse=True)
    for name in videos.tolist():
        seconds = durations.get(name)
        if seconds is None or not 0 < seconds < math.inf:
            raise ValueError(
                f"video {name!r} has the duration {seconds}; "
                "expected seconds above 0, of every video with ground truth"
            )
    return np.array([durations[name] for name in videos.tolist()], np.float64)[of_instance]


def _outcomes(
    truth: Segments,
    truth_label: np.ndarray,
    detections: Segments,
    label: np.ndarray,
    hit: np.ndarray,
    thresholds: np.ndarray,
    background_tiou: float,
) -> np.ndarray:
    """Outcome of each detection at each threshold.

    Args:
        truth: G instances.
        truth_label: (G,) int, their classes.
        detections: D detections in rank order.
        label: (D,) int, their classes.
        hit: (Q, D) bool, true positives.
        thresholds: (Q,) tIoU thresholds.
        background_tiou: tIoU below which a detection is background.

    Returns:
        (Q, D) int, positions in OUTCOMES.
    """
    anything = np.zeros_like(truth_label), np.zeros_like(label)  # all classes as one
    detection, instance, overlap = overlapping_pairs(truth, anything[0], detections, anything[1])
    best, best_of_class = np.zeros((2, label.size))
    np.maximum.at(best, detection, overlap)
    own = truth_label[instance] == label[detection]
    np.maximum.at(best_of_class, detection[own], overlap[own])

    right = best_of_class == best  # also where a detection overlaps nothing, which is background
    reached = best >= thresholds[:, None]
    near = np.broadcast_to(best >= background_tiou, hit.shape)
    return np.select([hit, reached & right, reached, near & right, near], range(5), 5)


def _profile(outcome: np.ndarray, label: np.ndarray, counts: np.ndarray, max_ratio: int) -> np.ndarray:
    """(R, 6) profile from the (D,) outcomes in rank order; ``counts`` are the instances of each class."""
    first = np.searchsorted(label, np.arange(counts.size))
    band = (np.arange(label.size) - first[label]) // counts[
        label
    ]  # 0 for a class's best G_c detections, 1 for the next G_c ...
    counted = band < max_ratio
    cells = band[counted] * len(OUTCOMES) + outcome[counted]
    bands = np.bincount(cells, minlength=max_ratio * len(OUTCOMES)).reshape(max_ratio, len(OUTCOMES))
    return np.cumsum(bands, axis=0)


def _removal(
    hit: np.ndarray, outcome: np.ndarray, slices: Sequence[slice], counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(Q,) mAP, and (Q, 5) how much it rises without each of ERRORS; ``slices`` are those of the classes."""
    ap = np.zeros((len(slices), hit.shape[0]))
    rise = np.zeros((len(slices), hit.shape[0], len(ERRORS)))
    for c, (of_class, count) in enumerate(zip(slices, counts)):
        ap[c] = average_precision(hit[:, of_class], count)
        for q, (hits, kinds) in enumerate(zip(hit[:, of_class], outcome[:, of_class])):
            for error in np.unique(kinds[~hits]).tolist():
                without = average_precision(hits[None, kinds != error], count).item()
                # The sum over fewer detections rounds differently; no gain must not become a loss.
                rise[c, q, error - 1] = max(0.0, without - ap[c, q])
    return ap.mean(axis=0), rise.mean(axis=0)


def _found(
    truth: Segments,
    truth_label: np.ndarray,
    detections: Segments,
    label: np.ndarray,
    hit: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """(G,) bool: whether each instance is matched, by the (D,) true positives in rank order."""
    true_positives = Segments(*(column[hit] for column in detections))
    detection, instance, overlap = overlapping_pairs(truth, truth_label, true_positives, label[hit])
    enough = overlap >= threshold
    found = np.zeros(truth_label.size, bool)
    served = -1
    for d, i in zip(detection[enough].tolist(), instance[enough].tolist()):
        if d != served and not found[i]:
            found[i] = True
            served = d
    return found
