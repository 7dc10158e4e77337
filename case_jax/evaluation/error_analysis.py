"""What the errors of detections are and what they cost, as DETAD takes them apart.

Alwassel, Caba Heilbron, Escorcia and Ghanem, "Diagnosing Error in Temporal Action Detectors", ECCV 2018. A
detection is one of six at a threshold α:

| | what it is |
| --- | --- |
| true positive | matched, by the rules of `case_jax.evaluation.matching` |
| double detection | tIoU >= α with an instance of its class, which a better detection has taken |
| wrong label | tIoU >= α with an instance of another class |
| localization | background_tiou <= tIoU < α with an instance of its class |
| confusion | the same with an instance of another class |
| background | tIoU < background_tiou with every instance of its video |

Where several hold, a true positive is nothing else, and the instance of highest tIoU in the video, whatever
its class, decides among the others; of equal tIoU one of the detection's own class (THUMOS14 labels every
cliff dive as a dive too, second for second). DETAD's code is the same but for that tie, where it takes the
first in the file. It also differs in what it measures: gains in a mAP with normalised precision, of the best
10 G detections, and as found only what is found while that precision is above 5 %. Here mAP is that of
`case_jax.evaluation.mean_average_precision`, and all detections count for both.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from case_jax.evaluation.matching import Segments, class_slices, match, overlapping_pairs, rank
from case_jax.evaluation.mean_average_precision import average_precision, detection_map

__all__ = [
    "ERRORS",
    "OUTCOMES",
    "Bucket",
    "BucketSet",
    "ErrorAnalysis",
    "analyse_errors",
    "per_video_ap",
]

ERRORS = ("double detection", "wrong label", "localization", "confusion", "background")
OUTCOMES = ("true positive", *ERRORS)

BucketSet = Literal["activitynet", "thumos14"]
_SIZES = ("XS", "S", "M", "L", "XL")
_EDGES = {
    "activitynet": {
        "length": (0.0, 30.0, 60.0, 120.0, 180.0, math.inf),
        "coverage": (0.0, 0.2, 0.4, 0.6, 0.8, 1.0),
        "num_instances": (0.0, 1.0, 4.0, 8.0, math.inf),
    },
    "thumos14": {
        "length": (0.0, 3.0, 6.0, 12.0, 18.0, math.inf),
        "coverage": (0.0, 0.02, 0.04, 0.06, 0.08, 1.0),
        "num_instances": (0.0, 1.0, 40.0, 80.0, math.inf),
    },
}


class Bucket(NamedTuple):
    """The instances of which something is in (lower, upper]; the first bucket includes its lower bound."""

    name: str  # XS, S, M, L, XL
    lower: float
    upper: float  # may be inf
    instances: int
    missed: int  # of these, those that no detection is matched with


class ErrorAnalysis(NamedTuple):
    """Errors of detections: which they are, what they cost in mAP, and what is missed."""

    tiou: float  # α of the profile, of `map`, `gain` and of what is missed
    background_tiou: float
    tiou_thresholds: np.ndarray  # (Q,) α of `average` and `average_gain`
    profile: np.ndarray  # (R, 6) int64 detections of each of OUTCOMES among the best r G, r = 1 .. R
    map: float  # mAP at `tiou`, in [0, 1]
    average: float  # mean of mAP over `tiou_thresholds`
    gain: np.ndarray  # (5,) by how much `map` rises without each of ERRORS
    average_gain: np.ndarray  # (5,) by how much `average` does
    buckets: BucketSet  # whose bounds those of the following are
    by_length: tuple[Bucket, ...]  # length of the instance, seconds
    by_coverage: tuple[Bucket, ...]  # the same as a share of its video; () where durations are not known
    by_num_instances: tuple[Bucket, ...]  # instances of all classes in its video

    @property
    def bands(self) -> np.ndarray:
        """(R, 6) int64: of the r-th G detections alone, the bars of DETAD's figure."""
        return np.diff(self.profile, axis=0, prepend=0)

    @property
    def num_instances(self) -> int:
        """Instances there are."""
        return sum(bucket.instances for bucket in self.by_length)

    @property
    def num_missed(self) -> int:
        """Instances that no detection is matched with."""
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

    The best r G detections are, class by class, the best r G_c of each class with G_c instances, so that no
    class has more than its share; a class with fewer detections gives what it has.

    To remove an error is to delete the false positives of that kind, each threshold's own. The matches stay
    as they are, so that mAP cannot fall.

    Bounds of the buckets are DETAD's, (lower, upper]:

    | | activitynet | thumos14 |
    | --- | --- | --- |
    | length, seconds | 0, 30, 60, 120, 180, inf | 0, 3, 6, 12, 18, inf |
    | coverage | 0, 0.2, 0.4, 0.6, 0.8, 1 | 0, 0.02, 0.04, 0.06, 0.08, 1 |
    | instances in the video | 0, 1, 4, 8, inf | 0, 1, 40, 80, inf |

    Instances without length, which DETAD leaves out, are in the first buckets, as mAP counts them; those
    longer than their video is said to be, which it leaves out too, are in the last bucket of coverage.

    Args:
        ground_truth: instances; their order breaks ties in tIoU.
        detections: scored detections in any order; those of classes without ground truth do not count,
            those in videos without ground truth are background.
        durations: video name -> seconds, of every video with ground truth; None where they are not known.
        tiou_thresholds: (Q,) thresholds in (0, 1] to average the gain over.
        tiou: threshold in (0, 1] of all else.
        background_tiou: in (0, 1]; at thresholds that are no higher, nothing is localization or confusion.
        max_ratio: R, the largest r.
        buckets: whose bounds to take; None for "thumos14" where the median instance lasts 18 s or less
            (otherwise most would be in its bucket XL) and "activitynet" where it lasts longer.

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
        median = np.median(ground_truth.end - ground_truth.start)
        buckets = "thumos14" if median <= _EDGES["thumos14"]["length"][-2] else "activitynet"
    elif buckets not in _EDGES:
        raise ValueError(f"buckets must be one of {', '.join(_EDGES)}, got {buckets!r}")
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
    edges = _EDGES[buckets]
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
        by_length=_in_buckets(length, missed, edges["length"]),
        by_coverage=() if seconds is None else _in_buckets(length / seconds, missed, edges["coverage"]),
        by_num_instances=_in_buckets(np.bincount(truth.video)[truth.video], missed, edges["num_instances"]),
    )


