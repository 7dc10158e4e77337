import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.annotations import read_intervals
from case_jax.evaluation.matching import make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.evaluation.protocols import PROTOCOLS, map_by_protocol, thumos14_map, wtalc_map
from tests.helpers.segments import CROWD, FOUND, TRUTH, as_segments, ranked, slow_tiou, take

TIOU = [0.1, 0.5, 0.75]


def segments(*rows, video="v"):
    """Rows of label, start, end and, of detections, score."""
    entries = [{"label": r[0], "segment": r[1:3], "score": r[3] if len(r) > 3 else 0.0} for r in rows]
    return make_segments({video: entries})


def slow_thumos14(truth, found, ambiguous, threshold, instances_choose):
    """Mean over classes, by the kit's loops (``instances_choose``) or by falling score."""
    result = []
    for name in sorted({row[1] for row in truth}):
        in_order = ranked(found, name)
        instances = [row for row in truth if row[1] == name]
        taken = [False] * len(in_order)
        if instances_choose:
            for instance in instances:
                best, best_tiou = None, threshold
                for i, row in enumerate(in_order):
                    tiou = slow_tiou(row[2:4], instance[2:4])
                    if row[0] == instance[0] and not taken[i] and tiou > best_tiou:
                        best, best_tiou = i, tiou
                if best is not None:
                    taken[best] = True
        else:
            free = list(instances)
            for i, row in enumerate(in_order):
                best, best_tiou = None, threshold
                for instance in free:
                    tiou = slow_tiou(row[2:4], instance[2:4])
                    if row[0] == instance[0] and tiou > best_tiou:
                        best, best_tiou = instance, tiou
                if best is not None:
                    taken[i] = True
                    free = [instance for instance in free if instance is not best]
        total, rank, precisions = 0, 0, 0.0
        for row, hit in zip(in_order, taken):
            unclear = any(a[0] == row[0] and slow_tiou(a[2:4], row[2:4]) > 0 for a in ambiguous)
            if not hit and unclear:
                continue
            rank += 1
            total += hit
            precisions += total / rank if hit else 0
        result.append(precisions / len(instances))
    return np.mean(result)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.lists(TRUTH, min_size=1, max_size=8),
    st.lists(FOUND, max_size=8) | st.lists(CROWD, max_size=12),
    st.lists(TRUTH, max_size=3),
    st.booleans(),
)
def test_thumos14_agrees_with_plain_loops(truth, found, ambiguous, instances_choose):
    got = thumos14_map(
        as_segments(truth),
        as_segments(found),
        TIOU,
        ambiguous=as_segments(ambiguous),
        instances_choose=instances_choose,
    )
    want = [slow_thumos14(truth, found, ambiguous, t, instances_choose) for t in TIOU]
    np.testing.assert_allclose(got.per_tiou, want, atol=1e-12)


def test_thumos14_needs_more_than_the_threshold():
    truth, found = segments(("a", 0, 10)), segments(("a", 0, 5, 0.9))  # tIoU 0.5
    assert thumos14_map(truth, found, [0.5]).average == 0
    assert thumos14_map(truth, found, [0.499]).average == 1
    assert detection_map(truth, found, [0.5]).average == 1


def test_thumos14_is_not_interpolated():
    truth = segments(("a", 0, 10), ("a", 20, 30), ("a", 40, 50))
    found = segments(("a", 60, 70, 0.9), ("a", 0, 10, 0.8), ("a", 20, 30, 0.7))
    # Precision is 1/2 and 2/3 where two of three instances are found; interpolated it is 2/3 at both.
    assert thumos14_map(truth, found, [0.5]).average == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert detection_map(truth, found, [0.5]).average == pytest.approx((2 / 3 + 2 / 3) / 3)


