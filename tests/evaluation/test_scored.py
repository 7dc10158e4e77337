import json

import pytest

from case_jax.evaluation.scored import read_scored
from tests.helpers.refusals import assert_parts, refusal

JUMP, RUN = ({"label": label, "segment": [0, 10]} for label in ("Jump", "Run"))
VAGUE = {"label": "Ambiguous", "segment": [20, 30]}
TRUTH = {
    "v": {"subset": "test", "annotations": [JUMP, VAGUE]},
    "still": {"subset": "test", "annotations": [], "duration": 90},
    "calm": {"subset": "test", "annotations": []},
    "unsure": {"subset": "test", "annotations": [VAGUE], "duration": 60},
    "silent": {"subset": "test", "duration": 60},  # without a list, nobody knows what happens
    "w": {"subset": "train", "annotations": [RUN]},
}


def found(*labels):
    return [{"label": label, "segment": [0, 10], "score": 0.5} for label in labels]


@pytest.fixture
def read(tmp_path):
    """Scores the test videos of `TRUTH` with some results."""

    def read(results, **options):
        (tmp_path / "gt.json").write_text(json.dumps({"database": TRUTH}))
        (tmp_path / "p.json").write_text(json.dumps({"results": results}))
        return read_scored(tmp_path / "gt.json", [str(tmp_path / "p.json")], "test", **options)

    return read


RESULTS = {
    "v_v": found("Jump", "Run", "Fly", "Fly"),
    "still": found("Fly"),
    "unsure": found("Jump"),
    "w": found("Run", "Fly"),
    "x": found("Jump", "Fly"),
    "v_silent": found("Jump"),
}


def test_what_cannot_be_judged_is_counted(read):
    scored = read(RESULTS)
    assert scored.left_out == ({"x": 2, "silent": 1}, {"Fly": 2, "Run": 1}, {})
    assert (scored.elsewhere, scored.num_scored) == (2, 3)
    assert scored.instances.video.tolist() == ["v"]
    assert scored.ambiguous.video.tolist() == ["v", "unsure"]
    assert scored.found.video.tolist() == ["v"] * 4 + ["still", "unsure"]
    assert scored.action_free == {"still": 90, "calm": None}


def test_proposals_are_judged_whatever_their_labels_but_not_where_nothing_happens(read):
    scored = read(RESULTS, proposals=True)
    assert scored.left_out == ({"x": 2, "silent": 1}, {}, {"still": 1, "unsure": 1})
    assert scored.num_scored == 4


def test_nothing_is_left_out_where_everything_is_annotated(read):
    scored = read({"v": found("Jump"), "still": found("Jump"), "w": found("Fly")})
    assert scored.left_out.total == 0
    assert not any(scored.left_out)
    assert (scored.num_scored, scored.elsewhere) == (2, 1)


@pytest.mark.parametrize(
    "results, options, wrong, expected",
    [
        ({"x": found("Jump")}, {}, "no detection … 'test' … video 'x'", "videos and classes"),
        ({"v": found("Fly")}, {}, "no detection … 'test' … class 'Fly'", "videos and classes"),
        ({"still": found("")}, {"proposals": True}, "action-free video 'still'", "videos and classes"),
        ({"silent": found("Jump")}, {"strict": True}, "video 'silent' … no list", "annotated videos"),
        ({"v": found("Jump"), "x": []}, {"strict": True}, "has video 'x'", "videos of"),
        ({"v": found("Jump", "Fly")}, {"strict": True}, "video 'v' … 'Fly'", "one of the 2 labels of"),
    ],
)
def test_what_is_refused(results, options, wrong, expected, read, tmp_path):
    message = refusal(lambda: read(results, **options))
    assert_parts(message, tmp_path / "p.json", wrong, expected)


def test_strictly_a_class_of_another_subset_is_known(read):
    assert read({"v": found("Jump", "Run")}, strict=True).left_out.classes == {"Run": 1}
