import json
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.commands import train
from case_jax.data.dataset import Dataset, Split
from case_jax.data.info import DatasetInfo
from case_jax.data.samplers import plan_batch
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import NonFiniteLossError
from tests.helpers.commands import refuse_here, succeed_here
from tests.helpers.refusals import assert_parts
from tests.helpers.runs import FILES, contents
from tests.helpers.workdirs import BASELINE, SMALL, best_of, metrics_of, results_of, table_of

TIOU = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_training_describes_data_and_model(trained, small_dataset):
    database = json.loads((small_dataset / "gt.json").read_text())["database"]
    lines = trained.stdout.splitlines()
    for line, title, subset, videos in zip(lines, ("training", "test"), ("train", "test"), (8, 4)):
        count = sum(len(v["annotations"]) for v in database.values() if v["subset"] == subset)
        assert line == f"{title}: {videos} videos with {count} instances"
    # Each stream: two encoders 8 -> 16, heads for 2 classes and attention, 4 prototypes; biases, no MACs.
    parameters = 2 * (2 * (8 * 16 + 16) + (16 * 2 + 2) + (16 + 1) + 4 * 16)
    macs = 2 * 32 * (2 * 8 * 16 + 16 * 2 + 16 + 4 * 16)
    assert lines[2:4] == [
        "2 classes; streams rgb (8), flow (8); one snippet every 0.64 s",
        f"model: {parameters / 1e6:.3f} M parameters, {macs / 1e9:.3f} GMACs for 32 snippets",
    ]


def test_training_fills_the_workdir(trained):
    names = {path.name for path in trained.workdir.iterdir()}
    assert names == FILES

    config = json.loads((trained.workdir / "config.json").read_text())
    assert list(config) == [
        "method",
        "dataset",
        "stream_widths",
        "seed",
        "eval_every",
        "tiou",
        "data",
        "longest_video",
    ]
    assert (config["seed"], config["eval_every"], config["tiou"]) == (4, 2, TIOU)
    assert config["method"]["num_steps"] == 6
    assert config["stream_widths"] == {"rgb": 8, "flow": 8}

    rows = metrics_of(trained.workdir)
    assert [row["step"] for row in rows] == [2, 4, 6]
    for row in rows:
        assert list(row) == ["step", "losses", "tiou", "map", "average", "health"]
        assert row["tiou"] == TIOU
        assert row["average"] == pytest.approx(np.mean(row["map"]))
        terms = {"loss", "loss_video", "loss_attention", "loss_clustering", "loss_cluster_classification"}
        assert terms <= set(row["losses"])

    kept = {int(path.name) for path in (trained.workdir / "checkpoints").iterdir()}
    assert kept == {4, 6, best_of(rows)["step"]}

    (events,) = (trained.workdir / "events").iterdir()
    for tag in (b"train/loss_video", b"test/mAP_0.5", b"test/average"):
        assert events.read_bytes().count(tag) == len(rows)


def test_table_metrics_and_predictions_agree(trained, small_dataset):
    rows = metrics_of(trained.workdir)
    best = best_of(rows)
    header, rule, *titled = table_of(trained.stdout)
    titles = "mAP (%) at tIoU 0.1 0.2 0.3 0.4 0.5 0.6 0.7 avg 0.1:0.5 avg 0.3:0.7 avg 0.1:0.7"
    assert header.split() == titles.split()
    assert set(rule) == {"-"}
    for line, name, row in zip(titled, ("last", "best"), (rows[-1], best), strict=True):
        title, cells = line[: line.index(")") + 1], line[line.index(")") + 1 :].split()
        assert title == f"{name} (step {row['step']})"
        averages = np.mean(row["map"][:5]), np.mean(row["map"][2:]), row["average"]
        assert cells == [f"{100 * value:.2f}" for value in (*row["map"], *averages)]

    printed = succeed_here(
        "evaluate",
        f"--ground_truth={small_dataset / 'gt.json'}",
        f"--predictions={trained.workdir / 'predictions.json'}",
        "--json",
    )
    scored = json.loads(printed)
    assert (scored["map"], scored["average"]) == (best["map"], best["average"])


def test_the_same_command_again_trains_nothing(trained, tmp_path):
    workdir = shutil.copytree(trained.workdir, tmp_path / "workdir")
    printed = succeed_here("train", *trained.flags, f"--workdir={workdir}", "--num_steps=6")
    assert "going on from step 6" in printed
    assert "average mAP" not in printed
    assert table_of(printed) == table_of(trained.stdout)
    assert contents(workdir) == contents(trained.workdir)


def test_evaluate_mode_prints_the_same_table_and_writes_nothing(trained):
    before = sorted(trained.workdir.rglob("*")), contents(trained.workdir)
    printed = succeed_here(
        "train", *trained.flags, f"--workdir={trained.workdir}", "--num_steps=6", "--mode=evaluate"
    )
    assert table_of(printed) == table_of(trained.stdout)
    assert (sorted(trained.workdir.rglob("*")), contents(trained.workdir)) == before


