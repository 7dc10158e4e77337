"""Processes that are interrupted or killed at any moment; `tests/runs/test_train.py` chooses the moment."""

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import time
from signal import SIGINT, SIGKILL, SIGTERM

import pytest

from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.faults.conftest import STEPS
from tests.helpers.commands import interruptible, run_process
from tests.helpers.runs import assert_same_run

pytestmark = pytest.mark.faults

WITH_WORKERS = ("--feature_store=disk", "--num_workers=1", "--eval_workers=1")


@contextlib.contextmanager
def started(flags, environment, **streams):
    """A training in a process group of its own, which is gone afterwards."""
    process = subprocess.Popen(
        interruptible("-m", "experiments.thumos", *flags),
        cwd=ROOT,
        env=environment,
        text=True,
        start_new_session=True,
        **(streams or {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)
        process.communicate()


def wait_for(process, beginning):
    """Reads up to a line of standard output."""
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(f"no line begins with {beginning!r}: {process.communicate()}")


def finish(flags, environment):
    ended = run_process("thumos", *flags, environment=environment, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.slow
def test_a_whole_process_group_is_interrupted(trained_process, tmp_path, environment):
    """When it says what it trains on, and after an evaluation; alone and with workers."""
    workdir = Workdir(tmp_path / "W")
    flags = [*trained_process.flags, f"--workdir={workdir.path}"]
    for line, number, where in (("model:", SIGTERM, ()), ("step ", SIGINT, WITH_WORKERS)):
        with started([*flags, *where], environment) as process:
            wait_for(process, line)
            os.killpg(process.pid, number)  # as Ctrl-C does, which reaches workers, too
            stdout, stderr = process.communicate(timeout=100)
        assert process.returncode == {SIGINT: 130, SIGTERM: 143}[number], stderr
        assert re.fullmatch(
            rf"interrupted at step (0 of {STEPS}: the same command begins anew"
            rf"|\d+ of {STEPS}: saved; the same command goes on)\n",
            stderr,
        )
        assert "\x1b" not in stdout
    finish(flags, environment)
    assert_same_run(workdir, trained_process.workdir)


@pytest.mark.slow
def test_of_two_processes_that_train_together_one_is_interrupted(
    trained_process, tmp_path, environment, free_port
):
    flags = [*trained_process.flags, f"--workdir={tmp_path}", f"--coordinator=localhost:{free_port}"]
    flags.append("--num_processes=2")
    with (
        started([*flags, "--process_id=0"], environment) as first,
        started([*flags, "--process_id=1"], environment),
    ):
        wait_for(first, "step ")
        first.send_signal(SIGINT)
        _, stderr = first.communicate(timeout=100)
    assert first.returncode == 130
    assert stderr == "interrupted: the same command goes on from the last evaluation\n"
    assert not (tmp_path / "interrupted").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kills_change_nothing(trained_process, tmp_path, environment):
    """SIGKILL at the start, at a random moment after an evaluation, and while a checkpoint is written."""
    expected, workdir = trained_process.workdir, Workdir(tmp_path / "killed")
    flags = [*trained_process.flags, f"--workdir={workdir.path}"]
    rng, kills, saving = random.Random(0), 0, 0
    while kills < 3:
        with (
            open(tmp_path / "log", "w") as log,
            started(flags, environment, stdout=log, stderr=log) as process,
        ):
            deadline = time.monotonic() + 100
            while process.poll() is None and time.monotonic() < deadline:
                if kills == 0 and workdir.config.exists():
                    break
                if kills == 1 and workdir.metrics():
                    time.sleep(rng.uniform(0, 0.3))
                    break
                if kills == 2 and any(workdir.checkpoints.glob("*tmp*")):
                    saving += 1
                    break
                time.sleep(0.002)
            if process.poll() is None:
                os.killpg(process.pid, SIGKILL)
                process.wait()
                kills += 1
                _assert_no_torn_line(workdir.path / "metrics.jsonl")
                continue
        # It came to its end; the other kills are in another run.
        assert process.returncode == 0, (tmp_path / "log").read_text()
        assert_same_run(workdir, expected)
        shutil.rmtree(workdir.path)
    finish(flags, environment)
    assert_same_run(workdir, expected)
    assert saving >= 1


def _assert_no_torn_line(path):
    for row in path.read_text().splitlines() if path.exists() else []:
        json.loads(row)
