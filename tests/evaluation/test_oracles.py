import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from case_jax.evaluation.matching import make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.evaluation.oracles import AS_FOUND, ORACLES, oracle_maps, perfect
from case_jax.localization.tiou import tiou

_TIOU = (0.1, 0.3, 0.5, 0.7)


def _entry(label, start, end, score=0.0):
    return {"label": label, "segment": (start, end), "score": score}


# One video with two jumps and one with a run. Of the jumps, the first is found twice and loosely, the second
# exactly but unsurely; the run is not found; the surest detection of all is in the wrong video.
TRUTH = make_segments(
    {
        "v": [_entry("Jump", 0, 10), _entry("Jump", 20, 30)],
        "w": [_entry("Run", 5, 15), _entry("Jump", 40, 50)],
    }
)
FOUND = make_segments(
    {
        "v": [
            _entry("Jump", 0, 6, 0.8),  # tIoU 0.6 with the first jump
            _entry("Jump", 0, 4, 0.7),  # tIoU 0.4
            _entry("Jump", 50, 60, 0.6),
            _entry("Jump", 20, 30, 0.5),  # the second jump
            _entry("Run", 0, 9, 0.9),  # nobody runs in this video
            _entry("Swim", 0, 9, 1.0),  # no class of the ground truth
        ]
    }
)


def _rows(segments):
    """(video, label, start, end) by falling score."""
    order = np.argsort(-segments.score, kind="stable")
    columns = zip(*(column[order].tolist() for column in segments[:4]))
    return [(video, label, start, end) for video, label, start, end in columns]


def _average(segments, *thresholds):
    return detection_map(TRUTH, segments, thresholds).average


def test_as_found_by_hand():
    """Jump at 0.5: hits are 1st and 4th of 4, of 3 jumps: (1 + 2/4) / 3; Run: nothing."""
    assert _average(FOUND, 0.5) == pytest.approx((1 + 2 / 4) / 3 / 2)


def test_perfect_video_labels_by_hand():
    """The run in v goes; nothing else, so mAP is the same (the run was no hit)."""
    kept = _rows(perfect("video labels", TRUTH, FOUND))
    assert kept == [("v", "Jump", 0, 6), ("v", "Jump", 0, 4), ("v", "Jump", 50, 60), ("v", "Jump", 20, 30)]


def test_perfect_boundaries_by_hand():
    """Both loose jumps become the first jump, and the second of them a double detection."""
    moved = perfect("boundaries", TRUTH, FOUND)
    assert _rows(moved) == [
        ("v", "Run", 0, 9),
        ("v", "Jump", 0, 10),
        ("v", "Jump", 0, 10),
        ("v", "Jump", 50, 60),
        ("v", "Jump", 20, 30),
    ]
    assert _average(moved, 0.9) == pytest.approx((1 + 2 / 4) / 3 / 2)


def test_perfect_proposals_by_hand():
    """One detection an action; the jump and the run of w have no score and come last."""
    replaced = perfect("proposals", TRUTH, FOUND)
    assert _rows(replaced)[:4] == [
        ("v", "Run", 0, 9),
        ("v", "Jump", 0, 10),
        ("v", "Jump", 50, 60),
        ("v", "Jump", 20, 30),
    ]
    assert sorted(_rows(replaced)[4:]) == [("w", "Jump", 40, 50), ("w", "Run", 5, 15)]
    # Jump: 1st, 3rd and 4th of 4, made non-increasing: 1, 3/4, 3/4; Run: 2nd of 2.
    assert _average(replaced, 0.9) == pytest.approx(((1 + 3 / 4 + 3 / 4) / 3 + 1 / 2) / 2)


def test_perfect_scores_by_hand():
    """The exact jump first, then the better one of the loose jumps, then everything as before."""
    ranked = _rows(perfect("scores", TRUTH, FOUND))
    assert ranked == [
        ("v", "Jump", 20, 30),
        ("v", "Jump", 0, 6),
        ("v", "Run", 0, 9),
        ("v", "Jump", 0, 4),
        ("v", "Jump", 50, 60),
    ]
    assert _average(perfect("scores", TRUTH, FOUND), 0.5) == pytest.approx(2 / 3 / 2)


def test_maps_have_titles_in_order():
    maps = oracle_maps(TRUTH, FOUND, lambda segments: detection_map(TRUTH, segments, _TIOU))
    assert list(maps) == [AS_FOUND, *(f"perfect {name}" for name in ORACLES)]
    assert maps[AS_FOUND].average == detection_map(TRUTH, FOUND, _TIOU).average


@pytest.mark.parametrize("name", ORACLES)
def test_nothing_found_and_no_action(name):
    nothing, expected = make_segments({}), TRUTH.label.size if name == "proposals" else 0
    assert perfect(name, TRUTH, nothing).label.size == expected
    with pytest.raises(ValueError, match="at least one annotated action"):
        perfect(name, nothing, FOUND)


@pytest.mark.parametrize("name", ORACLES)
def test_scores_of_any_size_keep_their_order(name):
    huge = FOUND._replace(score=FOUND.score * 1e300 - 5e299)
    assert _rows(perfect(name, TRUTH, huge)) == _rows(perfect(name, TRUTH, FOUND))


_ENTRIES = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.integers(0, 12), st.integers(1, 6), st.sampled_from([0.1, 0.2, 0.5, 0.9])
    ),
    max_size=8,
).map(lambda rows: [_entry(label, start, start + length, score) for label, start, length, score in rows])


@settings(max_examples=30, deadline=None)
@given(truth=_ENTRIES.filter(bool), found=_ENTRIES, other=_ENTRIES)
@example(
    truth=[_entry("a", 0, 5), _entry("a", 1, 7)],
    found=[_entry("a", 5, 7, 0.1), _entry("a", 4, 6, 0.1)],  # both fit the second action equally well
    other=[],
)
def test_what_holds_for_any_detections(truth, found, other):
    actions, detections = make_segments({"v": truth}), make_segments({"v": found, "w": other})
    before = detection_map(actions, detections, _TIOU).per_class
    after = {
        name: detection_map(actions, perfect(name, actions, detections), _TIOU).per_class for name in ORACLES
    }
    assert (after["video labels"] >= before - 1e-12).all()
    assert (after["proposals"] > 0).all()  # every action is there
    assert _greedy_tious(truth, found) == pytest.approx(_first_tious(actions, detections))


def _greedy_tious(truth, found):
    """tIoU of the pairs that a loop takes: of all pairs that are left, always the one of highest tIoU.

    Of equal ones it takes the earlier action's, then the surer detection's, then the earlier detection's.
    """
    found = sorted(found, key=lambda d: (-d["score"], *d["segment"]))
    pairs = sorted(
        (-float(tiou(*map(np.float64, (*d["segment"], *a["segment"])))), i, j)
        for (i, a), (j, d) in itertools.product(enumerate(truth), enumerate(found))
        if a["label"] == d["label"]
    )
    taken_actions, taken_detections, tious = set(), set(), []
    for minus_tiou, i, j in pairs:
        if minus_tiou < 0 and i not in taken_actions and j not in taken_detections:
            taken_actions.add(i)
            taken_detections.add(j)
            tious.append(-minus_tiou)
    return tious


def _first_tious(actions, detections):
    """tIoU of the detections that the oracle ranks before all others."""
    score = perfect("scores", actions, detections).score
    levels = np.unique(detections.score[np.isin(detections.label, actions.label)]).size
    return sorted((score[score > levels] - levels - 1).tolist(), reverse=True)
