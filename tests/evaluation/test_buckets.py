import math

import numpy as np
import pytest

from case_jax.evaluation.buckets import EDGES, Bucket, buckets_for, into_buckets
from case_jax.evaluation.error_analysis import analyse_errors
from tests.helpers.segments import as_segments


@pytest.mark.parametrize("length, expected", [(18.0, "thumos14"), (18.001, "activitynet")])
def test_the_median_length_decides_which_buckets_are_used(length, expected):
    assert buckets_for(np.array([1.0, length, 500.0])) == expected
    truth = as_segments([("v", "a", 0, 1), ("v", "a", 0, length), ("v", "a", 0, 500)])
    nothing = as_segments([])
    assert analyse_errors(truth, nothing, None, tiou_thresholds=[0.5]).buckets == expected
    for asked, edges in EDGES.items():
        result = analyse_errors(truth, nothing, None, tiou_thresholds=[0.5], buckets=asked)
        assert result.buckets == asked
        assert result.by_length[0].upper == edges["length"][1]


def test_a_bucket_includes_its_upper_bound_and_the_first_one_also_its_lower_bound():
    values = np.array([0.0, 1.0, 1.5, 2.0, 9.0])
    missed = np.array([True, False, True, False, True])
    assert into_buckets(values, missed, (0.0, 1.0, 2.0, math.inf)) == (
        Bucket("XS", 0.0, 1.0, 2, 1),
        Bucket("S", 1.0, 2.0, 2, 1),
        Bucket("M", 2.0, math.inf, 1, 1),
    )
    assert [bucket.instances for bucket in into_buckets(values, missed, (0.0, 1.0, 2.0))] == [2, 3]
