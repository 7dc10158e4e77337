"""Where and how to compute changes no result."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.experiments.conftest import FILES, SMALL, contents
from tests.experiments.test_thumos import _assert_same_run, _metrics, _table

SEEDS = (4, 5, 6)


def virtual_devices(count: int) -> dict[str, str]:
    return {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}


def assert_close_run(workdir: Path, expected: Path, *, rtol: float) -> None:
    """The same evaluations and checkpoints to float tolerance."""
    found, wanted = _metrics(workdir), _metrics(expected)
    assert [row["step"] for row in found] == [row["step"] for row in wanted]
    for ours, theirs in zip(found, wanted):
        assert list(ours) == list(theirs)
        assert ours["tiou"] == theirs["tiou"]
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=rtol, abs=1e-6)
        np.testing.assert_allclose(ours["map"], theirs["map"], rtol=rtol)
        assert ours["average"] == pytest.approx(theirs["average"], rel=rtol)
    for which in ("last", "best"):
        (settings, ours), (wanted_settings, theirs) = (
            Workdir(path).load(which) for path in (workdir, expected)
        )
        assert settings == wanted_settings
        assert int(ours.step) == int(theirs.step)
        for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(theirs.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_features_may_stay_on_disk(trained, tmp_path, succeed):
    flags = [*trained.flags, f"--workdir={tmp_path}", "--num_steps=6"]
    printed = succeed("thumos", *flags, "--feature_store=disk")
    assert _table(printed) == _table(trained.stdout)
    _assert_same_run(tmp_path, trained.workdir)


def test_a_broken_file_left_on_disk_is_named(small_dataset, tmp_path, fail):
    data = shutil.copytree(small_dataset, tmp_path / "data")
    for path in sorted((data / "features" / "train" / "flow").iterdir()):
        array = np.load(path)
        array[:, 3] = np.nan
        np.save(path, array)
    flags = [f"--data_dir={data}", f"--workdir={tmp_path / 'run'}", *SMALL, "--num_steps=2"]
    message = fail("thumos", *flags, "--feature_store=disk", "--num_workers=1")
    assert message.startswith(f"{data}/features/train/flow/synthetic_train_000")
    assert message.endswith(", channel 3 is nan; expected finite numbers")


def test_workers_may_localise_meanwhile(trained, tmp_path, succeed):
    flags = [*trained.flags, f"--workdir={tmp_path}", "--num_steps=6"]
    printed = succeed("thumos", *flags, "--eval_workers=2")
    assert _table(printed) == _table(trained.stdout)
    _assert_same_run(tmp_path, trained.workdir)


def test_batches_may_be_divided_over_devices(trained, tmp_path, succeed):
    flags = [*trained.flags, f"--workdir={tmp_path}", "--num_steps=6"]
    printed = succeed("thumos", *flags, **virtual_devices(4))
    assert printed.splitlines()[0] == "devices: 4 of 4, cpu"
    assert_close_run(tmp_path, trained.workdir, rtol=1e-4)


def test_as_many_devices_as_divide_a_batch_are_taken(trained, tmp_path, succeed):
    flags = [*trained.flags, f"--workdir={tmp_path}", "--num_steps=2"]
    printed = succeed("thumos", *flags, **virtual_devices(3))
    assert printed.splitlines()[0] == "devices: 2 of 3, cpu"
    (found,), expected = _metrics(tmp_path), _metrics(trained.workdir)[0]
    assert found["losses"] == pytest.approx(expected["losses"], rel=1e-4)


@pytest.fixture(scope="module")
def seeds(trained, tmp_path_factory, succeed):
    """A finished run of three seeds, and what it printed."""
    workdir = tmp_path_factory.mktemp("seeds") / "workdir"
    printed = succeed("thumos", *trained.flags, f"--workdir={workdir}", "--num_steps=6", "--num_seeds=3")
    return workdir, printed


def test_one_of_many_seeds_is_its_own_run(trained, seeds):
    workdir, _ = seeds
    assert sorted(path.name for path in workdir.iterdir()) == ["seed_4", "seed_5", "seed_6"]
    for seed in SEEDS:
        names = {path.name for path in (workdir / f"seed_{seed}").iterdir()}
        assert names == FILES
        assert json.loads((workdir / f"seed_{seed}" / "config.json").read_text())["seed"] == seed
    assert_close_run(workdir / "seed_4", trained.workdir, rtol=1e-4)
    averages = {seed: [row["average"] for row in _metrics(workdir / f"seed_{seed}")] for seed in SEEDS}
    assert averages[4] != averages[5] != averages[6]


def test_many_seeds_end_in_mean_and_deviation(seeds):
    workdir, printed = seeds
    lines = [line.rsplit(maxsplit=10) for line in _table(printed)[2:]]
    titles = [line[0] for line in lines]
    rows = {title: np.array(cells, float) for title, *cells in lines}
    assert titles[-4:] == [
        "last, mean of 3 seeds",
        "last, standard deviation",
        "best, mean of 3 seeds",
        "best, standard deviation",
    ]
    assert [title.split(" (")[0] for title in titles[:-4]] == [
        f"seed {seed}, {which}" for seed in SEEDS for which in ("last", "best")
    ]
    of_seeds = [_metrics(workdir / f"seed_{seed}") for seed in SEEDS]
    last = np.array([[*rows[-1]["map"], rows[-1]["average"]] for rows in of_seeds])
    best = np.array([[*row["map"], row["average"]] for row in (max(r, key=_average) for r in of_seeds)])
    for which, values in (("last", 100 * last), ("best", 100 * best)):
        columns = [*range(7), -1]
        mean, deviation = rows[f"{which}, mean of 3 seeds"], rows[f"{which}, standard deviation"]
        np.testing.assert_allclose(mean[columns], values.mean(axis=0), atol=0.0051)
        np.testing.assert_allclose(deviation[columns], values.std(axis=0, ddof=1), atol=0.0051)


def _average(row: dict) -> float:
    return row["average"]


def test_seeds_interrupted_at_different_steps_go_on_to_the_same_result(trained, seeds, tmp_path, succeed):
    expected, stdout = seeds
    flags = [*trained.flags, f"--workdir={tmp_path}", "--num_seeds=3"]
    succeed("thumos", *flags, "--num_steps=4")
    # As if it had been stopped when seed 5 had not yet recorded step 4.
    behind = Workdir(tmp_path / "seed_5")
    shutil.rmtree(behind.checkpoints / "4")
    behind.write_metrics(behind.metrics()[:-1])
    printed = succeed("thumos", *flags, "--num_steps=6")
    assert "going on from step 2" in printed
    assert _table(printed) == _table(stdout)
    for seed in SEEDS:
        _assert_same_run(tmp_path / f"seed_{seed}", expected / f"seed_{seed}")


@pytest.fixture
def together(environment, free_port):
    """together("thumos", "--flag", ...): a command line as two processes; returns what the first printed."""

    def run_both(module: str, *flags) -> str:
        shared = [*flags, f"--coordinator=localhost:{free_port}", "--num_processes=2"]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", f"experiments.{module}", *shared, f"--process_id={i}"],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(2)
        ]
        printed = []
        try:
            for process in processes:
                stdout, stderr = process.communicate(timeout=300)
                assert process.returncode == 0, stderr
                printed.append(stdout)
        finally:
            for process in processes:
                process.kill()
        assert "mAP" not in printed[1]  # the first process alone reports
        return printed[0]

    return run_both


def test_two_processes_train_as_one(trained, tmp_path, together):
    printed = together("thumos", *trained.flags, f"--workdir={tmp_path}", "--num_steps=6")
    assert "devices: 2 of 2, cpu" in printed
    assert_close_run(tmp_path, trained.workdir, rtol=1e-4)


def test_two_processes_go_on_where_they_stopped_and_may_read_from_disk(trained, tmp_path, together):
    flags = [*trained.flags, f"--workdir={tmp_path}"]
    together("thumos", *flags, "--num_steps=4")
    printed = together("thumos", *flags, "--num_steps=6", "--feature_store=disk", "--num_workers=0")
    assert "going on from step 4" in printed
    assert_close_run(tmp_path, trained.workdir, rtol=1e-4)


TOGETHER = "expected --coordinator, --num_processes and --process_id together"


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ["--data_dir=", "--synthetic", "--feature_store=disk"],
            "--feature_store: is disk; expected device with --synthetic, which has no files",
        ),
        (
            ["--num_seeds=2", "--feature_store=disk"],
            "--num_seeds: is 2; expected 1 with --feature_store=disk",
        ),
        (["--coordinator=localhost:1"], f"--num_processes: is missing; {TOGETHER}"),
        (["--num_processes=2", "--coordinator=localhost:1"], f"--process_id: is missing; {TOGETHER}"),
        (["--process_id=0", "--num_processes=2"], f"--coordinator: is missing; {TOGETHER}"),
        (
            ["--coordinator=localhost:1", "--num_processes=2", "--process_id=2"],
            "--process_id: is 2; expected less than --num_processes=2",
        ),
        (
            ["--coordinator=localhost", "--num_processes=2", "--process_id=0"],
            "--coordinator: is 'localhost'; expected host:port, as in 10.0.0.1:12345",
        ),
        (["--num_devices=2"], "--num_devices: is 2; expected at most the 1 there are"),
    ],
)
def test_flags_that_contradict_each_other_leave_nothing_behind(flags, message, small_dataset, tmp_path, fail):
    workdir = tmp_path / "workdir"
    assert fail("thumos", f"--data_dir={small_dataset}", f"--workdir={workdir}", *SMALL, *flags) == message
    assert not workdir.exists()


def test_devices_that_do_not_divide_a_batch_are_refused(small_dataset, tmp_path, fail):
    flags = [f"--data_dir={small_dataset}", f"--workdir={tmp_path}", *SMALL, "--num_devices=3"]
    message = "--batch_size: is 4; expected a multiple of the 3 devices"
    assert fail("thumos", *flags, **virtual_devices(3)) == message


def test_a_new_seed_does_not_undo_those_that_are_done(trained, seeds, tmp_path, succeed, fail):
    workdir = shutil.copytree(seeds[0], tmp_path / "seeds")
    before = contents(workdir)
    flags = [*trained.flags, f"--workdir={workdir}", "--num_seeds=4"]
    refused = fail("thumos", *flags, "--num_steps=8")
    assert refused == (
        f"{workdir / 'seed_7'}: is not as far as the other seeds (6 steps); expected seeds that began "
        "together, or to train it by itself, with a --workdir of its own"
    )
    after = contents(workdir)
    changed = {name for name in after if before.get(name) != after[name]}
    assert {Path(name).name for name in changed} == {"config.json"}  # more steps are asked for from now on
    printed = succeed("thumos", *trained.flags, f"--workdir={seeds[0]}", "--num_steps=6", "--num_seeds=3")
    assert _table(printed) == _table(seeds[1])


def test_both_processes_stop_where_the_first_refuses(trained, tmp_path, environment, free_port):
    (tmp_path / "config.json").write_text("{}")
    flags = [*trained.flags, f"--workdir={tmp_path}", "--num_steps=6", "--num_processes=2"]
    command = [sys.executable, "-m", "experiments.thumos", *flags, f"--coordinator=localhost:{free_port}"]
    processes = [
        subprocess.Popen(
            [*command, f"--process_id={i}"], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
        )
        for i in range(2)
    ]
    told = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2]
    assert f"error: {tmp_path / 'config.json'}: is no run's settings" in told[0]
    assert "error: --process_id: the first process refused the run; expected what it says" in told[1]
