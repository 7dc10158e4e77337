import collections
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.evaluation.buckets import Bucket
from case_jax.evaluation.error_analysis import ERRORS, OUTCOMES, analyse_errors
from case_jax.evaluation.mean_average_precision import detection_map
from tests.helpers.segments import CROWD, FOUND, TIOU, TRUTH, as_segments, ranked, slow_ap, slow_tiou

DURATIONS = {"u": 5.0, "v": 20.0}  # no "w": it has no ground truth
BOUNDS = {
    "activitynet": (
        [(0, 30), (30, 60), (60, 120), (120, 180), (180, math.inf)],
        [(0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1)],
        [(0, 1), (1, 4), (4, 8), (8, math.inf)],
    ),
    "thumos14": (
        [(0, 3), (3, 6), (6, 12), (12, 18), (18, math.inf)],
        [(0, 0.02), (0.02, 0.04), (0.04, 0.06), (0.06, 0.08), (0.08, 1)],
        [(0, 1), (1, 40), (40, 80), (80, math.inf)],
    ),
}


# --- DETAD in plain loops over rows (video, label, start, end[, score])


def slow_outcomes(truth, found, threshold, background):
    """Class name -> outcomes of its detections in rank order, and the instances that were found, by index."""
    in_video = collections.defaultdict(list)
    for i, row in enumerate(truth):
        in_video[row[0]].append(i)
    outcomes, taken = {}, set()
    for name in sorted({row[1] for row in truth}):
        outcomes[name] = []
        for video, _, start, end, _ in ranked(found, name):
            overlaps = [
                (i, slow_tiou((start, end), truth[i][2:4]), truth[i][1] == name) for i in in_video[video]
            ]
            best, best_tiou = None, 0.0
            for i, overlap, same_class in overlaps:
                if same_class and i not in taken and overlap >= threshold and overlap > best_tiou:
                    best, best_tiou = i, overlap
            if best is not None:
                taken.add(best)
                outcomes[name].append("true positive")
                continue
            # The instance of highest tIoU decides, of equal ones one of the same class.
            top, same_class = max((o[1:] for o in overlaps), default=(0.0, False))
            if top >= threshold:
                kind = "double detection" if same_class else "wrong label"
            elif top >= background:
                kind = "localization" if same_class else "confusion"
            else:
                kind = "background"
            outcomes[name].append(kind)
    return outcomes, taken


def slow_map(truth, outcomes, without=None):
    counts = {name: sum(row[1] == name for row in truth) for name in outcomes}
    return np.mean(
        [
            slow_ap([o == "true positive" for o in row if o != without], counts[name])
            for name, row in outcomes.items()
        ]
    )


def slow_bucket_rows(truth, taken, values, bounds):
    rows = []
    for b, (lower, upper) in enumerate(bounds):
        inside = [
            i
            for i, value in enumerate(values)
            if lower < value <= upper
            or (b == 0 and value == lower)
            or (b == len(bounds) - 1 and value > upper)
        ]
        rows.append((lower, upper, len(inside), sum(i not in taken for i in inside)))
    return rows