def test_test_time_flags_are_tried_on_what_was_trained(trained):
    before = contents(trained.workdir)
    evaluate = ["train", *trained.flags, f"--workdir={trained.workdir}", "--num_steps=6", "--mode=evaluate"]
    other = succeed_here(*evaluate, "--class_threshold=0", "--proposal_thresholds=0.45")
    assert table_of(other) != table_of(trained.stdout)
    assert contents(trained.workdir) == before
    assert_parts(refuse_here(*evaluate, "--hidden_dim=8"), "--hidden_dim", "8", "16 … --workdir")


def test_a_run_is_not_cut_back(trained):
    before = contents(trained.workdir)
    message = refuse_here("train", *trained.flags, f"--workdir={trained.workdir}", "--num_steps=4")
    assert_parts(message, "--num_steps", "4", f"6 … {trained.workdir}")
    assert contents(trained.workdir) == before


class Baseline(NamedTuple):
    """A run of the baseline on a data set whose dataset.json says all in which it differs from THUMOS14."""

    dataset: Dataset
    data: Path
    workdir: Path
    stdout: str


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> Baseline:
    folder = tmp_path_factory.mktemp("baseline")
    data, workdir = folder / "data", folder / "workdir"
    info = DatasetInfo(
        classes=("Action01", "Action02"),
        streams=("acc",),
        frames_per_second=50.0,
        train_subset="training",
        test_subset="validation",
    )
    made = make_synthetic_dataset(0, SyntheticSpec(num_train=4, num_test=2, num_classes=2, width=8))
    train_split, test_split = (
        Split(subset, tuple(v._replace(features={"acc": v.features["rgb"]}) for v in split.videos))
        for subset, split in ((info.train_subset, made.train), (info.test_subset, made.test))
    )
    dataset = Dataset(info, train_split, test_split)
    write_dataset(dataset, data)
    flags = [f"--data_dir={data}", f"--workdir={workdir}", *SMALL, "--num_steps=3", *BASELINE]
    return Baseline(dataset, data, workdir, succeed_here("train", *flags))


@pytest.mark.slow
def test_the_baseline_has_no_clusters_and_the_last_step_is_evaluated(baseline):
    rows = metrics_of(baseline.workdir)
    assert [row["step"] for row in rows] == [2, 3]
    assert set(rows[-1]["losses"]) == {
        "loss",
        "loss_video",
        "loss_attention",
        "foreground_snippets",
        "gradient_norm",
    }
    assert [line.split()[0] for line in table_of(baseline.stdout)[2:]] == ["last", "best"]
    settings, state = Workdir(baseline.workdir).load("last")
    assert not settings.config.scc
    assert all("prototypes" not in layers for layers in state.params.values())


@pytest.mark.slow
def test_streams_subsets_and_time_are_those_of_the_data_set(baseline, tmp_path):
    assert "2 classes; streams acc (8); one snippet every 0.32 s" in baseline.stdout
    best, predictions = best_of(metrics_of(baseline.workdir)), baseline.workdir / "predictions.json"
    flags = [f"--ground_truth={baseline.data / 'gt.json'}", f"--predictions={predictions}"]
    scored = json.loads(succeed_here("evaluate", *flags, "--subset=validation", "--json"))
    assert scored["average"] == best["average"]

    output, features = tmp_path / "found.json", baseline.data / "features" / "test"
    succeed_here(
        "localize", f"--checkpoint={baseline.workdir}", f"--features={features}", f"--output={output}"
    )
    found, predicted = results_of(output), results_of(predictions)
    assert list(found) == list(predicted)
    for name, detections in found.items():
        assert [d["label"] for d in detections] == [d["label"] for d in predicted[name]]
        for ours, theirs in zip(detections, predicted[name]):
            assert (ours["score"], *ours["segment"]) == pytest.approx(
                (theirs["score"], *theirs["segment"]), rel=1e-5, abs=1e-5
            )
    for video in baseline.dataset.test.videos:
        for detection in found[video.name]:
            begin, end = detection["segment"]
            assert 0 <= begin < end <= video.num_snippets * 0.32 + 1e-9


@pytest.mark.parametrize(
    "flags, named, wrong, expected",
    [
        (["--batch_size=9"], "--batch_size", "9", "8 training videos"),
        (["--noscc"], "--ccc", "--scc", "--scc … --noccc"),
        (["--noccc"], "--clustering_assisted_testing", "--ccc", "--ccc … --noclustering_assisted_testing"),
        (["--tiou=0.5,2"], "--tiou", "'0.5,2'", "above 0 and up to 1"),
        (["--synthetic"], "--data_dir", "--synthetic", "one of the two"),
        (["--data_dir="], "--data_dir", "missing", "folder … --synthetic"),
        (["--data_dir={tmp}/no"], "{tmp}/no", "no such folder", "features/, split_*.txt and gt.json"),
        (["--data_dir={tmp}/odd"], "{tmp}/odd/anno.json", "'training'", "split_train.txt"),
        (["--workdir="], "--workdir", "missing", "folder"),
        (["--mode=evaluate"], "{tmp}/workdir/config.json", "no such file", "JSON"),
        (["--workdir={tmp}/file"], "--workdir", "file is a file", "folder"),
    ],
)
def test_bad_settings_leave_nothing_behind(flags, named, wrong, expected, small_dataset, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "anno.json").write_text('{"database": {}}')
    ours = [f"--data_dir={small_dataset}", f"--workdir={tmp_path / 'workdir'}", *SMALL]
    message = refuse_here("train", *ours, *(flag.format(tmp=tmp_path) for flag in flags))
    assert_parts(message, named.format(tmp=tmp_path), wrong, expected)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["anno.json", "file", "odd"]