@pytest.mark.parametrize(
    "where, average",
    [
        ((60, 61), 1.0),  # touches the false positive, which then does not count
        ((9, 11), 0.5),  # touches the true positive, which counts all the same
        ((70, 80), 0.5),  # touches nothing: an end is not part of a segment
    ],
)
def test_thumos14_excuses_false_positives_in_ambiguous_intervals(where, average):
    truth = segments(("a", 0, 10), ("Ambiguous", *where))
    found = segments(("a", 60, 70, 0.9), ("a", 0, 10, 0.8))
    result = thumos14_map(truth, found, [0.5])
    assert (result.classes, result.average) == (("a",), average)
    elsewhere = segments(("Ambiguous", *where), video="w")
    assert thumos14_map(segments(("a", 0, 10)), found, [0.5], ambiguous=elsewhere).average == 0.5
    given_apart = segments(("whatever", *where))
    assert thumos14_map(segments(("a", 0, 10)), found, [0.5], ambiguous=given_apart).average == average


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("label", ["Ambiguous", "ambiguous"])
def test_ambiguous_is_never_a_class(protocol, label):
    truth, found = segments(("a", 0, 10), (label, 50, 60)), segments(("a", 0, 10, 0.9), (label, 50, 60, 0.8))
    result = map_by_protocol(protocol, truth, found, [0.5])
    assert (result.classes, result.average) == (("a",), 1.0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_detections_in_videos_without_any_action_are_wrong(protocol):
    """The video w has none; a surer detection there halves the precision at which the action is found."""
    truth = segments(("a", 0, 10))
    found = make_segments(
        {
            "w": [{"label": "a", "segment": (0, 10), "score": 0.9}],
            "v": [{"label": "a", "segment": (0, 10), "score": 0.8}],
        }
    )
    assert map_by_protocol(protocol, truth, found, [0.5]).average == 0.5


def test_in_the_matlab_kit_instances_choose():
    truth = segments(("a", 0, 10))
    found = segments(("a", 0, 6, 0.9), ("a", 0, 10, 0.8))
    assert map_by_protocol("thumos14", truth, found, [0.5]).average == 1
    assert map_by_protocol("thumos14_kit", truth, found, [0.5]).average == 0.5


def test_wtalc_counts_whole_snippets():
    # With snippets of 0.64 s: 1.5 s and 1.7 s round to snippets 2 and 3; a detection is cut off to 1 .. 3.
    truth = segments(("a", 0.7, 1.7))
    assert wtalc_map(truth, segments(("a", 0.64, 2.5, 0.9)), [1.0]).average == 1
    assert wtalc_map(truth, segments(("a", 0.6, 1.92, 0.9)), [1.0]).average == 0
    assert wtalc_map(truth, segments(("a", 0.6, 1.92, 0.9)), [2 / 3]).average == 1
    assert wtalc_map(truth, segments(("a", 1, 2, 0.9)), [1.0], seconds_per_snippet=1.0).average == 1


def test_wtalc_keeps_whole_numbers_of_snippets_despite_rounding():
    # n * 0.64 / 0.64 must stay n, even if the division rounds to less.
    for n in [*range(1, 200), *range(200, 2000, 7)]:
        truth = segments(("a", 0.0, n * 0.64))
        assert wtalc_map(truth, segments(("a", 0.0, n * 16 / 25, 0.9)), [1.0]).average == 1, n


def test_wtalc_deletes_detections_that_touch_an_ambiguous_interval():
    truth = segments(("a", 0, 6.4))
    found = segments(("a", 0, 6.4, 0.9))
    near, far = segments(("x", 5.8, 9)), segments(("x", 6.2, 9))  # snippets 9 and 10 on; it ends at 10
    assert wtalc_map(truth, found, [0.5], ambiguous=near).average == 0
    assert wtalc_map(truth, found, [0.5], ambiguous=far).average == 1


def test_an_unknown_protocol_and_empty_inputs_are_errors():
    some, none = segments(("a", 0, 1, 0.5)), segments()
    with pytest.raises(
        ValueError, match="protocol must be one of activitynet, thumos14, thumos14_kit, wtalc"
    ):
        map_by_protocol("voc", some, some, [0.5])
    for protocol in PROTOCOLS:
        with pytest.raises(ValueError, match="needs at least one ground truth"):
            map_by_protocol(protocol, segments(("Ambiguous", 0, 1)), some, [0.5])
        assert map_by_protocol(protocol, some, none, [0.5]).average == 0


def test_protocols_on_real_detections(real, shared_data):
    truth, found, folder = real.truth_segments, real.found_segments, shared_data / "thumos14"
    ambiguous = make_segments(read_intervals(folder / "ambiguous_test.txt"))
    assert ambiguous.label.size == 99
    results = {
        protocol: map_by_protocol(protocol, truth, found, [0.1, 0.5], ambiguous=ambiguous).per_tiou
        for protocol in ("activitynet", "thumos14", "thumos14_kit", "wtalc")
    }
    np.testing.assert_allclose(results["activitynet"], [0.66253474, 0.34295393], atol=5e-9)
    order = np.random.default_rng(0).permutation(found.label.size)
    shuffled = take(found, order)
    for protocol, result in results.items():
        again = map_by_protocol(protocol, truth, shuffled, [0.1, 0.5], ambiguous=ambiguous).per_tiou
        np.testing.assert_array_equal(again, result)
    assert abs(results["thumos14"] - results["wtalc"]).max() > 0.015
