import numpy as np
import pytest

from case_jax.evaluation.buckets import Bucket
from case_jax.evaluation.error_analysis import ErrorAnalysis
from case_jax.report.page_data import Cluster
from case_jax.report.page_rows import Bar, cluster_rows, gain_rows, missed_rows, profile_rows


@pytest.fixture
def errors():
    return ErrorAnalysis(
        tiou=0.5,
        background_tiou=0.1,
        tiou_thresholds=np.array([0.3, 0.5]),
        profile=np.cumsum(np.tile([2, 1, 0, 0, 0, 1], (10, 1)), axis=0),
        map=0.5,
        average=0.5,
        gain=np.array([0.1, 0.0, 0.2, 0.0, 0.05]),
        average_gain=np.array([0.4, 0.0, 0.1, 0.0, 0.0]),
        buckets="thumos14",
        by_length=(Bucket("XS", 0.0, 3.0, 8, 2), Bucket("S", 3.0, 6.0, 0, 0), Bucket("M", 6.0, np.inf, 2, 2)),
        by_coverage=(),
        by_num_instances=(Bucket("XS", 0.0, 1.0, 10, 4),),
    )


def test_profile_rows_are_shares_of_the_surest_detections(errors):
    header, *rows = profile_rows(errors)
    assert (header[0], header[-1]) == ("surest", "detections")
    assert [row[0] for row in rows] == ["1 G", "2 G", "3 G", "5 G", "10 G"]
    assert rows[0] == [
        "1 G",
        *(Bar("50.0", 0.5), Bar("25.0", 0.25), Bar("0.0", 0.0), Bar("0.0", 0.0), Bar("0.0", 0.0)),
        Bar("25.0", 0.25),
        "4",
    ]
    assert rows[-1][-1] == "40"


def test_gain_rows_have_bars_relative_to_the_largest_gain(errors):
    rows = gain_rows(errors)
    assert rows[1] == ["double detection", Bar("10.00", 0.25), Bar("40.00", 1.0)]
    assert rows[3] == ["localization", Bar("20.00", 0.5), Bar("10.00", 0.25)]


def test_missed_rows_leave_out_buckets_without_actions(errors):
    assert missed_rows(errors) == [
        ["by", "of", "missed", "actions"],
        ["length, XS", "up to 3 s", Bar("25.0", 0.25), "8"],
        ["length, M", "above 6 s", Bar("100.0", 1.0), "2"],
        ["actions in the video, XS", "up to 1", Bar("40.0", 0.4), "10"],
        ["all", "", Bar("40.0", 0.4), "10"],
    ]


def test_cluster_rows_have_bars_relative_to_the_largest_cluster():
    assert cluster_rows([]) == []
    assert cluster_rows([Cluster(3, 0.9, 0.8, 0.5), Cluster(0, 0.1, 0.2, None)])[1:] == [
        ["3", Bar("0.900", 0.9), Bar("80.0", 1.0), Bar("50.0", 0.5)],
        ["0", Bar("0.100", 0.1), Bar("20.0", 0.25), "–"],
    ]
