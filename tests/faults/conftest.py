"""Fixtures of the tests of faults."""

import pickle

import jax.numpy as jnp
import pytest

from case_jax.config import CaseConfig
from case_jax.data.info import DatasetInfo
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from tests.faults.refusals import Trap

SETTINGS = RunSettings(
    CaseConfig(num_snippets=8, hidden_dim=4, num_clusters=2, batch_size=2),
    DatasetInfo(classes=("Jump", "Run")),
    {"rgb": 3, "flow": 3},
    seed=0,
    eval_every=1,
    tiou=(0.5,),
)


@pytest.fixture(scope="session")
def workdir(tmp_path_factory):
    """Of an untrained run; read only."""
    workdir = Workdir(tmp_path_factory.mktemp("run") / "W")
    workdir.begin(SETTINGS)
    with CheckpointStore(workdir.checkpoints) as store:
        store.save(SETTINGS.fresh_state().replace(step=jnp.int32(2)), average=0.5)
    workdir.write_metrics([{"step": 2, "losses": {"loss": 1.0}, "tiou": [0.5], "map": [0.5], "average": 0.5}])
    workdir.write_history([{"step": 1, "metrics": {"loss": 2.0}}, {"step": 2, "metrics": {"loss": 1.0}}])
    return workdir


@pytest.fixture
def trap(tmp_path_factory, monkeypatch):
    """Arms `Trap`, which must not be sprung."""
    path = tmp_path_factory.mktemp("trap") / "sprung"
    monkeypatch.setattr(Trap, "path", path)
    pickle.loads(pickle.dumps(Trap()))
    assert path.exists()  # it works
    path.unlink()
    yield
    assert not path.exists()
