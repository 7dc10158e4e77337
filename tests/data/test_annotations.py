import json

import pytest

from case_jax.data.annotations import AnnotatedVideo, read_ground_truth, read_intervals, subset_of
from case_jax.data.dataset import Annotation
from case_jax.data.info import THUMOS14
from case_jax.errors import InputError


def write(path, database):
    path.write_text(json.dumps({"version": "1", "database": database}))
    return path


def test_fields_and_order_of_the_file(tmp_path):
    path = write(
        tmp_path / "gt.json",
        {
            "w": {
                "subset": "test",
                "duration": 9,
                "annotations": [
                    {"segment": ["1.5", "2"], "label": "b", "id": 7},  # numbers in text
                    {"segment": [0, 0], "label": "a"},  # no longer than an instant
                ],
            },
            "v": {"subset": "train"},
        },
    )
    truth = read_ground_truth(path)
    assert list(truth.items()) == [
        ("w", AnnotatedVideo("test", (Annotation("b", 1.5, 2.0), Annotation("a", 0.0, 0.0)), 9.0)),
        ("v", AnnotatedVideo("train", ())),
    ]
    assert subset_of(truth, "test", path=path) == {"w": truth["w"].annotations}


FORM = '; expected {"label": text, "segment": [start, end]} in seconds'


@pytest.mark.parametrize(
    "entry, message",
    [
        ({"label": "a"}, "is {'label': 'a'}" + FORM),
        ({"segment": [0, 1]}, "is {'segment': [0, 1]}" + FORM),
        ({"label": "a", "segment": [1]}, "is {'label': 'a', 'segment': [1]}" + FORM),
        ({"label": "a", "segment": [0, 1, 2]}, "is {'label': 'a', 'segment': [0, 1, 2]}" + FORM),
        ({"label": "a", "segment": ["x", 1]}, "is {'label': 'a', 'segment': ['x', 1]}" + FORM),
        ({"label": "a", "segment": [None, 1]}, "is {'label': 'a', 'segment': [None, 1]}" + FORM),
        ({"label": "a", "segment": 3}, "is {'label': 'a', 'segment': 3}" + FORM),
        (5, "is 5" + FORM),
        ({"label": 4, "segment": [0, 1]}, "label is 4; expected text"),
        (
            {"label": "a", "segment": [0, float("nan")]},
            "segment [0.0, nan] is not finite; expected seconds",
        ),
        (
            {"label": "a", "segment": ["-inf", 1]},
            "segment [-inf, 1.0] is not finite; expected seconds",
        ),
        (
            {"label": "a", "segment": [2, "1.5"]},
            "segment [2.0, 1.5] ends before it starts; expected start <= end",
        ),
    ],
)
def test_an_unusable_annotation_is_named(tmp_path, entry, message):
    good = {"label": "a", "segment": [0, 1]}
    path = write(tmp_path / "gt.json", {"v": {"subset": "train", "annotations": [good, entry]}})
    with pytest.raises(InputError) as error:
        read_ground_truth(path)
    assert str(error.value) == f"{path}: video 'v', annotation 1: {message}"


