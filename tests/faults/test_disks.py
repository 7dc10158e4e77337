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


@pytest.fixture
def training(trained_process):
    """training(workdir, "--flag", ...): the flags of the run ``trained_process`` in another workdir."""

    def of(workdir, *flags):
        return [*trained_process.flags, f"--workdir={workdir.path}", *flags]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("limit", [20, 0], ids=["arrays do not fit", "nothing fits"])
def test_files_that_cannot_grow(trained_process, tmp_path, training, environment, limit):
    """No file may grow beyond some KiB; with room again, the same command comes to the same end."""
    workdir = Workdir(tmp_path / "W")
    limited = ["bash", "-c", f'ulimit -f {limit}; exec "$@"', "bash"]
    ended = subprocess.run(
        [*limited, *interruptible("-m", "experiments.thumos", *training(workdir, "--eval_workers=0"))],
        env={name: value for name, value in environment.items() if "COMPILATION_CACHE" not in name},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    message = refusal(ended)
    assert message.startswith(f"{workdir.path}/")
    assert re.search(r" cannot be written \(.*File too large.*\)", message)
    ended = run_process("thumos", *training(workdir), environment=environment, timeout=300)
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
def test_a_disk_that_fills_up(trained_process, tmp_path, training, environment):
    """A file system with room for so many bytes: none, part of a checkpoint, one checkpoint but not two."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with _mounted(disk, "-t", "tmpfs", "-o", "size=8m", "tmpfs"):
        for room in (0, 24_000, 340_000):
            workdir = Workdir(disk / f"room_{room}")
            workdir.path.mkdir()
            filling = disk / "filling"
            filling.write_bytes(bytes(shutil.disk_usage(disk).free - room))
            flags = training(workdir, "--eval_workers=0")
            message = refusal(run_process("thumos", *flags, environment=environment, timeout=300))
            assert message.startswith(str(workdir.path))
            assert re.search(r" cannot be written \(.*No space left on device.*\)", message), message
            filling.unlink()
            ended = run_process("thumos", *training(workdir), environment=environment, timeout=300)
            assert ended.returncode == 0, ended.stderr
            assert_same_run(workdir, trained_process.workdir)
            shutil.rmtree(workdir.path)


def test_a_workdir_that_cannot_be_written(tmp_path):
    """The disk is read-only, so not even root can write."""
    folder = tmp_path / "seed_3"
    folder.mkdir()
    with _mounted(folder, "--bind", "-o", "ro", folder):
        message = refused(Training(tmp_path, make_dataset()).train)
    assert message == f"{folder}/config.json: cannot be written (Read-only file system)"