def check(result, truth, found, *, tiou, thresholds, background, max_ratio, durations, buckets):
    outcomes, taken = slow_outcomes(truth, found, tiou, background)
    counts = {name: sum(row[1] == name for row in truth) for name in outcomes}
    for r in range(1, max_ratio + 1):
        best = [o for name, row in outcomes.items() for o in row[: r * counts[name]]]
        assert result.profile[r - 1].tolist() == [best.count(o) for o in OUTCOMES]
    assert result.profile.shape == (max_ratio, 6)

    def gains(threshold):
        outcomes, _ = slow_outcomes(truth, found, threshold, background)
        before = slow_map(truth, outcomes)
        return before, [slow_map(truth, outcomes, without=error) - before for error in ERRORS]

    before, gain = gains(tiou)
    assert result.map == pytest.approx(before, abs=1e-12)
    np.testing.assert_allclose(result.gain, gain, rtol=0, atol=1e-12)
    several = [gains(threshold) for threshold in thresholds]
    assert result.average == pytest.approx(np.mean([before for before, _ in several]), abs=1e-12)
    np.testing.assert_allclose(
        result.average_gain, np.mean([gain for _, gain in several], axis=0), rtol=0, atol=1e-12
    )
    assert (result.gain >= 0).all()
    assert (result.average_gain >= 0).all()

    assert result.buckets == buckets
    lengths = [row[3] - row[2] for row in truth]
    values = [
        lengths,
        [length / durations[row[0]] for length, row in zip(lengths, truth)],
        [sum(other[0] == row[0] for other in truth) for row in truth],
    ]
    for ours, value, bounds in zip(
        (result.by_length, result.by_coverage, result.by_num_instances), values, BOUNDS[buckets]
    ):
        assert [bucket[1:] for bucket in ours] == slow_bucket_rows(truth, taken, value, bounds)
        assert [bucket.name for bucket in ours] == ["XS", "S", "M", "L", "XL"][: len(bounds)]
    assert result.num_instances == len(truth)
    assert result.num_missed == len(truth) - len(taken)


# --- against plain loops


def assert_equal(ours, theirs):
    for name, one, other in zip(ours._fields, ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    truth=st.lists(TRUTH, min_size=1, max_size=10),
    found=st.lists(FOUND, max_size=14) | st.lists(CROWD, min_size=8, max_size=25),
    tiou=st.sampled_from(TIOU),
    background=st.sampled_from([0.05, 0.1, 0.25, 0.5]),
    buckets=st.sampled_from(list(BOUNDS)),
    seed=st.integers(0, 99),
)
def test_agrees_with_plain_loops_in_any_input_order(truth, found, tiou, background, buckets, seed):
    settings_ = dict(
        tiou=tiou, background_tiou=background, max_ratio=3, buckets=buckets, tiou_thresholds=TIOU
    )
    result = analyse_errors(as_segments(truth), as_segments(found), DURATIONS, **settings_)
    check(
        result,
        truth,
        found,
        tiou=tiou,
        thresholds=TIOU,
        background=background,
        max_ratio=3,
        durations=DURATIONS,
        buckets=buckets,
    )
    mean_ap = detection_map(as_segments(truth), as_segments(found), [tiou, *TIOU])
    assert result.map == mean_ap.per_tiou[0]
    assert result.average == pytest.approx(mean_ap.per_tiou[1:].mean(), abs=1e-15)

    order = np.random.default_rng(seed).permutation(len(found))
    shuffled = as_segments([found[i] for i in order])
    assert_equal(analyse_errors(as_segments(truth), shuffled, DURATIONS, **settings_), result)


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_plain_loops_on_many_crowded_classes_and_videos(seed):
    rng = np.random.default_rng(seed)

    def rows(count, scores):
        start = rng.integers(0, 60, count) / 2
        length = rng.integers(0, 40, count) / 2
        return [
            (f"v{v}", "abcdef"[c], s, s + n, *([p] if scores else []))
            for v, c, s, n, p in zip(
                rng.integers(0, 6, count),
                rng.integers(0, 5 + scores, count),
                start,
                length,
                rng.random(count).round(1),
            )
        ]

    truth, found = rows(80, False), rows(700, True)
    durations = {f"v{v}": 20.0 + 10 * v for v in range(6)}
    result = analyse_errors(as_segments(truth), as_segments(found), durations, tiou_thresholds=TIOU)
    median = np.median([row[3] - row[2] for row in truth])
    check(
        result,
        truth,
        found,
        tiou=0.5,
        thresholds=TIOU,
        background=0.1,
        max_ratio=10,
        durations=durations,
        buckets="thumos14" if median <= 18 else "activitynet",
    )
    assert (result.profile[-1] > 0).all()  # every kind of error occurs
    assert (result.gain > 0).all()


