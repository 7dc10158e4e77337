import json

import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.localization.detections import (
    Detections,
    concatenate,
    from_activitynet,
    read_predictions,
    to_activitynet,
    write_predictions,
)

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
    entry = {"label": "Jump", "score": "0.5", "segment": ["1", "2.5"]}
    path.write_text(json.dumps({"results": {"v": [entry]}}), encoding="utf-8-sig")
    expected = {"label": "Jump", "score": 0.5, "segment": (1.0, 2.5)}
    assert read_predictions(path) == {"v": [expected]}


FORM = '; expected {"label": text, "score": number, "segment": [start, end]}'
GOOD = {"label": "Jump", "score": 0.5, "segment": [1, 2]}
LONG = "x" * 100


@pytest.mark.parametrize(
    "entry, message",
    [
        (GOOD | {"score": None}, 'is {"label": "Jump", "score": null, "segment": [1, 2]}' + FORM),
        ({"label": "Jump", "segment": [1, 2]}, 'is {"label": "Jump", "segment": [1, 2]}' + FORM),
        ({"score": 0.5, "segment": [1, 2]}, 'is {"score": 0.5, "segment": [1, 2]}' + FORM),
        ({"label": "Jump", "score": 0.5}, 'is {"label": "Jump", "score": 0.5}' + FORM),
        (GOOD | {"segment": [1]}, 'is {"label": "Jump", "score": 0.5, "segment": [1]}' + FORM),
        (GOOD | {"segment": 1}, 'is {"label": "Jump", "score": 0.5, "segment": 1}' + FORM),
        (GOOD | {"score": "high"}, 'is {"label": "Jump", "score": "high", "segment": [1, 2]}' + FORM),
        (7, "is 7" + FORM),
        ("Jump", 'is "Jump"' + FORM),
        ([LONG], 'is ["' + "x" * 75 + "..." + FORM),
        (GOOD | {"label": 3}, "label is 3; expected text"),
        (
            GOOD | {"score": float("nan")},
            "score or segment is not finite (nan, 1.0, 2.0); expected numbers",
        ),
        (
            GOOD | {"segment": [0, float("inf")]},
            "score or segment is not finite (0.5, 0.0, inf); expected numbers",
        ),
        (GOOD | {"segment": [2, 1]}, "segment [2.0, 1.0] ends before it starts; expected start <= end"),
    ],
)
def test_an_unusable_detection_is_named(tmp_path, entry, message):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"results": {"u": [GOOD], "v": [GOOD, entry]}}))
    with pytest.raises(InputError) as error:
        read_predictions(path)
    assert str(error.value) == f"{path}: video 'v', detection 1: {message}"


NO_RESULTS = (
    "has no 'results' object; expected the ActivityNet prediction format "
    '{"results": {video: [{"label", "score", "segment": [start, end]}]}}'
)


@pytest.mark.parametrize(
    "content, message",
    [
        ("{}", NO_RESULTS),
        ("[]", NO_RESULTS),
        ('{"results": [1]}', NO_RESULTS),
        ('{"results": {"v": {}}}', "video 'v' does not hold a list; expected a list of detections"),
        (
            '{"results": ',
            "is not JSON (line 1, column 13: Expecting value); expected a JSON file",
        ),
    ],
)
def test_an_unusable_file_is_named(tmp_path, content, message):
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(InputError) as error:
        read_predictions(path)
    assert str(error.value) == f"{path}: {message}"


def test_real_activitynet_predictions(shared_data):
    results = read_predictions(shared_data / "activitynet" / "sample_detections_v1-3.json")
    assert len(results) == 4926
    assert sum(map(len, results.values())) == 7654
    assert results["wONwHYy59Tc"][0] == {
        "label": "Blow-drying hair",
        "score": 1.0,
        "segment": (94.52138901727746, 130.48707650118757),
    }
