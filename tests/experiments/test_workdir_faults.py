"""A training that is killed, or whose workdir is damaged, full, read-only or in use."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.experiments.test_interrupt import assert_same_run

pytestmark = pytest.mark.faults


@pytest.fixture
def training(trained):
    """training(workdir, "--flag", ...): the command of `trained` in another workdir, for `run` and others."""

    def of(workdir, *flags):
        return ["thumos", *trained.flags, f"--workdir={workdir.path}", "--num_steps=6", *flags]

    return of


def _as_process(training):
    """The same for subprocess."""
    module, *flags = training
    return [sys.executable, "-m", f"experiments.{module}", *flags]


@pytest.fixture
def workdir(trained, tmp_path):
    return Workdir(shutil.copytree(trained.workdir, tmp_path / "run"))


def _files_of(workdir, step):
    """Files of a checkpoint, the largest last."""
    folder = workdir.checkpoints / str(step)
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)


def _flip(path):
    content = bytearray(path.read_bytes())
    for i in range(len(content) // 4, 3 * len(content) // 4):
        content[i] ^= 0xFF
    path.write_bytes(content)


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_flip, _truncate, _empty])
def test_a_damaged_latest_checkpoint_falls_back_to_the_one_before(trained, workdir, training, run, damage):
    assert {int(path.name) for path in workdir.checkpoints.iterdir()} == {4, 6}
    damage(_files_of(workdir, 6)[-1])
    ended = run(*training(workdir))
    assert ended.returncode == 0, ended.stderr
    (said,) = [line for line in ended.stdout.splitlines() if line.startswith("not used: ")]
    assert said.startswith(f"not used: {workdir.checkpoints}/6: cannot be restored (")
    assert said.endswith(f"); expected a checkpoint of this run's settings; kept as {workdir.path}/damaged_6")
    assert "going on from step 4" in ended.stdout
    assert ended.stderr == ""
    shutil.rmtree(workdir.path / "damaged_6")
    assert_same_run(workdir, Workdir(trained.workdir))


def test_all_checkpoints_damaged_is_an_error_that_moves_nothing(workdir, training, fail):
    steps = sorted(int(path.name) for path in workdir.checkpoints.iterdir())
    shutil.rmtree(workdir.checkpoints / "6")
    steps.remove(6)
    for step in steps:
        _empty(_files_of(workdir, step)[-1])
    message = fail(*training(workdir))
    assert message.startswith(f"{workdir.checkpoints}/{steps[-1]}: cannot be restored (")
    assert sorted(int(path.name) for path in workdir.checkpoints.iterdir()) == steps


def test_two_trainings_in_one_workdir(workdir, training, fail):
    shutil.rmtree(workdir.checkpoints / "6")
    before = {path: path.read_bytes() for path in workdir.path.rglob("*") if path.is_file()}
    with workdir.exclusive():
        message = fail(*training(workdir))
    assert message == (
        f"{workdir.path}: another training is writing to it; expected one at a time, or another --workdir"
    )
    assert {path: path.read_bytes() for path in workdir.path.rglob("*") if path.is_file()} == before
    with workdir.exclusive():  # it was given up
        pass


@pytest.mark.slow
def test_a_disk_that_is_full(trained, tmp_path, training, succeed, environment):
    """No file may grow beyond some sizes, in KiB: of the state's arrays, of everything."""
    for limit in (20, 0):
        workdir = Workdir(tmp_path / f"limit_{limit}")
        limited = ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "bash"]
        ended = subprocess.run(
            [*limited, *_as_process(training(workdir, "--eval_workers=0"))],
            env={name: value for name, value in environment.items() if "COMPILATION_CACHE" not in name},
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 2, ended.stderr
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"error: {workdir.path}/")
        assert re.search(r" cannot be written \(.*File too large.*\)", line)
        # With room again, the same command comes to the same end.
        succeed(*training(workdir))
        assert_same_run(workdir, Workdir(trained.workdir))


@contextlib.contextmanager
def _mounted(folder, *arguments):
    """Mounts something on a folder, or skips the test where that is not allowed."""
    mounted = subprocess.run(["mount", *arguments, folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted ({mounted.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up(trained, tmp_path, training, fail, succeed):
    """A file system with room for so many bytes: none, part of a checkpoint, one checkpoint but not two."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with _mounted(disk, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        for room in (0, 24_000, 340_000):
            workdir = Workdir(disk / f"room_{room}")
            workdir.path.mkdir()
            filling = disk / "filling"
            filling.write_bytes(bytes(shutil.disk_usage(disk).free - room))
            message = fail(*training(workdir, "--eval_workers=0"))
            assert message.startswith(str(workdir.path))
            assert re.search(r" cannot be written \(.*No space left on device.*\)", message), message
            filling.unlink()
            succeed(*training(workdir))
            assert_same_run(workdir, Workdir(trained.workdir))
            shutil.rmtree(workdir.path)


def test_a_workdir_that_cannot_be_written(workdir, training, fail):
    shutil.rmtree(workdir.checkpoints / "6")
    with _mounted(workdir.path, "--bind", "-o", "ro", workdir.path):
        message = fail(*training(workdir))
    assert message == f"{workdir.path}/config.json: cannot be written (Read-only file system)"


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path, training, succeed, environment):
    """SIGKILL at random moments, every other time while a checkpoint is being written."""
    flags = ["--num_steps=40", "--eval_every=4"]
    expected = Workdir(tmp_path / "expected")
    succeed(*training(expected, *flags))
    workdir = Workdir(tmp_path / "killed")
    rng, kills, saving = random.Random(0), 0, 0
    while kills < 20:
        log = open(tmp_path / "log", "w")
        process = subprocess.Popen(
            _as_process(training(workdir, *flags)), env=environment, cwd=ROOT, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + rng.uniform(0.5, 9.0)
        wait_for_saving = kills % 2 == 1
        while process.poll() is None and time.monotonic() < deadline:
            if wait_for_saving and any(workdir.checkpoints.glob("*tmp*")):
                saving += 1
                break
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            for row in (
                (workdir.path / "metrics.jsonl").read_text().splitlines()
                if (workdir.path / "metrics.jsonl").exists()
                else []
            ):
                json.loads(row)  # never a torn line
        else:  # it came to its end: the other kills are in another run
            assert process.returncode == 0, (tmp_path / "log").read_text()
            assert_same_run(workdir, expected)
            shutil.rmtree(workdir.path)
        log.close()
    succeed(*training(workdir, *flags))
    assert_same_run(workdir, expected)
    assert saving >= 3
