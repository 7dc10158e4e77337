import json

import pytest

from case_jax.data.annotations import AnnotatedVideo, read_ground_truth, read_intervals, subset_of
from case_jax.data.dataset import Annotation
from case_jax.data.info import THUMOS14
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal


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
        ("v", AnnotatedVideo("train", (), listed=False)),
    ]
    assert subset_of(truth, "test", path=path) == {"w": truth["w"].annotations}


# Files that cannot be used


def video(**fields):
    """A file of one video with one annotation, some of whose fields are others."""
    annotation = {"label": "Jump", "segment": [1, 2]}
    entry = {"subset": "test", "annotations": [annotation]}
    for name, value in fields.items():
        (annotation if name in ("label", "segment") else entry)[name] = value
    return {"database": {"v": entry}}


def without(name):
    content = video()
    entry = content["database"]["v"]
    del (entry if name in entry else entry["annotations"][0])[name]
    return content


@pytest.mark.parametrize(
    "content, wrong, expected",
    [
        bad("a list", [], "'database'", "ActivityNet"),
        bad("null", None, "'database'", "ActivityNet"),
        bad("a number", 1, "'database'", "ActivityNet"),
        bad("an empty object", {}, "'database'", "ActivityNet"),
        bad("predictions", {"results": {}}, "'database'", "ActivityNet"),
        bad("videos without annotations", {"v": {"subset": "train"}}, "'database'", "ActivityNet"),
        bad("database is a list", {"database": []}, "'database'", "ActivityNet"),
        bad("video is a list", {"database": {"v": []}}, "'v' … subset", "'subset'"),
        bad("no subset", without("subset"), "'v' … subset", "'subset'"),
        bad("subset 1", video(subset=1), "'v' … subset", "'subset'"),
        bad("annotations are an object", video(annotations={}), "'v' … 'annotations'", "list"),
        bad("annotations are null", video(annotations=None), "'v' … 'annotations'", "list"),
        bad("negative duration", video(duration=-1), "'v' … duration is -1", "seconds"),
        bad("duration NaN", video(duration=float("nan")), "'v' … duration is nan", "seconds"),
        bad("duration text", video(duration="long"), "'v' … duration is 'long'", "seconds"),
        bad("duration 1e300", video(duration=1e300), "'v' … duration is 1e+300", "seconds"),
        bad("duration in the other form", {"v": {"annotations": [], "duration_second": -1}}, "-1", "seconds"),
    ],
)
def test_files_that_cannot_be_used(content, wrong, expected, tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(content))
    assert_refused(read_ground_truth, path, wrong, expected)


GOOD = {"label": "Jump", "segment": [1, 2]}


@pytest.mark.parametrize(
    "entry, wrong, expected",
    [
        bad("no label", {"segment": [1, 2]}, "{'segment': [1, 2]}", '"label"'),
        bad("no segment", {"label": "a"}, "{'label': 'a'}", '"segment" … seconds'),
        bad("text", "x", "'x'", '"label" … "segment"'),
        bad("a number", 5, "5", '"label" … "segment"'),
        bad("label is a number", GOOD | {"label": 4}, "label is 4", "text"),
        bad("label is empty", GOOD | {"label": " "}, "label is ' '", "text"),
        bad("segment of one", GOOD | {"segment": [1]}, "[1]", "[start, end]"),
        bad("segment of three", GOOD | {"segment": [1, 2, 3]}, "[1, 2, 3]", "[start, end]"),
        bad("segment is a number", GOOD | {"segment": 3}, "3", "[start, end]"),
        bad("segment of words", GOOD | {"segment": ["a", 1]}, "['a', 1]", "[start, end]"),
        bad("segment of truth values", GOOD | {"segment": [True, 2]}, "[True, 2]", "[start, end]"),
        bad("segment of null", GOOD | {"segment": [None, 2]}, "[None, 2]", "[start, end]"),
        bad("segment of 400 digits", GOOD | {"segment": [0, 10**400]}, f"[0, {10**400}]", "[start, end]"),
        bad("start after end", GOOD | {"segment": [2, "1.5"]}, "[2.0, 1.5] ends before", "start <= end"),
        bad("NaN", GOOD | {"segment": [0, float("nan")]}, "[0.0, nan] … finite", "seconds"),
        bad("NaN in text", GOOD | {"segment": [0, "nan"]}, "[0.0, nan] … finite", "seconds"),
        bad("infinite", GOOD | {"segment": ["-inf", 1]}, "[-inf, 1.0] … finite", "seconds"),
        bad("1e999", GOOD | {"segment": [0, "1e999"]}, "[0.0, inf] … finite", "seconds"),
        bad("1e308", GOOD | {"segment": [0, 1e308]}, "[0.0, 1e+308] … beyond", "seconds"),
        bad("-10^18", GOOD | {"segment": [-(10**18), 0]}, "[-1e+18, 0.0] … beyond", "seconds"),
    ],
)
def test_annotations_that_cannot_be_used(entry, wrong, expected, tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(video(annotations=[GOOD, entry])))
    assert_refused(read_ground_truth, path, f"video 'v', annotation 1: … {wrong}", expected)


def test_a_message_quotes_no_more_of_a_file_than_fits(tmp_path):
    path = tmp_path / "gt.json"
    path.write_text(json.dumps(video(segment=["long"] * 100_000)))
    message = refusal(read_ground_truth, path)
    assert_parts(message, path, "'long', 'long' … ... … 'long'", '"segment"')
    assert len(message) == 2000


# Files that are read


JUMP = Annotation("Jump", 1.0, 2.0)


