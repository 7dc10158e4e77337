"""A small data set, and the tables and figures that one training of two seeds makes."""

from pathlib import Path
from typing import NamedTuple

import pytest

from case_jax.data.synthetic import SyntheticSpec
from case_jax.data.thumos import write_dataset
from tests.helpers.commands import succeed_here
from tests.helpers.one_stream import one_stream_dataset
from tests.helpers.workdirs import SMALL

COMMAND = "experiments.ablations.__main__"


class Made(NamedTuple):
    """What the command left."""

    flags: list[str]  # all but --workdir and what is made
    workdir: Path
    stdout: str


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    spec = SyntheticSpec(num_train=8, num_test=4, num_classes=2, width=8)
    write_dataset(one_stream_dataset(spec), folder)
    return folder


@pytest.fixture(scope="session")
def flags(small_folder) -> list[str]:
    small = [flag for flag in SMALL if flag != "--noreport"]
    return [f"--data_dir={small_folder}", *small, "--num_steps=4", "--num_seeds=2"]


@pytest.fixture(scope="session")
def made(tmp_path_factory, flags) -> Made:
    """Tables 1 and 6 and Figures 5 and 6; read only, but for what a command adds."""
    workdir = tmp_path_factory.mktemp("ablations")
    stdout = succeed_here(COMMAND, *flags, f"--workdir={workdir}", "--table=1,6", "--figure=5,6")
    return Made(flags, workdir, stdout)