NO_SUBSET = "video 'v': has no subset; expected an object with text 'subset'"
NO_LIST = "video 'v': 'annotations' is no list; expected a list of label and segment"
NO_DATABASE = (
    "has no 'database' object; expected the ActivityNet form "
    '{"database": {video: {"subset", "annotations"}}}'
)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"v": {"subset": "train"}}, NO_DATABASE),
        ([], NO_DATABASE),
        ({"database": []}, NO_DATABASE),
        ({"database": {"v": []}}, NO_SUBSET),
        ({"database": {"v": {}}}, NO_SUBSET),
        ({"database": {"v": {"subset": 3}}}, NO_SUBSET),
        ({"database": {"v": {"subset": "a", "annotations": {}}}}, NO_LIST),
        ({"database": {"v": {"subset": "a", "annotations": None}}}, NO_LIST),
    ],
)
def test_an_unusable_file_is_named(tmp_path, content, message):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        read_ground_truth(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_file_that_is_not_json_is_named(tmp_path):
    path = tmp_path / "gt.json"
    path.write_text("video 1 2")
    with pytest.raises(InputError) as error:
        read_ground_truth(path)
    assert str(error.value) == (
        f"{path}: is not JSON (line 1, column 1: Expecting value); expected a JSON file"
    )


ONE = (Annotation("a", 0.0, 1.0),)


@pytest.mark.parametrize(
    "truth, message",
    [
        (
            {"v": AnnotatedVideo("val", ONE), "w": AnnotatedVideo("train", ONE)},
            "has no video of subset 'test'; expected one of its subsets: 'train', 'val'",
        ),
        ({}, "has no video of subset 'test'; expected one of its subsets: none"),
        (
            {"v": AnnotatedVideo("test", ()), "w": AnnotatedVideo("train", ONE)},
            "no video of subset 'test' has an annotation; expected some",
        ),
    ],
)
def test_an_empty_subset_is_named(truth, message):
    with pytest.raises(InputError) as error:
        subset_of(truth, "test", path="gt.json")
    assert str(error.value) == f"gt.json: {message}"


def test_real_thumos14_annotations(shared_data):
    path = shared_data / "thumos14" / "gt.json"
    truth = read_ground_truth(path)
    for subset, videos, instances in (("train", 200, 3007), ("test", 210, 3311)):
        chosen = subset_of(truth, subset, path=path)
        assert (len(chosen), sum(map(len, chosen.values()))) == (videos, instances)
        labels = {a.label for annotations in chosen.values() for a in annotations}
        assert labels == set(THUMOS14.classes)
    first = Annotation("HighJump", 18.6, 24.8)  # "18.6", "24.8" in the file
    assert truth["video_test_0000896"].annotations[0] == first


def test_real_activitynet_annotations(shared_data):
    folder = shared_data / "activitynet"
    truth = read_ground_truth(folder / "activity_net.v1-2.json")
    assert len(truth) == 8907
    assert {video.subset for video in truth.values()} == {"training", "validation", "testing"}
    assert len({a.label for video in truth.values() for a in video.annotations}) == 100
    assert truth["5wOmHw6Boj8"].duration == 39.59
    # The other common form has no subsets.
    other = read_ground_truth(folder / "anno_v1-3_bmn.json")
    assert (len(other), {video.subset for video in other.values()}) == (19_228, {""})
    assert other["v_QOlSCBRmfWY"].duration == 82.73
    assert len({a.label for video in other.values() for a in video.annotations}) == 200


def test_one_object_per_video_without_a_database(tmp_path):
    path = tmp_path / "anno.json"
    entry = {"annotations": [{"label": "a", "segment": [0, 1]}], "duration_second": "2.5"}
    path.write_text(json.dumps({"v": entry, "w": {**entry, "subset": "training"}}))
    truth = read_ground_truth(path)
    assert truth["v"] == AnnotatedVideo("", (Annotation("a", 0.0, 1.0),), 2.5)
    assert truth["w"].subset == "training"
    path.write_text(json.dumps({"v": {**entry, "duration_second": -1}}))
    with pytest.raises(InputError) as raised:
        read_ground_truth(path)
    assert str(raised.value) == f"{path}: video 'v': duration is -1; expected seconds"


def test_intervals_are_lines_of_video_start_end(tmp_path):
    path = tmp_path / "ambiguous.txt"
    path.write_bytes(b"\xef\xbb\xbfv 0.5 2\r\n\r\nw 1 1\nv 3 4.5")
    assert read_intervals(path, "Unclear") == {
        "v": [{"label": "Unclear", "segment": (0.5, 2.0)}, {"label": "Unclear", "segment": (3.0, 4.5)}],
        "w": [{"label": "Unclear", "segment": (1.0, 1.0)}],
    }


@pytest.mark.parametrize("line", ["v 1", "v 1 2 3", "v one 2", "v 2 1", "v nan 1", "v -1 2", "v 0 inf"])
def test_a_line_that_is_no_interval(tmp_path, line):
    path = tmp_path / "ambiguous.txt"
    path.write_text(f"v 0 1\n{line}\n")
    with pytest.raises(InputError) as raised:
        read_intervals(path)
    assert str(raised.value) == (
        f"{path}: line 2 is {line!r}; expected a video name, start and end in seconds on each line"
    )
