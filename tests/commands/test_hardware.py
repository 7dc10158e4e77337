"""The flags of hardware, and that none of them changes what a training of the command ends with."""

import json

import jax
import numpy as np
import pytest
from absl import flags as absl_flags

from case_jax.commands import hardware, train
from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.evaluation.health import Health
from case_jax.runs.narrator import Narrator
from case_jax.runs.workdir import Workdir
from tests.helpers.commands import refuse_here, succeed_here
from tests.helpers.refusals import assert_parts
from tests.helpers.runs import FILES, assert_close_run
from tests.helpers.workdirs import best_of, metrics_of, table_of

PROCESSES = "--coordinator, --num_processes and --process_id"


def parsed(*arguments: str) -> absl_flags.FlagValues:
    given = absl_flags.FlagValues()
    train.define_flags(given)
    given(["train", *arguments])
    return given


class Noting(Narrator):
    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.mark.parametrize(
    "arguments, named, wrong, expected",
    [
        (["--feature_store=disk", "--synthetic"], "--feature_store", "disk", "device … --synthetic"),
        (["--feature_store=disk", "--num_seeds=2"], "--num_seeds", "2", "1 with --feature_store=disk"),
        (["--coordinator=localhost:1"], "--num_processes", "missing", PROCESSES),
        (["--num_processes=2", "--coordinator=localhost:1"], "--process_id", "missing", PROCESSES),
        (["--process_id=0", "--num_processes=2"], "--coordinator", "missing", PROCESSES),
        (
            ["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"],
            "--process_id",
            "2",
            "less than --num_processes=2",
        ),
        (
            ["--coordinator=localhost", "--num_processes=2", "--process_id=0"],
            "--coordinator",
            "'localhost'",
            "host:port",
        ),
        (
            ["--coordinator=localhost:65536", "--num_processes=2", "--process_id=0"],
            "--coordinator",
            "'localhost:65536'",
            "host:port",
        ),
    ],
)
def test_flags_that_contradict_each_other(arguments, named, wrong, expected):
    given = parsed(*arguments)
    with pytest.raises(InputError) as raised:
        hardware.check_flags(given, num_seeds=given.num_seeds)
    assert_parts(str(raised.value), named, wrong, expected)


def test_without_grain_features_cannot_stay_on_disk(monkeypatch):
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as raised:
        hardware.check_flags(parsed("--feature_store=disk"), num_seeds=1)
    assert_parts(str(raised.value), "--feature_store", "grain", "pip install '.[host]'")


def test_the_first_of_several_processes_evaluates():
    assert hardware.is_first_process(parsed())
    assert hardware.is_first_process(parsed("--process_id=0"))
    assert not hardware.is_first_process(parsed("--process_id=1"))


@pytest.mark.parametrize(
    "count, flags, used",
    [(1, [], 1), (4, [], 4), (3, [], 2), (4, ["--num_devices=2"], 2)],
)
def test_as_many_devices_as_divide_a_batch_are_taken(monkeypatch, count, flags, used):
    devices = jax.devices()[:count]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    narrator = Noting()
    with hardware.connected(parsed(*flags), CaseConfig(batch_size=4), narrator) as where:
        assert where.mesh.size == used
        assert where.on_device
    assert narrator.said == ([f"devices: {used} of {count}, cpu"] if count > 1 else [])


@pytest.mark.parametrize(
    "flag, named, wrong, expected",
    [
        ("--num_devices=9", "--num_devices", "9", "at most the 8"),
        ("--num_devices=3", "--batch_size", "4", "multiple of the 3 devices"),
    ],
)
def test_devices_that_cannot_be_used(flag, named, wrong, expected):
    with (
        pytest.raises(InputError) as raised,
        hardware.connected(parsed(flag), CaseConfig(batch_size=4), Narrator()),
    ):
        pass
    assert_parts(str(raised.value), named, wrong, expected)


@pytest.mark.parametrize("cores, workers", [(None, 0), (2, 0), (8, 4), (64, 8)])
def test_workers_of_evaluation_follow_from_the_cores(monkeypatch, cores, workers):
    monkeypatch.setattr(hardware.os, "cpu_count", lambda: cores)
    for flags, expected in (([], workers), (["--eval_workers=1"], 1)):
        with hardware.connected(parsed(*flags), CaseConfig(batch_size=4), Narrator()) as where:
            assert where.eval_workers == expected


# Trainings


SEEDS = (4, 5)


@pytest.fixture(scope="module")
def seeds(trained, tmp_path_factory):
    """The workdir of a run of two seeds, and what its training printed."""
    workdir = tmp_path_factory.mktemp("seeds") / "workdir"
    flags = [*trained.flags, f"--workdir={workdir}", "--num_steps=6", f"--num_seeds={len(SEEDS)}"]
    return workdir, succeed_here("train", *flags)


