"""A training whose disk is full or cannot be written."""

import contextlib
import re
import shutil
import subprocess

import pytest

from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.helpers.commands import interruptible, refusal, run_process
from tests.helpers.refusals import refusal as refused
from tests.helpers.runs import Training, assert_same_run, make_dataset

pytestmark = pytest.mark.faults

ROOMS = (0, 24_000, 340_000)  # bytes


@pytest.mark.slow
def test_files_that_cannot_grow(trained_process, tmp_path, environment):
    """Arrays do not fit in 20 KiB, and no file may grow beyond; with room again, the run reaches its end."""
    workdir = Workdir(tmp_path / "W")
    flags = [*trained_process.flags, f"--workdir={workdir.path}"]
    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash"]
    ended = subprocess.run(
        [*limited, *interruptible("-m", "experiments.thumos", *flags, "--eval_workers=0")],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    message = refusal(ended)
    assert message.startswith(f"{workdir.path}/")
    assert re.search(r" cannot be written \(.*File too large.*\)", message)
    ended = run_process("thumos", *flags, environment=environment, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert_same_run(workdir, trained_process.workdir)


@contextlib.contextmanager
def _mounted(folder, *arguments):
    """Mounts something on a folder, or skips the test where the system does not allow it."""
    mounted = subprocess.run(["mount", *arguments, folder], capture_output=True, text=True, timeout=60)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here ({mounted.stderr.strip()})")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True, timeout=60)


@pytest.mark.slow
def test_a_disk_that_fills_up(tmp_path, standard_dtypes):
    """A file system with room for so many bytes: none, part of a checkpoint, one checkpoint but not two."""
    dataset, disk = make_dataset(), tmp_path / "disk"
    uninterrupted = Training(tmp_path / "roomy", dataset)
    uninterrupted.train()
    disk.mkdir()
    with _mounted(disk, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        for room in ROOMS:
            training = Training(disk / f"room_{room}", dataset)
            training.workdir.path.mkdir(parents=True)
            filling = disk / "filling"
            filling.write_bytes(bytes(shutil.disk_usage(disk).free - room))
            message = refused(training.train)
            assert message.startswith(str(training.workdir.path))
            assert re.search(r" cannot be written \(.*No space left on device.*\)", message), message
            saved = {path.name for path in training.workdir.checkpoints.glob("*") if path.name.isdigit()}
            assert bool(saved) == (room == ROOMS[-1])
            filling.unlink()
            training.train()
            assert_same_run(training.workdir, uninterrupted.workdir)
            shutil.rmtree(training.workdir.path)


def test_a_workdir_that_cannot_be_written(tmp_path):
    """The disk is read-only, so not even root can write."""
    folder = tmp_path / "seed_3"
    folder.mkdir()
    with _mounted(folder, "--bind", "-o", "ro", folder):
        message = refused(Training(tmp_path, make_dataset()).train)
    assert message == f"{folder}/config.json: cannot be written (Read-only file system)"
