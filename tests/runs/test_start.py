"""Training goes on from the latest state that all seeds have saved and that can be restored."""

import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.runs import interrupted as interrupted_state
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.start import find_start
from case_jax.training.parallel import make_mesh
from tests.helpers.refusals import assert_parts
from tests.helpers.runs import Listener, Training, assert_same_run, saved_steps

CANNOT_BE_RESTORED = (
    r"{path}/interrupted/18: cannot be restored \(.+\); expected a checkpoint of this run's settings"
)


def start_of(training, narrator=None):
    """`find_start` as a training calls it."""
    stores = [CheckpointStore(run.workdir.checkpoints, read_only=True) for run in training.runs]
    mesh = make_mesh(jax.devices()[:1])
    try:
        return find_start(training.runs, stores, mesh, narrator or Listener())
    finally:
        for store in stores:
            store.__exit__(None, None, None)


def begun(training):
    for run in training.runs:
        run.workdir.begin(run.settings)
        run.workdir.checkpoints.mkdir()
    return training


@pytest.fixture
def interrupted(training):
    """Interrupted at step 18, evaluated at step 12."""
    training.interrupt(18)
    return training


def test_a_new_run_starts_with_the_fresh_state(training):
    start = start_of(begun(training))
    assert (start.step, start.evaluated) == (0, 0)
    fresh = training.runs[0].settings.fresh_state()
    jax.tree.map(np.testing.assert_array_equal, start.state.params, fresh.params)


def test_a_run_that_is_to_be_shorter_does_not_go_on_from_beyond_its_end(interrupted):
    assert start_of(interrupted)[1:] == (18, 12)
    interrupted.change(num_steps=15)
    assert start_of(interrupted)[1:] == (12, 12)


def _cut(workdir):
    for path in (workdir.interrupted / "18" / "default").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return CANNOT_BE_RESTORED


def _cut_history(workdir):
    workdir.write_history(workdir.history()[:-1])
    return (
        "{path}/history.jsonl: does not lead from step 12 to 18; expected the losses up to "
        "{path}/interrupted/18"
    )


@pytest.mark.parametrize("damage", [_cut, pytest.param(_cut_history, marks=pytest.mark.slow)])
def test_a_damaged_interrupted_state_is_not_used(interrupted, uninterrupted, damage):
    workdir = interrupted.workdir
    message = damage(workdir)
    said = interrupted.train()
    (line,) = [line for line in said if line.startswith("not used: ")]
    assert re.fullmatch("not used: " + message.format(path=re.escape(str(workdir.path))), line)
    assert "going on from step 12" in said
    assert_same_run(workdir, uninterrupted)


@pytest.mark.slow
def test_a_damaged_interrupted_state_is_replaced_by_the_next_one(training, uninterrupted):
    training.interrupt(6)
    shutil.rmtree(training.workdir.interrupted / "6" / "default")
    training.interrupt(6)
    assert saved_steps(training.workdir.interrupted) == {6}
    training.train()
    assert_same_run(training.workdir, uninterrupted)


@pytest.mark.slow
def test_an_interrupted_state_that_an_evaluation_has_overtaken_is_not_used(training, uninterrupted, tmp_path):
    """As if the process had been killed after saving the evaluation and before removing the state."""
    training.interrupt(6)
    workdir = training.workdir
    kept = shutil.copytree(workdir.interrupted, tmp_path / "kept")
    training.interrupt(18)
    shutil.rmtree(workdir.interrupted)
    shutil.copytree(kept, workdir.interrupted)
    assert "going on from step 12" in training.train()
    assert_same_run(workdir, uninterrupted)
    shutil.copytree(kept, workdir.interrupted)
    assert "going on from step 30" in training.train()  # it has finished already
    assert_same_run(workdir, uninterrupted)


def test_killed_in_the_evaluation_of_an_interrupted_state(training, uninterrupted):
    """The row in metrics.jsonl was written, the checkpoint was not."""
    training.interrupt(12)
    workdir = training.workdir
    workdir.write_metrics(uninterrupted.metrics()[:1])
    (workdir.path / ".metrics.jsonl.k1ll3d").write_text('{"st')
    (workdir.checkpoints / "12.orbax-checkpoint-tmp").mkdir()
    training.train()
    assert_same_run(workdir, uninterrupted)