@pytest.mark.slow
def test_one_of_many_seeds_is_its_own_run(trained, seeds):
    workdir, _ = seeds
    assert sorted(path.name for path in workdir.iterdir()) == [f"seed_{seed}" for seed in SEEDS]
    for seed in SEEDS:
        assert {path.name for path in (workdir / f"seed_{seed}").iterdir()} == FILES
        assert json.loads((workdir / f"seed_{seed}" / "config.json").read_text())["seed"] == seed
    assert_close_run(Workdir(workdir / "seed_4"), Workdir(trained.workdir), rtol=1e-4)
    averages = [[row["average"] for row in metrics_of(workdir / f"seed_{seed}")] for seed in SEEDS]
    assert averages[0] != averages[1]


@pytest.mark.slow
def test_many_seeds_end_in_mean_and_deviation(seeds):
    workdir, printed = seeds
    lines = [line.rsplit(maxsplit=10) for line in table_of(printed)[2:]]
    titles = [line[0] for line in lines]
    rows = {title: np.array(cells, float) for title, *cells in lines}
    assert [title.split(" (")[0] for title in titles] == [
        *(f"seed {seed}, {which}" for seed in SEEDS for which in ("last", "best")),
        "last, mean of 2 seeds",
        "last, standard deviation",
        "best, mean of 2 seeds",
        "best, standard deviation",
        "all seeds together, last",
    ]
    of_seeds = [metrics_of(workdir / f"seed_{seed}") for seed in SEEDS]
    last = np.array([[*rows[-1]["map"], rows[-1]["average"]] for rows in of_seeds])
    best = np.array([[*row["map"], row["average"]] for row in map(best_of, of_seeds)])
    for which, values in (("last", 100 * last), ("best", 100 * best)):
        columns = [*range(7), -1]
        mean, deviation = rows[f"{which}, mean of 2 seeds"], rows[f"{which}, standard deviation"]
        np.testing.assert_allclose(mean[columns], values.mean(axis=0), atol=0.0051)
        np.testing.assert_allclose(deviation[columns], values.std(axis=0, ddof=1), atol=0.0051)


@pytest.mark.slow
def test_localising_with_all_seeds_together_is_what_training_measured(small_dataset, seeds, tmp_path):
    workdir, printed = seeds
    flags = [f"--checkpoint={workdir}", f"--features={small_dataset}/features/test", "--which=last"]
    said = succeed_here("localize", *flags, f"--output={tmp_path / 'found.json'}", "--together")
    assert "by the last checkpoints of 2 seeds (step 6)" in " ".join(said.split())
    evaluated = json.loads(
        succeed_here(
            "evaluate",
            f"--ground_truth={small_dataset}/gt.json",
            f"--predictions={tmp_path / 'found.json'}",
            "--json",
        )
    )
    *_, row = table_of(printed)
    assert float(row.split()[-1]) == pytest.approx(100 * evaluated["average"], abs=0.0051)
    refused = refuse_here("localize", *flags, f"--output={tmp_path / 'alone.json'}")
    assert_parts(refused, workdir, "2 seeds", "seed_4")


@pytest.mark.slow
def test_the_healthiest_seed_is_kept_told_and_loaded(trained, small_dataset, tmp_path):
    workdir = tmp_path / "workdir"
    flags = [*trained.flags, f"--workdir={workdir}", "--num_steps=6", "--num_seeds=2", "--keep=healthiest"]
    printed = succeed_here("train", *flags)
    titles = [line.rsplit(maxsplit=10)[0].split(" (step")[0] for line in table_of(printed)[2:]]
    assert titles[:4] == [f"seed {seed}, {which}" for seed in SEEDS for which in ("last", "healthiest")]
    rows = {seed: metrics_of(workdir / f"seed_{seed}") for seed in SEEDS}
    kept = {seed: max(row["health"]["agreement"] for row in of_seed) for seed, of_seed in rows.items()}
    healthiest = max(kept, key=kept.__getitem__)
    assert f"healthiest seed ({healthiest}), healthiest" in titles
    for seed, (*_, last) in rows.items():
        warned = f"warning: seed {seed} seems to have collapsed" in " ".join(printed.split())
        assert warned == Health(**last["health"]).collapsed

    output = tmp_path / "found.json"
    flags = [f"--checkpoint={workdir}", f"--features={small_dataset}/features/test", f"--output={output}"]
    succeed_here("localize", *flags)
    trained_on = json.loads((workdir / f"seed_{healthiest}" / "predictions.json").read_text())["results"]
    found = json.loads(output.read_text())["results"]
    assert {name: len(entries) for name, entries in found.items()} == {
        name: len(entries) for name, entries in trained_on.items()
    }
    for name, entries in found.items():
        for ours, theirs in zip(entries, trained_on[name], strict=True):
            assert ours["label"] == theirs["label"]
            assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)


@pytest.mark.slow
def test_a_new_seed_does_not_undo_those_that_are_done(trained, seeds):
    workdir, printed = seeds
    flags = [*trained.flags, f"--workdir={workdir}"]
    message = refuse_here("train", *flags, "--num_seeds=3", "--num_steps=8")
    assert_parts(message, workdir / "seed_6", "(6 steps)", "began together … --workdir")
    again = succeed_here("train", *flags, "--num_seeds=2", "--num_steps=6")
    assert table_of(again) == table_of(printed)
