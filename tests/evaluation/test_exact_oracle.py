"""Detection mAP against an independent evaluator that is slow, plain and exact (rational numbers).

It is written only from the protocol's words. For a class, detections of all videos are taken by falling
score. Each is matched with the instance of its class and video that is still free and has the highest tIoU,
if that reaches the threshold. A matched detection is a true positive, any other a false positive. Average
precision is the mean over instances of the highest precision at which as many, or more, are found.
"""

import functools
import math
from fractions import Fraction

import numpy as np
import pytest

from case_jax.evaluation.error_analysis import analyse_errors
from case_jax.evaluation.matching import Segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.evaluation.per_video import per_video_ap
from case_jax.evaluation.protocols import map_by_protocol
from case_jax.evaluation.recall import average_recall
from tests.helpers.names import ODD_NAMES
from tests.helpers.segments import take

TIOU = {text: Fraction(text) for text in ("1/1000000", "0.1", "0.3", "1/3", "0.5", "0.7", "0.75", "1")}
THRESHOLDS = [float(exact) for exact in TIOU.values()]


def exact_tiou(a, b):
    shared = min(a[1], b[1]) - max(a[0], b[0])
    if shared <= 0:
        return Fraction(0)
    return Fraction(shared) / (Fraction(a[1] - a[0]) + Fraction(b[1] - b[0]) - Fraction(shared))


def exact_ap(hits, instances):
    """AP of a list of booleans, the surest detection first."""
    precisions, recalled, found = [], [], 0
    for taken, hit in enumerate(hits, start=1):
        found += hit
        precisions.append(found / taken)
        recalled.append(found)
    best = [max(precisions[recalled.index(wanted) :]) for wanted in range(1, found + 1)]
    return math.fsum(best) / instances


def exact_map(truth, found, thresholds):
    """Class -> AP at each threshold; from rows (video, label, start, end[, score])."""
    table = {}
    for name in {row[1] for row in truth}:
        instances = [row for row in truth if row[1] == name]
        ranked = [row for row in found if row[1] == name]
        ranked.sort(key=lambda row: (-row[4], row[0], row[2], row[3]))
        # tIoU with each instance of its video, in the order of the ground truth.
        places = {}
        for i, row in enumerate(instances):
            places.setdefault(row[0], []).append(i)
        overlaps = [
            [(i, exact_tiou(row[2:4], instances[i][2:4])) for i in places.get(row[0], ())] for row in ranked
        ]
        table[name] = []
        for threshold in thresholds:
            free, hits = set(range(len(instances))), []
            for candidates in overlaps:
                best, highest = None, Fraction(0)
                for i, overlap in candidates:
                    if i in free and overlap >= threshold and overlap > highest:
                        best, highest = i, overlap
                free.discard(best)
                hits.append(best is not None)
            table[name].append(exact_ap(hits, len(instances)))
    return table


def as_segments(rows, scored):
    columns = list(zip(*rows)) or [()] * 5
    return Segments(
        np.array(columns[0], dtype=str),
        np.array(columns[1], dtype=str),
        np.array(columns[2], np.float64),
        np.array(columns[3], np.float64),
        np.array(columns[4], np.float64) if scored else np.zeros(len(rows)),
    )


def some_case(rng):
    """Rows of ground truth and of detections with few places, lengths and scores, so that many are tied.

    Times are whole numbers, and some segments have no length. Some videos and classes are only in the ground
    truth or only among the detections. Some rows occur two or three times, and some zeros are negative.
    """
    videos = rng.choice(ODD_NAMES, rng.integers(1, 5), replace=False).tolist()
    labels = rng.choice(ODD_NAMES, rng.integers(1, 5), replace=False).tolist()
    scores = rng.choice([-2.5, -1e-3, 0.0, 5e-324, 0.5, 0.75, 1e300], rng.integers(1, 5)).tolist()
    spread, longest = int(rng.integers(1, 14)), int(rng.integers(1, 9))

    def rows(count, first, last):
        found = []
        for _ in range(count):
            start = int(rng.integers(0, spread)) - 2
            end, score = start + int(rng.integers(0, longest + 1)), float(rng.choice(scores))
            video = videos[rng.integers(first, len(videos) - last)]
            label = labels[rng.integers(first, len(labels) - last)]
            for _ in range(rng.choice([1, 1, 1, 1, 2, 3])):
                numbers = (float(x) or float(rng.choice([0.0, -0.0])) for x in (start, end, score))
                found.append((video, label, *numbers))
        return found

    apart = int(min(len(videos), len(labels)) > 1 and rng.random() < 0.5)
    truth = rows(rng.integers(1, 9), 0, apart)
    return truth, rows(rng.integers(0, 16), apart, 0)


