"""Fixtures of the tests of faults."""

from typing import NamedTuple

import pytest

from case_jax.data.thumos import write_dataset
from case_jax.runs.workdir import Workdir
from tests.helpers.commands import run_process
from tests.helpers.runs import make_dataset

STEPS = 112


class Trained(NamedTuple):
    """A finished run of `STEPS`, evaluated every 14: it takes seconds, so that signals find it training."""

    flags: list[str]  # all but --workdir
    workdir: Workdir


@pytest.fixture(scope="session")
def trained_process(tmp_path_factory, environment) -> Trained:
    """Read only, and trained by a process, since the devices of this session are others."""
    data, workdir = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("trained") / "W"
    write_dataset(make_dataset(), data)
    flags = [f"--data_dir={data}", f"--num_steps={STEPS}", "--eval_every=14", "--noreport"]
    flags += ["--num_snippets=32", "--hidden_dim=16", "--num_clusters=4", "--batch_size=4"]
    ended = run_process("thumos", *flags, f"--workdir={workdir}", environment=environment, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return Trained(flags, Workdir(workdir))
