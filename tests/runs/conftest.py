"""One small data set and its finished runs, shared by the tests of this folder."""

import shutil

import jax
import jax.numpy as jnp
import pytest

from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.workdir import Workdir
from tests.helpers.runs import SETTINGS, TOGETHER, Training, make_dataset


@pytest.fixture(autouse=True)
def steps_are_taken(standard_dtypes):
    """Most of these tests train."""


@pytest.fixture(scope="session")
def dataset():
    return make_dataset()


@pytest.fixture(scope="session")
def uninterrupted(dataset, tmp_path_factory) -> Workdir:
    """A run that was never interrupted; read only."""
    training = Training(tmp_path_factory.mktemp("uninterrupted"), dataset)
    with jax.numpy_dtype_promotion("standard"):
        training.train()
    return training.workdir


@pytest.fixture(scope="session")
def together(dataset, tmp_path_factory) -> list[Workdir]:
    """Runs of two seeds that trained at once; read only."""
    training = Training(tmp_path_factory.mktemp("together"), dataset, seeds=TOGETHER)
    with jax.numpy_dtype_promotion("standard"):
        training.train()
    return training.workdirs


@pytest.fixture
def finished(uninterrupted, tmp_path) -> Workdir:
    """A copy of the finished run, where `Training(tmp_path, dataset)` finds it."""
    return Workdir(shutil.copytree(uninterrupted.path, tmp_path / "seed_3"))


@pytest.fixture
def training(tmp_path, dataset) -> Training:
    return Training(tmp_path, dataset)


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Workdir:
    """A run that has one checkpoint and never took a step; read only."""
    workdir = Workdir(tmp_path_factory.mktemp("run") / "W")
    workdir.begin(SETTINGS)
    with CheckpointStore(workdir.checkpoints) as store:
        store.save(SETTINGS.fresh_state().replace(step=jnp.int32(2)), quality=0.5)
    workdir.write_metrics([{"step": 2, "losses": {"loss": 1.0}, "tiou": [0.5], "map": [0.5], "average": 0.5}])
    workdir.write_history([{"step": 1, "metrics": {"loss": 2.0}}, {"step": 2, "metrics": {"loss": 1.0}}])
    return workdir