# --- by hand


def outcome_of(truth, found, **settings_):
    """Outcomes of the last class's detections, in rank order."""
    result = analyse_errors(
        as_segments(truth), as_segments(found), None, tiou_thresholds=[0.5], max_ratio=20, **settings_
    )
    return [OUTCOMES[row.argmax()] for row in result.bands if row.any()]


@pytest.mark.parametrize(
    "span, expected",
    [
        ((0, 10), "double detection"),
        ((0, 5), "double detection"),  # tIoU 0.5 reaches 0.5
        ((0, 4.9), "localization"),
        ((9, 10), "localization"),  # tIoU 0.1 reaches 0.1
        ((9.1, 10), "background"),
        ((10, 12), "background"),  # touching
        ((5, 5), "background"),  # without length
        ((20, 30), "wrong label"),
        ((20, 25), "wrong label"),
        ((20, 24.9), "confusion"),
        ((29, 30), "confusion"),
        ((29.1, 30), "background"),
        ((100, 110), "background"),
        # The closer instance decides, whatever is near besides: here [40, 50] of a and [44, 54] of b.
        ((43, 53), "wrong label"),
        ((41, 51), "double detection"),
        ((42, 52), "double detection"),  # as close to both: its own
        ((48, 58), "confusion"),
        ((36, 46), "localization"),
    ],
)
def test_each_kind_of_false_positive(span, expected):
    truth = [
        ("v", "a", 0, 10),
        ("v", "b", 20, 30),
        ("v", "a", 40, 50),
        ("v", "b", 44, 54),
        ("w", "a", 100, 110),
    ]
    surer = [("v", "a", 0, 10, 0.9), ("v", "a", 40, 50, 0.9), ("w", "a", 100, 110, 0.9)]
    result = analyse_errors(
        as_segments(truth), as_segments([*surer, ("v", "a", *span, 0.1)]), None, tiou_thresholds=[0.5]
    )
    assert [result.profile[-1, 0], result.profile[-1].sum()] == [3, 4]
    assert OUTCOMES[1 + result.profile[-1, 1:].argmax()] == expected


def test_an_action_with_two_labels_gives_no_wrong_label():
    # THUMOS14 annotates every cliff dive as a dive too, and the dive may come first in the file.
    for truth in itertools.permutations([("v", "CliffDiving", 0, 10), ("v", "Diving", 0, 10)]):
        found = [
            ("v", "CliffDiving", 0, 10, 0.9),
            ("v", "CliffDiving", 0, 9, 0.8),
            ("v", "CliffDiving", 0, 4, 0.7),
        ]
        assert outcome_of(truth, found) == ["true positive", "double detection", "localization"]


def test_a_match_is_a_true_positive_even_if_an_instance_of_another_class_is_closer():
    truth = [("v", "a", 0, 10), ("v", "b", 4, 14)]
    assert outcome_of(truth, [("v", "a", 3, 13, 0.9)]) == ["true positive"]
    assert outcome_of(truth, [("v", "a", 3, 13, 0.9)], tiou=0.6) == ["wrong label"]


def test_at_thresholds_below_the_background_nothing_is_localization_or_confusion():
    truth = [("v", "a", 0, 10), ("v", "b", 20, 30)]
    found = [("v", "a", 0, 3, 0.9), ("v", "a", 0, 2, 0.8), ("v", "a", 20, 23, 0.7), ("v", "a", 29, 30, 0.6)]
    assert outcome_of(truth, found, tiou=0.2, background_tiou=0.4) == [
        "true positive",
        "double detection",
        "wrong label",
        "background",
    ]


