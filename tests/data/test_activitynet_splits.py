import json

import pytest

from case_jax.data.activitynet_splits import find_annotations, videos_of_split
from case_jax.data.annotations import AnnotatedVideo
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal

DATABASE = {
    "a": AnnotatedVideo("training", ()),
    "b": AnnotatedVideo("training", ()),
    "d": AnnotatedVideo("validation", ()),
    "v_x": AnnotatedVideo("", ()),  # of a file without subsets
}


def test_the_only_json_file_beside_the_facts_annotates(tmp_path):
    for name in ("anet.json", "dataset.json", "notes.txt", "._anet.json", ".cache.json"):
        (tmp_path / name).touch()
    assert find_annotations(tmp_path, None) == tmp_path / "anet.json"


def test_several_files_need_a_name(tmp_path):
    assert_refused(lambda p: find_annotations(p, None), tmp_path, "0 .json files", "'annotations'")
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps({}))
    wrong = "2 .json files … a.json, b.json"
    assert_refused(lambda p: find_annotations(p, None), tmp_path, wrong, "'annotations' … dataset.json")
    assert find_annotations(tmp_path, "b.json") == tmp_path / "b.json"


def train(folder, names=None, subset="training"):
    if names is not None:
        (folder / "split_train.txt").write_text(names)
    return videos_of_split(folder, "train", subset, DATABASE, folder / "anet.json")


def test_a_split_is_its_subset_or_what_its_file_lists(tmp_path):
    assert list(train(tmp_path)) == ["a", "b"]
    assert list(train(tmp_path, "v_b\nx\n")) == ["b", "v_x"]


@pytest.mark.parametrize(
    "names, subset, file, wrong, expected",
    [
        bad(
            "no such subset",
            None,
            "val",
            "anet.json",
            "'val' … '', 'training', 'validation'",
            "split_train.txt",
        ),
        bad("not annotated", "z\n", "training", "anet.json", "'z'", "split_train.txt"),
        bad(
            "of another subset",
            "d\n",
            "training",
            "anet.json",
            "'d' … 'validation'",
            "'training' … split_train.txt",
        ),
        bad("under two names", "a\nv_a\n", "training", "split_train.txt", "'a' … v_", "once"),
    ],
)
def test_splits_that_cannot_be_used(names, subset, file, wrong, expected, tmp_path):
    assert_parts(refusal(train, tmp_path, names, subset), tmp_path / file, wrong, expected)
