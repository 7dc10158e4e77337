"""`labels.csv` in place of annotations, beside features in any of their forms."""

import json

import numpy as np
import pytest

from case_jax.data.load import load_dataset
from case_jax.data.thumos import is_thumos_layout
from tests.helpers.refusals import assert_refused

LABELS = "video,label,start,end\na,run,,\nb,jump;run,,\nstill,,,\nclips/t.mp4,run,1,2\n"


@pytest.fixture
def folder(tmp_path):
    """Features of one stream in the form that the parameter names, and a table of labels."""
    (tmp_path / "dataset.json").write_text(json.dumps({"streams": ["rgb"]}))
    (tmp_path / "labels.csv").write_text(LABELS)
    return tmp_path


def write_features(folder, place):
    """Of training videos a, b and still, and of test video t."""
    for length, name in enumerate(("a", "b", "still", "t"), start=3):
        path = folder / place.format(split="test" if name == "t" else "train")
        path.mkdir(parents=True, exist_ok=True)
        np.save(path / f"{name}.npy", np.ones((length, 2), np.float32))


@pytest.mark.parametrize(
    "place, files",
    [
        ("features/{split}/rgb", {}),
        ("features/rgb", {"train": "a\nb\nstill\n", "test": "t\n"}),
        ("features/rgb", {"test": "v_t\n"}),
    ],
)
def test_folders_and_files_tell_the_splits(folder, place, files):
    """Where the table has neither times nor a column for it."""
    write_features(folder, place)
    for split, text in files.items():
        (folder / f"split_{split}.txt").write_text(text)
    (folder / "labels.csv").write_text("video,label\na,run\nb,jump\nstill,\nt,run\n")
    data = load_dataset(folder)
    assert [video.name for video in data.train.videos] == ["a", "b", "still"]
    assert [video.name for video in data.test.videos] == ["t"]


@pytest.mark.parametrize("place", ["features/rgb", "features/{split}/rgb", "rgb"])
def test_labels_are_all_that_training_needs(folder, place):
    write_features(folder, place)
    assert not is_thumos_layout(folder)
    data = load_dataset(folder)
    assert data.info.classes == ("jump", "run")
    assert [(video.name, video.annotations) for video in data.train.videos] == [
        ("a", (("run", 0.0, 3 * 0.64),)),
        ("b", (("jump", 0.0, 4 * 0.64), ("run", 0.0, 4 * 0.64))),
        ("still", ()),
    ]
    assert [(video.name, video.annotations) for video in data.test.videos] == [("t", (("run", 1.0, 2.0),))]


def test_a_video_that_is_only_ambiguous_is_left_out(folder):
    (folder / "labels.csv").write_text(LABELS.replace("still,,,", "still,Ambiguous,,"))
    (folder / "rgb").mkdir()
    for name in ("a", "b", "still", "t"):
        np.save(folder / "rgb" / f"{name}.npy", np.ones((3, 2), np.float32))
    data = load_dataset(folder)
    assert data.info.classes == ("jump", "run")
    assert [video.name for video in data.train.videos] == ["a", "b"]
    assert data.train.left_out["with ambiguous actions only"] == 1


def test_a_video_named_in_two_ways_is_refused(folder):
    (folder / "rgb").mkdir()
    np.save(folder / "rgb" / "a.npy", np.ones((3, 2)))
    (folder / "labels.csv").write_text("video,label\na,run\na.mp4,jump\n")
    assert_refused(load_dataset, folder, "'a' in two ways", "one", named=folder / "labels.csv")
