import functools
import json

import numpy as np
import pytest

from case_jax.localization.detections import (
    Detections,
    concatenate,
    from_activitynet,
    read_predictions,
    to_activitynet,
    write_predictions,
)
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_refused, bad

CLASSES = ("Jump", "Throw", "Très haut")


def make_detections(count, seed=0):
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 100, count)
    label = rng.integers(0, len(CLASSES), count)
    return Detections(label, start, start + rng.exponential(size=count), rng.random(count))


def assert_same(found, expected):
    for column, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(column, wanted)
        assert column.dtype == wanted.dtype


def test_written_predictions_come_back_exactly(tmp_path):
    videos = {"v": make_detections(9), "nothing": make_detections(0), "w": make_detections(3, 1)}
    path = tmp_path / "new" / "result.json"
    write_predictions(path, to_activitynet(videos, CLASSES, version="1"))
    content = json.loads(path.read_text())
    assert list(content) == ["version", "results", "external_data"]
    assert content["version"] == "1"
    assert content["external_data"] == {}
    back = from_activitynet(read_predictions(path), CLASSES)
    assert list(back) == ["v", "nothing", "w"]
    for name, detections in videos.items():
        assert_same(back[name], detections)


def test_a_score_that_is_not_finite_is_never_written(tmp_path):
    videos = {"v": make_detections(1)._replace(score=np.array([np.nan]))}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_predictions(tmp_path / "result.json", to_activitynet(videos, CLASSES))
    assert not list(tmp_path.iterdir())


def test_what_was_concatenated_can_be_taken_apart_again():
    parts = [make_detections(2), make_detections(0), make_detections(3, 1)]
    joined = concatenate(parts)
    assert_same(joined.take(np.arange(2)), parts[0])
    assert_same(joined.take(np.arange(5) >= 2), parts[2])
    assert_same(concatenate([]), make_detections(0))


def test_an_unknown_label_is_a_key_error():
    entry = {"label": "Swim", "score": 1.0, "segment": (0.0, 1.0)}
    with pytest.raises(KeyError, match="Swim"):
        from_activitynet({"v": [entry]}, CLASSES)


def test_numbers_written_as_text_are_read(tmp_path):
    path = tmp_path / "result.json"
    entry = {
        "label": "Jump",
        "score": "0.5",
        "segment": ["1", "2.5"],
        "model": "I3D",
    }  # more fields are allowed
    path.write_text(json.dumps({"results": {"v": [entry]}}), encoding="utf-8-sig")
    expected = {"label": "Jump", "score": 0.5, "segment": (1.0, 2.5)}
    assert read_predictions(path) == {"v": [expected]}


GOOD = {"label": "Jump", "score": 0.5, "segment": [1, 2]}
FORM = '"label" … "score" … "segment"'


@pytest.mark.parametrize(
    "entry, wrong, expected",
    [
        bad("no score", {"label": "Jump", "segment": [1, 2]}, '{"label": "Jump", "segment": [1, 2]}', FORM),
        bad("no label", {"score": 0.5, "segment": [1, 2]}, '{"score": 0.5, "segment": [1, 2]}', FORM),
        bad("no segment", {"label": "Jump", "score": 0.5}, '{"label": "Jump", "score": 0.5}', FORM),
        bad("null", None, "null", FORM),
        bad("a number", 7, "7", FORM),
        bad("text", "Jump", '"Jump"', FORM),
        bad("longer than a message", ["x" * 100], '["xxx … x...', FORM),
        bad("score is null", GOOD | {"score": None}, '"score": null', FORM),
        bad("score is text", GOOD | {"score": "high"}, '"score": "high"', FORM),
        bad("score is true", GOOD | {"score": True}, '"score": true', FORM),
        bad("segment of one", GOOD | {"segment": [1]}, '"segment": [1]', FORM),
        bad("segment is a number", GOOD | {"segment": 1}, '"segment": 1', FORM),
        bad("segment is text", GOOD | {"segment": "1-2"}, '"segment": "1-2"', FORM),
        bad("segment of 1,000", GOOD | {"segment": list(range(1000))}, '"segment": [0, 1, 2 … ...', FORM),
        bad("label is a number", GOOD | {"label": 3}, "label is 3", "text"),
        bad("label is empty", GOOD | {"label": " "}, 'label is " "', "text"),
        bad("label is null", GOOD | {"label": None}, "label is null", "text"),
        bad("score NaN", GOOD | {"score": float("nan")}, "finite … (nan, 1.0, 2.0)", "numbers"),
        bad("score infinite", GOOD | {"score": float("inf")}, "finite … (inf, 1.0, 2.0)", "numbers"),
        bad("score -inf in text", GOOD | {"score": "-inf"}, "finite … (-inf, 1.0, 2.0)", "numbers"),
        bad("segment NaN", GOOD | {"segment": [0, float("nan")]}, "finite … (0.5, 0.0, nan)", "numbers"),
        bad("segment infinite", GOOD | {"segment": [0, float("inf")]}, "finite … (0.5, 0.0, inf)", "numbers"),
        bad("start after end", GOOD | {"segment": [2, 1]}, "[2.0, 1.0] ends before", "start <= end"),
        bad("1e308", GOOD | {"segment": [-1e308, 1e308]}, "[-1e+308, 1e+308] … beyond", "seconds"),
    ],
)
def test_detections_that_cannot_be_used(tmp_path, entry, wrong, expected):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"results": {"u": [GOOD], "v": [GOOD, entry]}}))
    assert_refused(read_predictions, path, f"video 'v', detection 1: … {wrong}", expected)