def test_flags_after_a_flagfile_win(trained, tmp_path):
    flagfile = tmp_path / "ours.flags"
    flagfile.write_text("# a comment\n--batch_size=9\n--seed=5\n")
    flags = [f"--workdir={trained.workdir}", f"--flagfile={flagfile}", "--batch_size=4"]
    message = refuse_here("train", *trained.flags, *flags, "--num_steps=6")
    assert "seed = 4, not 5" in message
    assert "batch_size" not in message


def test_a_workdir_of_another_run_is_left_alone(trained):
    before = contents(trained.workdir)
    flags = [*trained.flags, f"--workdir={trained.workdir}", "--num_steps=6"]
    for flag, difference in (
        ("--hidden_dim=8", "hidden_dim = 16, not 8"),
        ("--tiou=0.5", "tiou = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], not [0.5]"),
    ):
        assert_parts(refuse_here("train", *flags, flag), trained.workdir, difference, "empty --workdir")
    assert contents(trained.workdir) == before


def test_a_run_on_other_data_is_not_evaluated(trained, tmp_path):
    spec = SyntheticSpec(num_train=4, num_test=1, num_classes=2, width=6)
    write_dataset(make_synthetic_dataset(0, spec), tmp_path)
    flags = [*trained.flags, f"--workdir={trained.workdir}", f"--data_dir={tmp_path}", "--mode=evaluate"]
    assert_parts(refuse_here("train", *flags), trained.workdir, "other … widths", "data set")


def test_a_loss_that_is_not_finite_is_blamed_on_the_learning_rate(trained, tmp_path, monkeypatch):
    def diverge(*_):
        raise NonFiniteLossError("loss is nan at step 2", (0, 3))

    monkeypatch.setattr(train, "train", diverge)
    message = refuse_here("train", *trained.flags, f"--workdir={tmp_path / 'W'}", "--num_steps=6")
    assert_parts(
        message,
        "--learning_rate",
        "0.0001; loss is nan at step 2 … synthetic_train_0000, synthetic_train_0003",
        "finite",
    )


@pytest.mark.slow
def test_a_batch_that_breaks_training_is_named_and_the_checkpoint_before_it_kept(tmp_path):
    """One video has features so large that the loss overflows. It is first drawn after an evaluation."""
    dataset = make_synthetic_dataset(0, SyntheticSpec(num_train=40, num_test=2, num_classes=2, width=4))
    bad = dataset.train.videos[7]
    bad.features["rgb"][:] = 3e38
    write_dataset(dataset, tmp_path / "data")
    seed, met, batch = _first_batch_with(7, num_videos=40, batch_size=4, num_snippets=32)
    places = [f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'W'}"]
    flags = [*places, *SMALL, f"--seed={seed}"]
    message = refuse_here("train", *flags, "--num_steps=10")
    names = ", ".join(dataset.train.videos[video].name for video in batch)
    assert bad.name in names
    wrong = f"0.0001; loss is nan at step {met + 1}, with a batch of {names}"
    assert_parts(message, "--learning_rate", wrong, "finite")
    good = met // 2 * 2  # --eval_every=2
    assert metrics_of(tmp_path / "W")[-1]["step"] == good
    assert Workdir(tmp_path / "W").load("last")[1].step == good
    printed = succeed_here("train", *flags, f"--num_steps={good}")
    assert f"last (step {good})" in printed


def _first_batch_with(
    video: int, *, num_videos: int, batch_size: int, num_snippets: int
) -> tuple[int, int, list[int]]:
    """The first seed that draws a video in steps 4 to 9, and not before; the step (from 0) and its batch."""
    lengths = jnp.full(num_videos, num_snippets)
    plan = jax.jit(
        lambda key, step: (
            plan_batch(key, step, lengths, batch_size=batch_size, num_snippets=num_snippets).videos
        )
    )
    for seed in range(20):
        key = jax.random.split(jax.random.key(seed))[1]  # as `create_train_state` keeps it
        batches = [plan(key, step).tolist() for step in range(10)]
        met = [step for step, batch in enumerate(batches) if video in batch]
        if met and met[0] >= 4:
            return seed, met[0], batches[met[0]]
    raise AssertionError("no seed draws the video late enough")