@functools.cache
def cases(seed, count):
    rng = np.random.default_rng(seed)
    return [some_case(rng) for _ in range(count)]


def agree(result, truth, found, thresholds):
    expected = exact_map(truth, found, thresholds)
    assert result.classes == tuple(sorted(expected))
    wanted = np.array([expected[name] for name in result.classes])
    np.testing.assert_allclose(result.per_class, wanted, rtol=0, atol=1e-14)
    np.testing.assert_allclose(result.average, wanted.mean(), rtol=0, atol=1e-14)
    return wanted


def evaluate(seed, count):
    """Checks ``count`` random cases; returns the APs that were compared."""
    compared = []
    for truth, found in cases(seed, count):
        result = detection_map(as_segments(truth, False), as_segments(found, True), THRESHOLDS)
        compared.append(agree(result, truth, found, TIOU.values()).ravel())
    return np.concatenate(compared)


def test_hundreds_of_cases():
    compared = evaluate(seed=0, count=500)
    assert compared.size > 6000
    assert len(np.unique(compared)) > 100  # and not all of them 0 or 1
    assert 0.2 < np.mean((compared > 0) & (compared < 1))


@pytest.mark.slow
def test_many_thousands_of_cases():
    assert evaluate(seed=1, count=3_000).size > 30_000


def test_cases_side_by_side_do_not_touch_each_other():
    """Many cases as the classes and videos of one evaluation: each has the AP that it has alone."""
    alone, all_truth, all_found = {}, [], []
    for number, (truth, found) in enumerate(cases(0, 500)):
        result = detection_map(as_segments(truth, False), as_segments(found, True), THRESHOLDS)
        for name, ap in zip(result.classes, result.per_class):
            alone[f"{number}/{name}."] = ap
        all_truth += [(f"{number}/{row[0]}", f"{number}/{row[1]}.", *row[2:]) for row in truth]
        all_found += [(f"{number}/{row[0]}", f"{number}/{row[1]}.", *row[2:]) for row in found]
    together = detection_map(as_segments(all_truth, False), as_segments(all_found, True), THRESHOLDS)
    assert together.classes == tuple(sorted(alone))
    np.testing.assert_array_equal(together.per_class, [alone[name] for name in together.classes])


@pytest.mark.parametrize("exponent", [-1000, -30, 40, 900])
def test_tiny_and_huge_times(exponent):
    """Scaling by a power of two is exact and tIoU has no unit, so that every digit stays."""
    for truth, found in cases(0, 500)[:150]:
        truth, found = as_segments(truth, False), as_segments(found, True)
        scaled = [
            s._replace(start=np.ldexp(s.start, exponent), end=np.ldexp(s.end, exponent))
            for s in (truth, found)
        ]
        np.testing.assert_array_equal(
            detection_map(*scaled, THRESHOLDS).per_class, detection_map(truth, found, THRESHOLDS).per_class
        )


@pytest.mark.parametrize(
    "rescore",
    [
        lambda place: -1e300 * (1 + place),
        lambda place: 1e308 / (1 + place),
        lambda place: 5e-324 * (40 - place),
        lambda place: 1 - place * 2.0**-53,
    ],
    ids=["very negative", "very high", "denormal", "next to each other"],
)
def test_only_the_order_of_scores_matters(rescore):
    for truth, found in cases(0, 500)[:150]:
        truth, found = as_segments(truth, False), as_segments(found, True)
        distinct, place = np.unique(-found.score, return_inverse=True)
        assert distinct.size < 40
        other = found._replace(score=np.array([rescore(float(p)) for p in place]))
        np.testing.assert_array_equal(
            detection_map(truth, other, THRESHOLDS).per_class,
            detection_map(truth, found, THRESHOLDS).per_class,
        )


