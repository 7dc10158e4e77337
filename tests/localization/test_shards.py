import json

import pytest

from case_jax.errors import InputError
from case_jax.localization.shards import find_files, merge_predictions, shard_path
from tests.helpers.refusals import assert_parts, bad, refusal

# Paths


def test_a_shard_of_a_file_lies_beside_it():
    assert str(shard_path("a/found.json", 2, 4)) == "a/found-00002-of-00004.json"
    assert str(shard_path("found", 0, 100_000)) == "found-00000-of-100000"
    assert str(shard_path("v1.0/found", 0, 1)) == "v1.0/found-00000-of-00001"


def test_a_folder_has_no_shards():
    with pytest.raises(InputError, match="cannot be written"):
        shard_path("/", 0, 2)


# Files that a text names


@pytest.fixture
def folder(tmp_path):
    """Three shards, one of three other shards, one of twenty, and single files."""
    names = [f"q-{i:05d}-of-00003" for i in range(3)] + ["r-00001-of-00003", "s-00005-of-00020", "a", "b"]
    for name in names:
        (tmp_path / f"{name}.json").touch()
    return tmp_path


@pytest.mark.parametrize(
    "named, found",
    [
        ("{}/a.json", ["a"]),
        ("{}/gone.json", ["gone"]),  # reading it says that it is missing
        ("{}/b.json,{}/a.json", ["b", "a"]),
        ("{}/q-*-of-00003.json", [f"q-{i:05d}-of-00003" for i in range(3)]),
        (
            "{}/q-00000*,{}/q-00001*,{}/q-00002*",
            [f"q-{i:05d}-of-00003" for i in range(3)],
        ),
        ("{}/q-00000*,{}/q-0000?-of-00003.json", [f"q-{i:05d}-of-00003" for i in range(3)]),
        ("{}/r-00001-of-00003.json", ["r-00001-of-00003"]),
    ],
)
def test_a_text_names_files(named, found, folder):
    assert find_files(named.replace("{}", str(folder))) == [f"{folder}/{name}.json" for name in found]


@pytest.mark.parametrize("name", ["q-*.json", "a,b.json", "p[1].json", "p-00001-of-00004.json"])
def test_an_existing_path_is_never_a_pattern_or_a_list(name, folder):
    (folder / name).touch()
    assert find_files(f"{folder}/{name}") == [f"{folder}/{name}"]


@pytest.mark.parametrize(
    "named, wrong, expected",
    [
        bad("no match", "{}/z-*.json", "'{}/z-*.json'", "prediction files"),
        bad("no match in a list", "{}/a.json,{}/z*", "'{}/z*'", "prediction files"),
        bad("an empty name", "{}/a.json,,{}/b.json", "'{}/a.json,,{}/b.json' … empty", "a,b,c"),
        bad("a pattern lacks shards", "{}/r-*.json", "{}/r-*-of-00003.json … 00000, 00002", "all 3"),
        bad("a list lacks shards", "{}/a.json,{}/r-00001-of-00003.json", "{}/r-* … 00000, 00002", "all 3"),
        bad(
            "many are missing",
            "{}/s-0*",
            "{}/s-*-of-00020.json … 00000, 00001, 00002, 00003, 00004, 00006, 00007, 00008, ...",
            "all 20",
        ),
    ],
)
def test_names_that_cannot_be_used(named, wrong, expected, folder):
    message = refusal(find_files, named.replace("{}", str(folder)))
    assert_parts(message, "--predictions", wrong.replace("{}", str(folder)), expected)


# Merging

JUMP = {"label": "Jump", "score": 0.5, "segment": (0.0, 4.0)}
VIDEOS, LABELS = ("v", "w"), ("Jump", "Run")


@pytest.fixture
def merge(tmp_path):
    """Merges files with the given results; the first is 0.json, and so on."""

    def merge(*parts, strict=True, labelled=True):
        paths = [str(tmp_path / f"{i}.json") for i in range(len(parts))]
        for path, results in zip(paths, parts):
            with open(path, "w") as file:
                json.dump({"results": results}, file)
        return merge_predictions(
            paths, VIDEOS, LABELS, truth_path="gt.json", strict=strict, labelled=labelled
        )

    return merge


def test_files_are_merged_under_the_names_of_the_ground_truth(merge):
    assert merge({"v_v": [JUMP]}, {}, {"w": []}) == ({"v": [JUMP], "w": []}, {})


def test_what_the_ground_truth_does_not_have_is_counted_or_kept(merge):
    fly = {**JUMP, "label": "Fly"}
    merged = merge({"v": [JUMP, fly], "u": [JUMP]}, {"u": [fly, fly], "x": []}, strict=False)
    assert merged == ({"v": [JUMP, fly]}, {"u": 3, "x": 0})


def test_proposals_need_no_label(merge):
    bare = {name: value for name, value in JUMP.items() if name != "label"}
    for strict in (False, True):
        merged = merge({"v": [bare, JUMP]}, strict=strict, labelled=False)
        assert merged.predictions == {"v": [{**JUMP, "label": ""}, JUMP]}


@pytest.mark.parametrize(
    "parts, named, wrong, expected",
    [
        bad("an unknown video", [{"u": []}], "0.json", "'u'", "videos of gt.json"),
        bad(
            "an unknown label",
            [{"v": [{**JUMP, "label": "Fly"}]}],
            "0.json",
            "'v' … 'Fly'",
            "2 labels of gt.json",
        ),
        bad("in two files", [{"v": []}, {"v_v": []}], "1.json", "'v_v' … 0.json", "one file"),
        bad("under two names", [{"v": [], "v_v": []}], "0.json", "'v' … v_", "once"),
    ],
)
def test_files_that_cannot_be_merged(parts, named, wrong, expected, merge, tmp_path):
    assert_parts(refusal(merge, *parts), tmp_path / named, wrong, expected)


def test_a_missing_file_is_named(tmp_path):
    path = str(tmp_path / "gone.json")
    message = refusal(lambda: merge_predictions([path], VIDEOS, LABELS, truth_path="gt.json"))
    assert_parts(message, path, "no such file", "JSON")
