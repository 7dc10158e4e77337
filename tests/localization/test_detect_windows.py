"""A long video in windows: each decides which classes it contains; actions run through all of them."""

import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.localization import detect
from case_jax.localization.detect import localize_video, localize_windows

PLAIN = CaseConfig(upsampling=1, proposal_thresholds=(0.5,), flank=0.0)


def assert_equal(found, expected):
    assert found.label.size > 0
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs, strict=True)


def runs(*segments, length=12):
    """One class that is on in segments of positions."""
    sequence = np.zeros((length, 1))
    for begin, end in segments:
        sequence[begin:end] = 0.9
    return sequence


def test_an_action_across_a_seam_is_found_once_and_whole():
    found = localize_windows(runs((3, 9)), np.ones((3, 1)), duration=12.0, config=PLAIN)
    assert (found.start.tolist(), found.end.tolist()) == ([3.0], [9.0])


def test_an_action_counts_if_it_overlaps_a_window_that_keeps_its_class():
    # Windows [0, 4), [4, 8), [8, 12); class 1 keeps the others from localising class 0 as their best.
    sequence = np.concatenate([runs((0, 2), (3, 5), (6, 8), (10, 12)), np.zeros((12, 1))], axis=1)

    def starts(*keeping):
        scores = np.array([[1.0, 0.0] if i in keeping else [0.0, 1.0] for i in range(3)])
        return sorted(localize_windows(sequence, scores, duration=12.0, config=PLAIN).start.tolist())

    assert starts() == []
    assert starts(0) == [0, 3]
    assert starts(1) == [3, 6]
    assert starts(2) == [10]  # the one that ends where the window begins only touches it
    assert starts(0, 2) == [0, 3, 10]
    assert starts(0, 1, 2) == [0, 3, 6, 10]


def test_the_video_score_is_the_highest_of_windows_that_keep_the_class():
    config = CaseConfig(
        upsampling=1,
        proposal_thresholds=(0.5,),
        flank=0.0,
        video_score="probability",
        video_score_weight=1.0,
        class_threshold=0.3,
    )
    sequence = np.concatenate([runs((1, 2), (3, 5), (3 + 4, 5 + 4), (10, 11)), np.zeros((12, 1))], axis=1)
    scores = np.array([[0.4, 0.6], [0.7, 0.3], [0.2, 0.8]])  # the last one keeps only class 1
    found = localize_windows(sequence, scores, duration=12.0, config=config)
    of_first = found.take(np.argsort(found.start))
    assert of_first.start.tolist() == [1, 3, 7]
    np.testing.assert_allclose(of_first.score - 0.9, [0.4, 0.7, 0.7])
    # Where no window is sure of any class, each keeps its best one, with the score it has.
    low = localize_windows(sequence, scores / 10, duration=12.0, config=config)
    np.testing.assert_allclose(low.take(np.argsort(low.start)).score - 0.9, [0.07, 0.07])


@pytest.fixture
def sequence():
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((120, 3)).cumsum(axis=0)
    return 1 / (1 + np.exp(-steps / 2))


@pytest.mark.parametrize("num_windows", [1, 2, 5, 120])
@pytest.mark.parametrize("nms", ["published", "standard"])
@pytest.mark.parametrize("video_score", ["kept", "probability"])
def test_windows_that_keep_all_classes_alike_are_one_video(sequence, num_windows, nms, video_score):
    config = CaseConfig(nms=nms, video_score=video_score, upsampling=5)
    scores = np.array([0.5, 0.9, 0.3])
    found = localize_windows(sequence, np.tile(scores, (num_windows, 1)), duration=77.0, config=config)
    assert_equal(found, localize_video(sequence, scores, duration=77.0, config=config))


def test_where_windows_begin_does_not_matter():
    rng = np.random.default_rng(2)
    bump = np.convolve(rng.random(40), np.ones(4) / 4)[:, None]
    config = CaseConfig(upsampling=1, nms="standard")

    def found(shift):
        sequence = np.zeros((120, 1))
        sequence[shift : shift + len(bump)] = bump
        detections = localize_windows(sequence, np.ones((6, 1)), duration=120.0, config=config)
        return detections._replace(start=detections.start - shift, end=detections.end - shift)

    expected = found(20)
    assert expected.score.size > 15
    for shift in range(10, 70):
        # Running sums round by what is before.
        for ours, theirs in zip(found(shift), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def as_rows(found):
    return sorted(zip(*(column.tolist() for column in found)))


@pytest.mark.parametrize("nms", ["published", "standard"])
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.4, 1.0])
def test_many_proposals_are_suppressed_in_groups_as_all_at_once(monkeypatch, nms, threshold):
    rng = np.random.default_rng(3)
    sequence = np.convolve(rng.standard_normal(1500), np.ones(3))[:, None]
    sequence = 1 / (1 + np.exp(-sequence))
    config = CaseConfig(nms=nms, nms_threshold=threshold, upsampling=3)

    def localized():
        return localize_windows(sequence, np.ones((1, 1)), duration=600.0, config=config)

    expected = localized()
    monkeypatch.setattr(detect, "_AT_ONCE", 10)
    sizes, in_groups = [], detect._independent
    monkeypatch.setattr(
        detect, "_independent", lambda *a, **k: [sizes.append(len(g)) or g for g in in_groups(*a, **k)]
    )
    found = localized()
    assert as_rows(found) == as_rows(expected)
    assert (np.diff(found.score) <= 0).all()
    assert sum(sizes) == expected.score.size > 1000
    assert (len(sizes) == 1) == (threshold == 0 and (nms == "published"))


def test_no_detection_in_many_windows():
    found = localize_windows(np.zeros((12, 2)), np.ones((3, 2)), duration=12.0, config=PLAIN)
    assert [column.size for column in found] == [0] * 4


def test_windows_must_have_the_same_size():
    with pytest.raises(ValueError, match="12 samples do not divide into 5 windows of the same size"):
        localize_windows(np.zeros((12, 2)), np.ones((5, 2)), duration=12.0, config=PLAIN)
