"""Training and testing with videos that show no action, as users begin it."""

import dataclasses
import json

import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.dataset import in_action
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from case_jax.evaluator import score_split
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import fit
from tests.helpers.commands import succeed_here
from tests.helpers.files import edit_json
from tests.helpers.workdirs import BASELINE, SMALL

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
    flags = [f"--data_dir={folder}", f"--workdir={workdir}", *SMALL, "--num_steps=2"]
    return workdir, succeed_here("train", *flags)


@pytest.mark.slow
def test_training_learns_from_them_and_counts_false_alarms(trained):
    workdir, stdout = trained
    assert "training: 8 videos with" in stdout
    assert ", 2 of them without any action" in stdout
    assert "false alarms in 1 videos without any action" in stdout
    assert "note:" not in stdout  # one class is no trouble then
    assert Workdir(workdir).settings().config.action_free == "learn"
    losses = [row["metrics"]["loss_video"] for row in Workdir(workdir).history()]
    assert all(loss > 0.01 for loss in losses)


@pytest.mark.slow
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
        "train", f"--data_dir={folder}", f"--workdir={tmp_path / 'W'}", *SMALL, *BASELINE, "--num_steps=1",
        "--action_free=leave_out",
    )  # fmt: skip
    assert "(left out: 2 without annotations)" in stdout
    note, rest = stdout.split("note: ")[1], stdout.split("note: ")[0]
    assert "labelled" in note
    assert "expected videos without any action" in note
    assert "average mAP" not in rest
    assert "false alarms" not in stdout


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.usefixtures("standard_dtypes")
def test_an_action_is_told_from_none_though_there_is_one_class():
    """Without a background class the loss of one class is 0, and its score is 1 in every video."""
    made = make_synthetic_dataset(0, SyntheticSpec(num_train=24, num_test=8, num_classes=1, width=16))
    dataset = dataclasses.replace(made, train=every_other_free(made.train), test=every_other_free(made.test))
    config = CaseConfig(
        num_snippets=32, hidden_dim=16, num_clusters=4, batch_size=4, num_steps=100, learning_rate=0.01
    )
    settings = RunSettings.of(config, dataset, seed=0, eval_every=100, tiou=[0.5])
    features, labels = dataset.train.pack(made.info.streams), dataset.train.video_labels(made.info.classes)
    *_, last = fit(settings.fresh_state(), features, labels, num_steps=100, report_every=100)
    scores = score_split(last.state, dataset.test.videos).video[:, 0]
    assert scores[::2].max() < scores[1::2].min()


def every_other_free(split):
    """The split with only the background of every other video."""
    videos = list(split.videos)
    for i, video in list(enumerate(videos))[::2]:
        background = ~in_action(video.annotations, np.arange(video.num_snippets) * 0.64)
        features = {stream: array[background] for stream, array in video.features.items()}
        videos[i] = video._replace(features=features, annotations=())
    return dataclasses.replace(split, videos=tuple(videos), packed=None)
