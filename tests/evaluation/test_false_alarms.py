import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.evaluation.false_alarms import DEFAULT_SHARES, false_alarms
from tests.helpers.segments import CROWD, FOUND, TRUTH, as_segments, slow_hits

HOURS = {"still": 0.25, "empty": 0.5}  # beside the videos u and v of the strategies, which have actions
ALARM = st.tuples(
    st.sampled_from(["still", "empty", "w"]),  # w has no annotation at all and does not count
    st.sampled_from("acz"),  # z is no class of the ground truth
    st.just((0.0, 1.0)),
    st.sampled_from([0.1, 0.2, 0.5, 0.9]),
).map(lambda r: (*r[:2], *r[2], r[3]))
TRUTHS = st.lists(TRUTH, min_size=1, max_size=8)
FOUNDS = st.lists(FOUND | ALARM, max_size=20) | st.lists(CROWD | ALARM, min_size=6, max_size=20)
SCORES = [0.95, 0.9, 0.5, 0.3, 0.2, 0.1]


def slow_counts(truth, found, score, tiou):
    """False alarms and found actions at a score: the weaker detections are thrown away, the rest counted."""
    kept = [row for row in found if row[4] >= score]
    hits = sum(sum(slow_hits(truth, kept, name, tiou)) for name in {row[1] for row in truth})
    return sum(row[0] in HOURS for row in kept), hits


@settings(max_examples=40, deadline=None, derandomize=True)
@given(truth=TRUTHS, found=FOUNDS, tiou=st.sampled_from([0.1, 0.5, 1.0]))
def test_counts_are_those_of_plain_loops_over_the_kept_detections(truth, found, tiou):
    result = false_alarms(as_segments(truth), as_segments(found), HOURS, scores=SCORES, tiou=tiou)
    for score, per_hour, recall in zip(result.score, result.per_hour, result.recall, strict=True):
        alarms, hits = slow_counts(truth, found, score, tiou)
        assert (per_hour, recall) == (alarms / 0.75, hits / len(truth))
    assert result.score.tolist() == SCORES  # in the order given
    assert (np.diff(result.per_hour) >= 0).all()  # both rise as the score falls
    assert (np.diff(result.recall) >= 0).all()
    assert (result.num_videos, result.hours, result.tiou) == (2, 0.75, tiou)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(truth=TRUTHS, found=FOUNDS)
def test_default_scores_are_the_highest_that_find_each_share_of_what_is_found(truth, found):
    result = false_alarms(as_segments(truth), as_segments(found), HOURS)
    found_by_all = slow_counts(truth, found, -math.inf, 0.5)[1]
    every = sorted({row[4] for row in found}, reverse=True)
    if found_by_all:
        reached = {score: slow_counts(truth, found, score, 0.5)[1] for score in every}
        expected = [
            next(score for score in every if reached[score] >= share * found_by_all)
            for share in DEFAULT_SHARES
        ]
        assert result.score.tolist() == sorted(set(expected), reverse=True)
    else:
        assert result.score.tolist() == every[-1:]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(truth=TRUTHS, found=FOUNDS, more=FOUNDS, seed=st.integers(0, 9))
def test_more_detections_never_lower_the_alarms_and_their_order_does_not_matter(truth, found, more, seed):
    def alarms(rows):
        return false_alarms(as_segments(truth), as_segments(rows), HOURS, scores=SCORES)

    assert (alarms(found + more).per_hour >= alarms(found).per_hour).all()
    shuffled = [found[i] for i in np.random.default_rng(seed).permutation(len(found))]
    for one, other in zip(alarms(found), alarms(shuffled)):
        np.testing.assert_array_equal(one, other)


def test_default_scores_follow_the_scale_of_the_scores():
    """Of ten actions, detections of rising score find nine; two lie in the video `still`."""
    truth = [("v", "a", 20 * i, 20 * i + 10) for i in range(10)]
    found = [("v", "a", 20 * i, 20 * i + 8, float(i)) for i in range(1, 10)]
    alarms = [("still", "b", 0, 1, 8.5), ("still", "a", 0, 1, 3.0)]
    for scale in (1.0, 1e6, 1e-6):
        rows = [(*row[:4], row[4] * scale) for row in found + alarms]
        result = false_alarms(as_segments(truth), as_segments(rows), {"still": 2.0})
        # 10, 25, 50 and 75 % of nine found actions are the surest 1, 3, 5 and 7 of them.
        assert result.score.tolist() == [9 * scale, 7 * scale, 5 * scale, 3 * scale]
        assert result.per_hour.tolist() == [0, 0.5, 0.5, 1.0]
        assert result.recall.tolist() == [0.1, 0.3, 0.5, 0.7]


def test_without_any_detection_there_is_no_alarm():
    truth, none = as_segments([("v", "a", 0, 1)]), as_segments([])
    assert false_alarms(truth, none, HOURS).score.size == 0
    result = false_alarms(truth, none, HOURS, scores=[0.5])
    assert (result.per_hour.tolist(), result.recall.tolist()) == ([0], [0])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"truth": []}, "at least one annotated action"),
        ({"hours_of": {}}, "at least one action-free video"),
        ({"hours_of": {"still": 0.0}}, "'still' must last more than 0 hours, got 0"),
        ({"hours_of": {"still": math.nan}}, "'still' must last more than 0 hours, got nan"),
        ({"hours_of": {"v": 1.0}}, "'v' must be action-free"),
        ({"found": [("v", "a", 0, 1, math.nan)]}, "detections must have finite"),
        ({"scores": [0.5, math.inf]}, "scores must be finite, got inf"),
        ({"tiou": 0.0}, r"tiou must be in \(0, 1\], got 0"),
    ],
)
def test_what_cannot_be_counted_is_an_error(change, message):
    arguments = {
        "truth": [("v", "a", 0, 1)],
        "found": [("still", "a", 0, 1, 0.5)],
        "hours_of": HOURS,
    } | change
    rows = {name: as_segments(arguments.pop(name)) for name in ("truth", "found")}
    with pytest.raises(ValueError, match=message):
        false_alarms(**rows, **arguments)
