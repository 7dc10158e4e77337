"""`make_dataset` with a network that tells which frames it saw."""

import json

import numpy as np
import pytest

from case_jax.data.load import load_dataset
from tests.helpers.commands import refuse_here, run_here, succeed_here
from tests.helpers.extraction import fake_network, numbers_of
from tests.helpers.refusals import assert_parts
from tests.helpers.videos import numbered, write_images

FLAGS = ("--num_workers=0", "--clips_at_once=2")
LABELS = "video,label,start,end\na,jump;run,,\nb,run,,\nmore/c.mp4,jump,0.2,0.9\n"


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    fake_network(monkeypatch)


@pytest.fixture
def videos(tmp_path):
    """Four videos of 25 frames/s and 1.6 s each, the last one without labels."""
    for number, name in enumerate("abcd"):
        write_images(tmp_path / "V" / name, [numbered(50 * number + k, (48, 48)) for k in range(40)])
    return tmp_path / "V"


@pytest.fixture
def flags(videos, tmp_path):
    (tmp_path / "labels.csv").write_text(LABELS)
    return [f"--videos={videos}", f"--labels={tmp_path / 'labels.csv'}", f"--output={tmp_path / 'D'}", *FLAGS]


def test_videos_and_labels_become_a_data_set(flags, tmp_path):
    printed = succeed_here("make_dataset", *flags)
    assert "1 of 4 videos have no label in" in printed
    assert printed.splitlines()[-1] == f"2 training and 1 test videos, 2 classes: {tmp_path / 'D'}"
    dataset = load_dataset(tmp_path / "D")
    assert [video.name for video in dataset.train.videos] == ["a", "b"]
    assert [tuple(a) for a in dataset.train.videos[0].annotations] == [("jump", 0.0, 1.6), ("run", 0.0, 1.6)]
    assert [tuple(a) for a in dataset.test.videos[0].annotations] == [("jump", 0.2, 0.9)]
    found = numbers_of(np.asarray(dataset.test.videos[0].features["rgb"]))
    assert found == [list(range(100, 116)), list(range(116, 132))]
    assert dataset.info.seconds_per_snippet == 0.64
    assert json.loads((tmp_path / "D" / "gt.json").read_text())["database"]["c"]["duration"] == 1.6


def test_what_is_there_is_kept_and_a_new_label_takes_no_time(flags, tmp_path):
    succeed_here("make_dataset", *flags)
    (tmp_path / "labels.csv").write_text(LABELS.replace("b,run", "b,walk;run"))
    printed = succeed_here("make_dataset", *flags)
    assert printed.count("videos were there already") == 2
    assert load_dataset(tmp_path / "D").info.classes == ("jump", "run", "walk")


def test_without_times_mean_average_precision_is_of_classes_alone(flags, videos, tmp_path):
    write_images(videos / "e", [numbered(0, (48, 48))] * 40)
    (tmp_path / "labels.csv").write_text("video,label\n" + "".join(f"{name},jump\n" for name in "abcde"))
    printed = succeed_here("make_dataset", *flags)
    assert "has no times" in printed
    assert "not when" in printed
    assert [video.name for video in load_dataset(tmp_path / "D").test.videos] == ["e"]


def test_bad_videos_are_left_out_and_told_by_the_status(flags, videos, tmp_path):
    (videos / "x.mp4").write_text("no video")
    (tmp_path / "labels.csv").write_text(f"{LABELS}x,run,,\n")
    ended = run_here("make_dataset", *flags)
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1].startswith(f"  {videos / 'x.mp4'}: ")
    assert [video.name for video in load_dataset(tmp_path / "D").train.videos] == ["a", "b"]


@pytest.mark.parametrize(
    "labels, named, wrong",
    [
        ("video,label\nz,run\n", "labels.csv", "names video 'z'"),
        ("video,label\na,run\na.mp4,run\n", "labels.csv", "'a' in two ways"),
        ("video,label,start,end\na,jump,,\nc,jump,60,70\n", "labels.csv", "'c' … 60 to 70"),
        ("video,label,start,end\na,jump,,\nc,run,1,2\n", "labels.csv", "'c' tests 'run'"),
    ],
)
def test_labels_that_do_not_fit_the_videos_are_refused(flags, tmp_path, labels, named, wrong):
    (tmp_path / "labels.csv").write_text(labels)
    assert_parts(refuse_here("make_dataset", *flags), tmp_path / named, wrong)
    assert not (tmp_path / "D" / "gt.json").exists()


@pytest.mark.parametrize("left_out", ["--videos", "--labels", "--output"])
def test_flags_that_are_missing_are_named(flags, left_out):
    given = [flag for flag in flags if not flag.startswith(left_out)]
    assert_parts(refuse_here("make_dataset", *given), left_out, "missing")
