"""Small data sets on disk and one trained run, which all tests of commands share."""

from pathlib import Path

import pytest

from benchmarks.activitynet_shape import write_activitynet_shape
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from tests.helpers.commands import succeed_here
from tests.helpers.workdirs import SMALL, Trained


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory) -> Path:
    """Eight training and four test videos of two classes in THUMOS14's layout; read only."""
    folder = tmp_path_factory.mktemp("data")
    spec = SyntheticSpec(num_train=8, num_test=4, num_classes=2, width=8)
    write_dataset(make_synthetic_dataset(0, spec), folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory, small_dataset) -> Trained:
    """Read only: a test that writes copies the workdir. With this seed the best step is not the last."""
    workdir = tmp_path_factory.mktemp("trained") / "workdir"
    flags = [f"--data_dir={small_dataset}", "--seed=4", *SMALL]
    stdout = succeed_here("train", *flags, f"--workdir={workdir}", "--num_steps=6")
    return Trained(flags, workdir, stdout)


@pytest.fixture(scope="session")
def activitynet(tmp_path_factory) -> Path:
    """ActivityNet's layout: seven training videos and five others, and in each split one without features."""
    folder = tmp_path_factory.mktemp("activitynet")
    write_activitynet_shape(folder, num_train=8, num_test=6, num_classes=3, width=6)
    for stream in ("rgb", "flow"):
        for number in (7, 13):
            (folder / "features" / stream / f"v_{number:011d}.npy").unlink()
    return folder