def per_video_ap(
    ground_truth: Segments, detections: Segments, tiou_thresholds: Sequence[float]
) -> dict[str, float]:
    """How well each video is served: AP within it alone, of its own classes.

    Detections of classes that are not annotated in their video do not count there.

    Args:
        ground_truth: as `detection_map`.
        detections: as `detection_map`.
        tiou_thresholds: (Q,) thresholds in (0, 1].

    Returns:
        Video name -> mean over its annotated classes and the thresholds, in [0, 1], of every video with
        ground truth; the worst first, equal ones by name.

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
    # Each (video, class) is a class of its own. Those without ground truth detection_map leaves out itself.
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


def _number_videos(truth: Segments, detections: Segments) -> tuple[Segments, Segments]:
    """Numbers in place of videos' names, in the order of the names: what is sorted and sought is faster."""
    together = np.concatenate([truth.video, detections.video])
    video = np.unique(together, return_inverse=True)[1]
    count = truth.video.size
    return truth._replace(video=video[:count]), detections._replace(video=video[count:])


def _positions(known: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Where names are among the known ones, which are sorted; -1 for others."""
    if not known.size:
        return np.full(names.size, -1)
    position = np.minimum(np.searchsorted(known, names), known.size - 1)
    return np.where(known[position] == names, position, -1)


def _durations(truth: Segments, durations: Mapping[str, float]) -> np.ndarray:
    """(G,) seconds that the video of each instance lasts."""
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
    """(Q, D) which of OUTCOMES each detection is at each threshold."""
    anything = np.zeros_like(truth_label), np.zeros_like(label)  # all classes as one
    detection, instance, overlap = overlapping_pairs(truth, anything[0], detections, anything[1])
    best, best_of_class = np.zeros((2, label.size))
    np.maximum.at(best, detection, overlap)
    own = truth_label[instance] == label[detection]
    np.maximum.at(best_of_class, detection[own], overlap[own])

    right = best_of_class == best  # where neither overlaps anything, it is background
    reached = best >= thresholds[:, None]
    near = np.broadcast_to(best >= background_tiou, hit.shape)
    return np.select([hit, reached & right, reached, near & right, near], range(5), 5)


def _profile(outcome: np.ndarray, label: np.ndarray, counts: np.ndarray, max_ratio: int) -> np.ndarray:
    """(R, 6) from the (D,) outcomes in rank order."""
    first = np.searchsorted(label, np.arange(counts.size))
    band = (np.arange(label.size) - first[label]) // counts[label]  # of G_c detections each, the best first
    counted = band < max_ratio
    cells = band[counted] * len(OUTCOMES) + outcome[counted]
    bands = np.bincount(cells, minlength=max_ratio * len(OUTCOMES)).reshape(max_ratio, len(OUTCOMES))
    return np.cumsum(bands, axis=0)


def _removal(
    hit: np.ndarray, outcome: np.ndarray, slices: Sequence[slice], counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(Q,) mAP, and (Q, 5) by how much it rises without each of the errors."""
    ap = np.zeros((len(slices), hit.shape[0]))
    rise = np.zeros((len(slices), hit.shape[0], len(ERRORS)))
    for c, (of_class, count) in enumerate(zip(slices, counts)):
        ap[c] = average_precision(hit[:, of_class], count)
        for q, (hits, kinds) in enumerate(zip(hit[:, of_class], outcome[:, of_class])):
            for error in np.unique(kinds[~hits]).tolist():
                without = average_precision(hits[None, kinds != error], count).item()
                # Sums of other lengths round otherwise: what gains nothing must not lose.
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
    """(G,) bool: whether an instance is matched; by the (D,) true positives, which take theirs in turn."""
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


def _in_buckets(values: np.ndarray, missed: np.ndarray, edges: Sequence[float]) -> tuple[Bucket, ...]:
    num_buckets = len(edges) - 1
    bucket = np.minimum(np.searchsorted(edges[1:], values, side="left"), num_buckets - 1)
    instances = np.bincount(bucket, minlength=num_buckets).tolist()
    missing = np.bincount(bucket[missed], minlength=num_buckets).tolist()
    return tuple(map(Bucket, _SIZES, edges[:-1], edges[1:], instances, missing))