@pytest.mark.parametrize(
    "entry, wrong, expected",
    [
        bad("no score", {"segment": [1, 2]}, '{"segment": [1, 2]}', '{"score" … "segment"'),
        bad("a number", 7, "7", '{"score" … "segment"'),
        bad("label is null", GOOD | {"label": None}, "label is null", "text"),
    ],
)
def test_proposals_may_lack_a_label_but_nothing_else(tmp_path, entry, wrong, expected):
    path = tmp_path / "result.json"
    bare = {"score": 0.5, "segment": [1, 2]}
    path.write_text(json.dumps({"results": {"v": [bare, GOOD]}}))
    read = functools.partial(read_predictions, labelled=False)
    assert [e["label"] for e in read(path)["v"]] == ["", "Jump"]
    path.write_text(json.dumps({"results": {"v": [bare, entry]}}))
    assert_refused(read, path, f"video 'v', detection 1: … {wrong}", expected)


@pytest.mark.parametrize(
    "content, wrong, expected",
    [
        bad("an empty object", "{}", "'results'", "ActivityNet prediction"),
        bad("a list", "[]", "'results'", "ActivityNet prediction"),
        bad("ground truth", '{"database": {}}', "'results'", "ActivityNet prediction"),
        bad("results are a list", '{"results": [1]}', "'results'", "ActivityNet prediction"),
        bad("a video is an object", '{"results": {"v": {}}}', "'v'", "list of detections"),
        bad("a video twice", '{"results": {"v": [], "w": [], "v": []}}', "'v' twice", "once"),
        bad("cut", '{"results": ', "not JSON (line 1, column 13", "JSON"),
        bad("csv", "video,label\nv,Jump\n", "not JSON (line 1, column 1", "JSON"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, wrong, expected):
    path = tmp_path / "result.json"
    path.write_text(content)
    assert_refused(read_predictions, path, wrong, expected)


@pytest.mark.parametrize("make, reason", PLACES)
def test_places_of_predictions(make, reason, tmp_path):
    path = tmp_path / "result.json"
    make(path)
    assert_refused(read_predictions, path, reason, "JSON")


@pytest.mark.slow
def test_many_detections(tmp_path):
    count = 200_000
    entries = ", ".join(f'{{"label": "Jump", "score": 0.5, "segment": [{i}, {i}.5]}}' for i in range(count))
    (tmp_path / "p.json").write_text(f'{{"results": {{"v": [{entries}]}}}}')
    found = read_predictions(tmp_path / "p.json")["v"]
    assert len(found) == count
    assert found[-1] == {"label": "Jump", "score": 0.5, "segment": (count - 1.0, count - 0.5)}


def test_real_activitynet_predictions(shared_data):
    results = read_predictions(shared_data / "activitynet" / "sample_detections_v1-3.json")
    assert len(results) == 4926
    assert sum(map(len, results.values())) == 7654
    assert results["wONwHYy59Tc"][0] == {
        "label": "Blow-drying hair",
        "score": 1.0,
        "segment": (94.52138901727746, 130.48707650118757),
    }