def test_each_class_contributes_detections_in_proportion_to_its_instances():
    truth = [("v", "a", 0, 10), ("v", "b", 20, 30), ("v", "b", 40, 50)]
    found = [("v", "b", 20, 30, 0.1), *(("v", "a", 90, 95, 0.9 - i / 100) for i in range(5))]
    result = analyse_errors(as_segments(truth), as_segments(found), None, tiou_thresholds=[0.5], max_ratio=4)
    assert result.profile.tolist() == [[1, 0, 0, 0, 0, r] for r in (1, 2, 3, 4)]
    assert result.bands.tolist() == [[1, 0, 0, 0, 0, 1], *([[0, 0, 0, 0, 0, 1]] * 3)]


def test_gain_by_hand():
    # Rank: background, hit, localization, hit; of two instances. AP 1/2 * 1/2 + 1/2 * 1/2.
    truth = [("v", "a", 0, 10), ("v", "a", 20, 30)]
    found = [
        ("v", "a", 50, 60, 0.9),
        ("v", "a", 0, 10, 0.8),
        ("v", "a", 20, 22, 0.7),
        ("v", "a", 20, 30, 0.6),
    ]
    result = analyse_errors(as_segments(truth), as_segments(found), None, tiou_thresholds=[0.5, 0.15])
    gain = dict(zip(ERRORS, result.gain.tolist()))
    assert result.map == 0.5
    # Without background: hit, localization, hit. Without localization: background, hit, hit.
    assert gain.pop("background") == pytest.approx((1 + 2 / 3) / 2 - 0.5)
    assert gain.pop("localization") == pytest.approx(2 / 3 - 0.5)
    assert set(gain.values()) == {0.0}
    # At 0.15 the third takes the second instance and the fourth is a double detection behind it.
    assert result.average == pytest.approx((0.5 + 2 / 3) / 2)
    average_gain = dict(zip(ERRORS, result.average_gain.tolist()))
    assert average_gain["background"] == pytest.approx((1 / 3 + 1 / 3) / 2)
    assert average_gain["localization"] == pytest.approx(1 / 6 / 2)
    assert average_gain["double detection"] == 0.0


def test_without_errors_there_is_no_gain():
    truth = [("v", "a", 0, 10), ("v", "b", 20, 30), ("w", "a", 0, 5)]
    for found in ([], [(*row, 0.5) for row in truth], [("v", "other", 0, 10, 0.9)]):
        result = analyse_errors(as_segments(truth), as_segments(found), None, tiou_thresholds=TIOU)
        assert result.gain.tolist() == result.average_gain.tolist() == [0.0] * 5
        perfect = len(found) == 3
        assert result.map == result.average == float(perfect)
        assert result.profile.tolist() == [[3 * perfect, 0, 0, 0, 0, 0]] * 10
        assert result.num_missed == (0 if perfect else 3)


def test_missed_instances_by_hand():
    lengths = [0, 30, 30.5, 60, 120, 180, 181]
    truth = [(f"v{i}", "a", 10, 10 + length) for i, length in enumerate(lengths)]
    truth += [("v6", "b", 0, 1)] * 4
    found = [("v1", "a", 10, 40, 0.9), ("v3", "a", 10, 70, 0.9), ("v6", "b", 0, 1, 0.9)]
    durations = dict.fromkeys([f"v{i}" for i in range(7)], 150.0)
    result = analyse_errors(
        as_segments(truth), as_segments(found), durations, tiou_thresholds=[0.5], buckets="activitynet"
    )
    assert result.by_length == (
        Bucket("XS", 0.0, 30.0, 6, 4),
        Bucket("S", 30.0, 60.0, 2, 1),
        Bucket("M", 60.0, 120.0, 1, 1),
        Bucket("L", 120.0, 180.0, 1, 1),
        Bucket("XL", 180.0, math.inf, 1, 1),
    )
    assert result.by_coverage == (  # 180 and 181 s of 150 s are in the last
        Bucket("XS", 0.0, 0.2, 6, 4),
        Bucket("S", 0.2, 0.4, 2, 1),
        Bucket("M", 0.4, 0.6, 0, 0),
        Bucket("L", 0.6, 0.8, 1, 1),
        Bucket("XL", 0.8, 1.0, 2, 2),
    )
    assert result.by_num_instances == (
        Bucket("XS", 0.0, 1.0, 6, 4),
        Bucket("S", 1.0, 4.0, 0, 0),
        Bucket("M", 4.0, 8.0, 5, 4),
        Bucket("L", 8.0, math.inf, 0, 0),
    )
    assert (result.num_instances, result.num_missed) == (11, 8)
    unknown = analyse_errors(as_segments(truth), as_segments(found), None, tiou_thresholds=[0.5])
    assert unknown.by_coverage == ()