@pytest.mark.parametrize(
    "content, expected",
    [
        bad("numbers in text, as THUMOS14 has them", video(segment=["1", "2.0"]), [JUMP]),
        bad("no annotation", video(annotations=[]), []),
        bad("no list of annotations", without("annotations"), []),
        bad("before the video", video(segment=[-1, 2]), [JUMP._replace(start=-1.0)]),
        bad("beyond the video", video(segment=[1, 99], duration=2), [JUMP._replace(end=99.0)]),
        bad("no length", video(segment=[1, 1]), [JUMP._replace(end=1.0)]),
        bad("annotation twice", video(annotations=[GOOD] * 2), [JUMP, JUMP]),
        bad("more fields", video(label="Ju\nmp", extra={"a": [1]}), [JUMP._replace(label="Ju\nmp")]),
        bad("another script", video(label="\U0001f938"), [JUMP._replace(label="\U0001f938")]),
    ],
)
def test_annotations_that_are_read(content, expected, tmp_path):
    (tmp_path / "gt.json").write_text(json.dumps(content))
    assert list(read_ground_truth(tmp_path / "gt.json")["v"].annotations) == expected


def test_ambiguous_intervals_are_never_actions(tmp_path):
    labels = ["Jump", "Ambiguous", "ambiguous ", "Ambiguously"]
    content = video(annotations=[{"label": label, "segment": [1, 2]} for label in labels])
    (tmp_path / "gt.json").write_text(json.dumps(content))
    read = read_ground_truth(tmp_path / "gt.json")["v"]
    assert [a.label for a in read.annotations] == ["Jump", "Ambiguously"]
    assert [a.label for a in read.ambiguous] == ["Ambiguous", "ambiguous "]
    wrong = video(annotations=[{"label": "Ambiguous", "segment": [2, 1]}])  # checked as any other
    (tmp_path / "gt.json").write_text(json.dumps(wrong))
    assert_refused(read_ground_truth, tmp_path / "gt.json", "annotation 0 … ends before", "start <= end")


@pytest.mark.parametrize(
    "content, expected",
    [
        bad("an empty list", video(annotations=[]), True),
        bad("no list at all", without("annotations"), False),
        bad("an action", video(), False),
        bad("only an ambiguous interval", video(label="Ambiguous"), False),
    ],
)
def test_only_an_empty_list_says_that_a_video_shows_no_action(content, expected, tmp_path):
    (tmp_path / "gt.json").write_text(json.dumps(content))
    assert read_ground_truth(tmp_path / "gt.json")["v"].action_free == expected


def test_an_empty_database_has_no_video(tmp_path):
    (tmp_path / "gt.json").write_text('{"database": {}}')
    assert read_ground_truth(tmp_path / "gt.json") == {}


@pytest.mark.slow
def test_many_annotations(tmp_path):
    count = 200_000
    entries = ", ".join(f'{{"label": "Jump", "segment": [{i}, {i}.5]}}' for i in range(count))
    text = f'{{"database": {{"v": {{"subset": "test", "annotations": [{entries}]}}}}}}'
    (tmp_path / "gt.json").write_text(text)
    annotations = read_ground_truth(tmp_path / "gt.json")["v"].annotations
    assert len(annotations) == count
    assert annotations[-1] == ("Jump", count - 1.0, count - 0.5)


# Subsets


ONE = (Annotation("a", 0.0, 1.0),)


@pytest.mark.parametrize(
    "truth, wrong, expected",
    [
        bad(
            "of other subsets",
            {"v": AnnotatedVideo("val", ONE), "w": AnnotatedVideo("train", ONE)},
            "'test'",
            "'train', 'val'",
        ),
        bad("no videos", {}, "'test'", "none"),
        bad(
            "no annotations",
            {"v": AnnotatedVideo("test", ()), "w": AnnotatedVideo("train", ONE)},
            "'test'",
            "some",
        ),
        bad("only ambiguous", {"v": AnnotatedVideo("test", (), ambiguous=ONE)}, "'Ambiguous'", "others"),
    ],
)
def test_an_empty_subset_is_named(truth, wrong, expected):
    assert_parts(refusal(lambda: subset_of(truth, "test", path="gt.json")), "gt.json", wrong, expected)


# Real files


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


# Intervals


def test_intervals_are_lines_of_video_start_end(tmp_path):
    path = tmp_path / "ambiguous.txt"
    path.write_bytes(b"\xef\xbb\xbfv 0.5 2\r\n\r\nw 1 1\nv 3 4.5")
    assert read_intervals(path, "Unclear") == {
        "v": [{"label": "Unclear", "segment": (0.5, 2.0)}, {"label": "Unclear", "segment": (3.0, 4.5)}],
        "w": [{"label": "Unclear", "segment": (1.0, 1.0)}],
    }


@pytest.mark.parametrize(
    "line",
    [
        "v 1",
        "v 1 2 3",
        "v one two",
        "v 2 1",
        "v -1 2",
        "v nan 1",
        "v 0 inf",
        "v 0 1e300",
        "a\0b 1 2",
        "v,1,2",
    ],
)
def test_a_line_that_is_not_an_interval(tmp_path, line):
    path = tmp_path / "ambiguous.txt"
    path.write_text(f"\n v 0 1\n{line}\n")
    shown = ascii(line)
    assert_refused(read_intervals, path, f"line 3 … {shown}", "video name … seconds")


def test_intervals_in_another_encoding(tmp_path):
    path = tmp_path / "ambiguous.txt"
    path.write_bytes(b"caf\xe9 1 2\n")
    assert_refused(read_intervals, path, "UTF-8", "seconds")
    path.write_bytes("\ufeffcafé\t1 2\r\n\r\n".encode())
    assert read_intervals(path) == {"café": [{"label": "Ambiguous", "segment": (1.0, 2.0)}]}