def every_measure(truth, found, ambiguous):
    """All measures of detections, as one flat tuple of numbers and texts."""
    measures = []
    for protocol in ("activitynet", "thumos14", "thumos14_kit", "wtalc"):
        result = map_by_protocol(
            protocol, truth, found, THRESHOLDS[:-1], ambiguous=ambiguous, seconds_per_snippet=1.5
        )
        measures += [result.classes, *result.per_class.ravel().tolist()]
    measures += per_video_ap(truth, found, THRESHOLDS).items()
    durations = dict.fromkeys(truth.video.tolist(), 12.0)
    for tiou in (0.3, 1.0):
        errors = analyse_errors(truth, found, durations, tiou_thresholds=THRESHOLDS, tiou=tiou, max_ratio=3)
        for value in errors:
            measures += value.ravel().tolist() if isinstance(value, np.ndarray) else [value]
    if np.isin(found.video, truth.video).any():
        for number in (1.0, 2.5):
            try:
                recall = average_recall(truth, found, THRESHOLDS, max_proposals=number)
            except ValueError as error:  # many videos with few proposals each: none is kept
                measures.append(str(error))
            else:
                measures += [*recall.num_proposals.tolist(), *recall.per_tiou.ravel().tolist()]
    return tuple(measures)


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_the_order_of_the_input_changes_no_bit_of_any_measure(count):
    """Even where detections are equal in everything, or differ only in the sign of a zero.

    Of the ground truth, the order within a video matters, and only that.
    """
    rng = np.random.default_rng(0)
    equal = signs = 0
    for truth, found in cases(0, 500)[:count]:
        ambiguous = as_segments(some_case(rng)[0][:3], False)
        truth, found = as_segments(truth, False), as_segments(found, True)
        measured = every_measure(truth, found, ambiguous)
        for _ in range(2):
            place = rng.permutation(truth.video.size)[np.unique(truth.video, return_inverse=True)[1]]
            by_video = np.argsort(place, kind="stable")
            again = every_measure(
                take(truth, by_video),
                take(found, rng.permutation(found.video.size)),
                take(ambiguous, rng.permutation(ambiguous.video.size)),
            )
            assert again == measured
        rows = list(zip(*(column.tolist() for column in found)))
        equal += len(rows) - len(set(map(repr, rows)))
        signs += len(set(map(repr, rows))) - len(set(rows))
    assert equal > 2 * count
    assert signs > 0.4 * count


def test_of_equal_detections_one_is_right_and_the_others_are_false_positives():
    truth = as_segments([("v", "a", 0, 10), ("v", "a", 20, 30)], False)
    same, other = ("v", "a", 1.0, 10.0, 0.5), ("v", "a", 20.0, 30.0, 0.25)
    for copies in (1, 2, 5):
        found = as_segments([same] * copies + [other], True)
        # Precision 1 at the first, and 2 of all at the last; the copies between are false positives.
        expected = (1 + 2 / (copies + 1)) / 2
        assert detection_map(truth, found, [0.5]).average == pytest.approx(expected, abs=1e-15)
    # Two equal instances, however, are two to be found.
    twice = as_segments([("v", "a", 0, 10)] * 2, False)
    assert detection_map(twice, as_segments([same] * 2, True), [0.5]).average == 1
    assert detection_map(twice, as_segments([same], True), [0.5]).average == 0.5


@pytest.mark.slow
def test_real_thumos14_detections_in_exact_arithmetic(real):
    """The same figure from exact arithmetic on the float64 times of the files.

    Annotations are multiples of 0.1 s and detections of 2/75 s, so that 66 tIoUs are within 1e-9 of a
    threshold. On which side of it they are is decided when the files' decimals are rounded to float64.
    """
    thresholds = [Fraction(f"0.{tenths}") for tenths in range(1, 8)]
    result = detection_map(real.truth_segments, real.found_segments, [float(t) for t in thresholds])

    def rows(videos):
        return [
            (video, entry["label"], *map(Fraction, entry["segment"]), entry.get("score", 0.0))
            for video, entries in videos.items()
            for entry in entries
        ]

    wanted = agree(result, rows(real.truth), rows(real.found), thresholds)
    assert wanted.shape == (20, 7)
    assert f"{wanted.mean():.8f}" == "0.41680341"