@pytest.mark.parametrize("length, expected", [(18.0, "thumos14"), (18.001, "activitynet")])
def test_which_buckets_the_median_length_asks_for(length, expected):
    truth = as_segments([("v", "a", 0, 1), ("v", "a", 0, length), ("v", "a", 0, 500)])
    nothing = as_segments([])
    assert analyse_errors(truth, nothing, None, tiou_thresholds=[0.5]).buckets == expected
    for asked in BOUNDS:
        result = analyse_errors(truth, nothing, None, tiou_thresholds=[0.5], buckets=asked)
        assert result.buckets == asked
        assert result.by_length[0].upper == BOUNDS[asked][0][0][1]


# --- bad arguments


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"truth": []}, "error analysis needs at least one ground truth and one tIoU threshold"),
        ({"tiou_thresholds": []}, "error analysis needs at least one ground truth and one tIoU threshold"),
        ({"tiou": 0.0}, "tiou must be in (0, 1], got 0.0"),
        ({"tiou": 1.5}, "tiou must be in (0, 1], got 1.5"),
        ({"background_tiou": 0}, "background_tiou must be in (0, 1], got 0"),
        ({"max_ratio": 0}, "max_ratio must be 1 or more, got 0"),
        ({"buckets": "coco"}, "buckets must be one of activitynet, thumos14, got 'coco'"),
        *(
            (
                {"durations": durations},
                f"video 'v' has the duration {durations.get('v')}; "
                "expected seconds above 0, of every video with ground truth",
            )
            for durations in ({}, {"v": None}, {"v": 0.0}, {"v": math.nan}, {"v": math.inf}, {"v": -1.0})
        ),
    ],
)
def test_an_argument_out_of_range_is_an_error(changed, message):
    arguments = {"truth": [("v", "a", 0, 1)], "durations": {"v": 9.0}, "tiou_thresholds": [0.5], **changed}
    truth, durations = arguments.pop("truth"), arguments.pop("durations")
    with pytest.raises(ValueError) as error:
        analyse_errors(as_segments(truth), as_segments([]), durations, **arguments)
    assert str(error.value) == message


# --- real data


@pytest.fixture(scope="module")
def real_errors(real, shared_data):
    durations = json.loads((shared_data / "thumos14" / "durations.json").read_text())
    result = analyse_errors(real.truth_segments, real.found_segments, durations, tiou_thresholds=[0.1, 0.7])
    return result, durations


def test_real_thumos14_detections(real_errors):
    result, _ = real_errors
    assert result.profile[[0, -1]].tolist() == [
        [1403, 150, 58, 1224, 62, 414],
        [2209, 839, 224, 6117, 486, 9690],
    ]
    assert (result.num_instances, result.num_missed) == (3311, 1100)


@pytest.mark.slow
def test_real_thumos14_detections_agree_with_plain_loops(real, real_errors):
    result, durations = real_errors
    check(
        result,
        list(zip(*(column.tolist() for column in real.truth_segments[:4]))),
        list(zip(*(column.tolist() for column in real.found_segments))),
        tiou=0.5,
        thresholds=[0.1, 0.7],
        background=0.1,
        max_ratio=10,
        durations=durations,
        buckets="thumos14",
    )
