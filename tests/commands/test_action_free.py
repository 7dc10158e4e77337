"""Training and testing with videos that show no action, as users begin it."""

import json

import numpy as np
import pytest

from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from case_jax.runs.workdir import Workdir
from tests.helpers.commands import succeed_here
from tests.helpers.files import edit_json
from tests.helpers.workdirs import SMALL

FREE = {"train": ["synthetic_train_0001", "synthetic_train_0002"], "test": ["synthetic_test_0001"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two of eight training videos and one of four test videos show no action; one class."""
    folder = tmp_path_factory.mktemp("free")
    spec = SyntheticSpec(num_train=8, num_test=4, num_classes=1, width=8)
    write_dataset(make_synthetic_dataset(0, spec), folder)
    free(folder, *FREE["train"], *FREE["test"])
    return folder


def free(folder, *names):
    """Takes the annotations from videos."""
    edit_json(
        folder / "gt.json",
        lambda content: [content["database"][name].update(annotations=[]) for name in names],
    )


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A workdir and what training printed."""
    workdir = tmp_path_factory.mktemp("trained") / "W"
    flags = [f"--data_dir={folder}", f"--workdir={workdir}", *SMALL, "--num_steps=4"]
    return workdir, succeed_here("train", *flags)


def test_training_learns_from_them_and_counts_false_alarms(trained):
    workdir, stdout = trained
    assert "training: 8 videos with" in stdout
    assert ", 2 of them without any action" in stdout
    assert "false alarms in 1 videos without any action" in stdout
    assert "note:" not in stdout  # one class is no trouble then
    assert Workdir(workdir).settings().config.action_free == "learn"
    losses = [row["metrics"]["loss_video"] for row in Workdir(workdir).history()]
    assert all(loss > 0.01 for loss in losses)


def test_localising_may_find_nothing_in_a_video(trained, folder, tmp_path):
    workdir, _ = trained
    config = Workdir(workdir).settings().config
    assert config.has_background
    flags = [f"--checkpoint={workdir}", f"--features={folder / 'features' / 'test'}"]
    succeed_here("localize", *flags, f"--output={tmp_path / 'p.json'}")
    predicted = json.loads((workdir / "predictions.json").read_text())["results"]
    found = json.loads((tmp_path / "p.json").read_text())["results"]
    assert list(found) == list(predicted)
    assert [len(found[name]) for name in found] == [len(predicted[name]) for name in predicted]


@pytest.mark.slow
def test_labels_that_teach_nothing_are_told_before_training(folder, tmp_path):
    stdout = succeed_here(
        "train", f"--data_dir={folder}", f"--workdir={tmp_path / 'W'}", *SMALL, "--num_steps=1",
        "--action_free=leave_out", "--batch_size=2",
    )  # fmt: skip
    assert "(left out: 2 without annotations)" in stdout
    note, rest = stdout.split("note: ")[1], stdout.split("note: ")[0]
    assert "labelled" in note
    assert "expected videos without any action" in note
    assert "average mAP" not in rest
    assert "false alarms" not in stdout


@pytest.mark.slow
def test_an_action_is_told_from_none_though_there_is_one_class(tmp_path):
    """Without a background class the loss of one class is 0 and its score 1 in every video."""
    spec = SyntheticSpec(num_train=24, num_test=8, num_classes=1, width=16)
    dataset = make_synthetic_dataset(0, spec)
    write_dataset(dataset, tmp_path / "D")
    flat = [video.name for split in (dataset.train, dataset.test) for video in split.videos[::2]]
    for split in (dataset.train, dataset.test):
        for video in split.videos[::2]:  # their snippets are those of their background
            keep = np.ones(video.num_snippets, bool)
            for a in video.annotations:
                keep[int(a.start / 0.64) : int(np.ceil(a.end / 0.64))] = False
            for stream, array in video.features.items():
                np.save(
                    tmp_path / "D" / "features" / split.subset / stream / f"{video.name}.npy", array[keep]
                )
    free(tmp_path / "D", *flat)
    flags = [f"--data_dir={tmp_path / 'D'}", f"--workdir={tmp_path / 'W'}", *SMALL]
    succeed_here("train", *flags, "--num_steps=60", "--eval_every=60", "--learning_rate=0.01")
    found = json.loads((tmp_path / "W" / "predictions.json").read_text())["results"]
    surest = {name: max((d["score"] for d in of_video), default=0.0) for name, of_video in found.items()}
    free_ones = [surest[name] for name in flat if name in surest]
    others = [score for name, score in surest.items() if name not in flat]
    assert max(free_ones) < min(others)
