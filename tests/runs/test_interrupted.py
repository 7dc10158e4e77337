import jax.numpy as jnp
import pytest

from case_jax.runs import interrupted
from case_jax.runs.workdir import Workdir
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.runs import SETTINGS, saved_steps


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path)


def state_at(step):
    return SETTINGS.fresh_state().replace(step=jnp.int32(step))


def write_history(workdir, *steps):
    workdir.write_history([{"step": step, "metrics": {"loss": 1.0}} for step in steps])


def test_at_first_nothing_is_saved(workdir):
    assert interrupted.saved_steps(workdir) == []
    interrupted.forget(workdir)
    assert not list(workdir.path.iterdir())


def test_a_state_is_saved_restored_and_forgotten(workdir):
    interrupted.save(workdir, state_at(5))
    assert interrupted.saved_steps(workdir) == [5]
    write_history(workdir, 3, 5)
    for evaluated in (0, 3):
        restored = interrupted.restore(workdir, SETTINGS.fresh_state(), 5, evaluated)
        assert int(restored.step) == 5
    interrupted.forget(workdir)
    assert interrupted.saved_steps(workdir) == []


@pytest.mark.parametrize("later", [5, 8])
def test_a_state_that_training_did_not_go_on_from_is_replaced(workdir, later):
    interrupted.save(workdir, state_at(later))
    interrupted.save(workdir, state_at(5))
    assert saved_steps(workdir.interrupted) == {5}


@pytest.mark.parametrize("steps", [(), (3,), (5,), (4, 5)])
def test_a_state_is_of_no_use_without_the_losses_since_the_evaluation(workdir, steps):
    interrupted.save(workdir, state_at(5))
    write_history(workdir, *steps)
    message = refusal(interrupted.restore, workdir, SETTINGS.fresh_state(), 5, 3)
    assert_parts(message, workdir.history_path, "from step 3 to 5", str(workdir.interrupted / "5"))
