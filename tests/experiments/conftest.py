"""Command lines as users run them: subprocesses, a small data set and one trained workdir."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from tests.conftest import ROOT

SMALL = "--num_snippets=32 --hidden_dim=16 --num_clusters=4 --batch_size=4 --eval_every=2 --noreport".split()
FILES = {
    "config.json",
    "metrics.jsonl",
    "history.jsonl",
    "checkpoints",
    "predictions.json",
    "events",
}  # of a run


class Trained(NamedTuple):
    """A finished run of six steps, evaluated at 2, 4 and 6."""

    flags: list[str]  # all but --workdir and --num_steps
    workdir: Path
    stdout: str


@pytest.fixture(scope="session")
def run(environment) -> Callable[..., subprocess.CompletedProcess]:
    """run("thumos", "--flag", ..., NAME="value"): a command line of the project, in an environment."""

    def run_command(module: str, *flags, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", f"experiments.{module}", *map(str, flags)],
            cwd=ROOT,
            env={**environment, **variables},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run_command


@pytest.fixture(scope="session")
def succeed(run) -> Callable[..., str]:
    """Like run, but the command must succeed; returns what it printed."""

    def run_successfully(module: str, *flags, **variables: str) -> str:
        result = run(module, *flags, **variables)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run_successfully


@pytest.fixture(scope="session")
def fail(run) -> Callable[..., str]:
    """Like run, but it must be bad input: status 2 and one line on stderr, returned without "error: "."""

    def run_in_vain(module: str, *flags, **variables: str) -> str:
        result = run(module, *flags, **variables)
        assert result.returncode == 2, result.stderr
        assert result.stderr.startswith("error: "), result.stderr
        assert result.stderr.endswith("\n"), result.stderr
        assert result.stderr.count("\n") == 1, result.stderr
        return result.stderr.removeprefix("error: ").removesuffix("\n")

    return run_in_vain


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    spec = SyntheticSpec(num_train=8, num_test=4, num_classes=2, width=8)
    write_dataset(make_synthetic_dataset(0, spec), folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_dataset, succeed) -> Trained:
    """Read only: copy the workdir to change it. With this seed the best step is not the last."""
    workdir = tmp_path_factory.mktemp("trained") / "workdir"
    flags = [f"--data_dir={small_dataset}", "--seed=4", *SMALL]
    stdout = succeed("thumos", *flags, f"--workdir={workdir}", "--num_steps=6")
    return Trained(flags, workdir, stdout)


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, TensorBoard's aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "events"
    }