def test_killed_before_a_checkpoint_was_saved(training, finished, uninterrupted):
    """The rows of step 30 were written, its checkpoint was not."""
    shutil.rmtree(finished.checkpoints / "30")
    assert "going on from step 24" in training.train()
    # The best checkpoint is kept as it was, so all that is there is the same.
    assert_same_run(finished, uninterrupted)


def _largest_file(workdir, step):
    files = (path for path in (workdir.checkpoints / str(step)).rglob("*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def _flip(content):
    begin, end = len(content) // 4, 3 * len(content) // 4
    return content[:begin] + bytes(byte ^ 0xFF for byte in content[begin:end]) + content[end:]


DAMAGES = [
    pytest.param(_flip, id="flipped"),
    pytest.param(lambda content: b"", id="emptied", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_latest_checkpoint_falls_back_to_the_one_before(training, finished, uninterrupted, damage):
    path = _largest_file(finished, 30)
    path.write_bytes(damage(path.read_bytes()))
    said = training.train()
    (line,) = [line for line in said if line.startswith("not used: ")]
    assert line.startswith(f"not used: {finished.checkpoints}/30: cannot be restored (")
    assert line.endswith(f"; kept as {finished.path}/damaged_30")
    assert "going on from step 24" in said
    shutil.rmtree(finished.path / "damaged_30")
    assert_same_run(finished, uninterrupted)


def test_if_all_checkpoints_are_damaged_nothing_is_moved(training, finished):
    steps = saved_steps(finished.checkpoints)
    for step in steps:
        _largest_file(finished, step).write_bytes(b"")
    with pytest.raises(InputError, match=rf"^{finished.checkpoints}/30: cannot be restored \("):
        training.train()
    assert saved_steps(finished.checkpoints) == steps


@pytest.fixture
def two_seeds(dataset, tmp_path):
    return Training(tmp_path, dataset, seeds=(3, 4))


def _save(run, *steps):
    """Checkpoints of a run that did not train."""
    run.workdir.begin(run.settings)
    with CheckpointStore(run.workdir.checkpoints) as store:
        for step in steps:
            state = run.settings.fresh_state()
            store.save(state.replace(step=jnp.int32(step)), quality=0.5)


def test_seeds_go_on_from_the_latest_step_that_all_have_evaluated(two_seeds):
    ahead, behind = two_seeds.runs
    _save(ahead, 12, 24)
    _save(behind, 12)
    start = start_of(two_seeds)
    assert (start.step, start.evaluated) == (12, 12)
    assert start.state.step.tolist() == [12, 12]


def test_seeds_that_stopped_in_their_first_evaluation_start_anew(two_seeds):
    ahead, behind = two_seeds.runs
    _save(ahead, 12)
    behind.workdir.begin(behind.settings)
    behind.workdir.checkpoints.mkdir()
    assert start_of(two_seeds)[1:] == (0, 0)


def test_a_new_seed_does_not_undo_those_that_are_further(two_seeds):
    ahead, behind = two_seeds.runs
    _save(ahead, 12, 24)
    behind.workdir.begin(behind.settings)
    behind.workdir.checkpoints.mkdir()
    with pytest.raises(InputError) as raised:
        start_of(two_seeds)
    assert_parts(str(raised.value), behind.workdir.path, "the other seeds (24 steps)", "began together")
    assert saved_steps(ahead.workdir.checkpoints) == {12, 24}


def test_seeds_of_which_one_is_not_saved_go_back_together(two_seeds):
    for run in two_seeds.runs:
        _save(run, 12)
        run.workdir.write_history([{"step": step, "metrics": {"loss": 1.0}} for step in (12, 18)])
        interrupted_state.save(run.workdir, run.settings.fresh_state().replace(step=jnp.int32(18)))
    assert start_of(two_seeds)[1:] == (18, 12)
    shutil.rmtree(two_seeds.workdirs[1].interrupted)
    assert start_of(two_seeds)[1:] == (12, 12)


def test_a_checkpoint_damaged_in_one_seed_is_used_by_none(two_seeds):
    for run in two_seeds.runs:
        _save(run, 12, 24)
    broken = two_seeds.workdirs[1]
    _largest_file(broken, 24).write_bytes(b"")
    listener = Listener()
    assert start_of(two_seeds, listener)[1:] == (12, 12)
    (line,) = listener.lines
    assert line.startswith(f"not used: {broken.checkpoints}/24: ")
    assert saved_steps(broken.checkpoints) == {12}
    assert saved_steps(two_seeds.workdirs[0].checkpoints) == {12, 24}
