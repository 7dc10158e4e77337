"""DETAD's buckets: ground truth instances grouped by length, by share of their video and by crowding."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

__all__ = ["EDGES", "Bucket", "BucketSet", "buckets_for", "into_buckets"]

BucketSet = Literal["activitynet", "thumos14"]
_SIZES = ("XS", "S", "M", "L", "XL")
EDGES = {  # bounds of the buckets: seconds, share of the video, instances in the video
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
    """Instances with a quantity in (lower, upper]; the first bucket includes its lower bound."""

    name: str  # XS, S, M, L, XL
    lower: float
    upper: float  # may be inf
    instances: int
    missed: int  # how many of these instances no detection is matched with


def buckets_for(length: np.ndarray) -> BucketSet:
    """The data set whose buckets suit (G,) lengths in seconds: THUMOS14's if the median is at most 18 s.

    Of longer instances, most would be in THUMOS14's bucket XL.
    """
    return "thumos14" if np.median(length) <= EDGES["thumos14"]["length"][-2] else "activitynet"


def into_buckets(values: np.ndarray, missed: np.ndarray, edges: Sequence[float]) -> tuple[Bucket, ...]:
    """Counts instances per bucket.

    Args:
        values: (G,) float, the quantity of each instance, in the edges' unit; one above the last edge is
            counted in the last bucket.
        missed: (G,) bool, whether no detection is matched with the instance.
        edges: bounds of the buckets, ascending, one more than there are buckets.

    Returns:
        One `Bucket` between each two edges.
    """
    num_buckets = len(edges) - 1
    bucket = np.minimum(np.searchsorted(edges[1:], values, side="left"), num_buckets - 1)
    instances = np.bincount(bucket, minlength=num_buckets).tolist()
    missing = np.bincount(bucket[missed], minlength=num_buckets).tolist()
    return tuple(map(Bucket, _SIZES, edges[:-1], edges[1:], instances, missing))
