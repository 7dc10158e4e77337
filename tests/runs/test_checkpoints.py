import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.training.state import TrainState, create_train_state
from tests.helpers.runs import SETTINGS

CONFIG = CaseConfig(num_snippets=8, hidden_dim=4, num_clusters=3)
WIDTHS = {"acc": 5, "gyro": 3}


@pytest.fixture(scope="module")
def fresh() -> TrainState:
    return _fresh(CONFIG)


@pytest.fixture(scope="module")
def stored(fresh, tmp_path_factory):
    """A folder with one checkpoint, of step 7, and the state in it."""
    folder = tmp_path_factory.mktemp("stored")
    state = _scrambled(fresh, step=7)
    with CheckpointStore(folder) as store:
        store.save(state, quality=0.25)
    return folder, state


def test_round_trip_is_exact_to_the_bit(stored):
    folder, state = stored
    template = _fresh(CONFIG, seed=99)  # nothing of it may show
    with CheckpointStore(folder, read_only=True) as store:
        assert (store.latest_step, store.best_step) == (7, 7)
        restored = store.restore(template, 7)
    assert (restored.config, restored.network) == (state.config, state.network)
    assert jax.tree.structure(_bare(restored)) == jax.tree.structure(_bare(state))
    for ours, theirs in zip(jax.tree.leaves(_bare(restored)), jax.tree.leaves(_bare(state))):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()
    draws = [jax.random.bits(jax.random.fold_in(s.key, 3)) for s in (restored, state)]
    assert draws[0] == draws[1]


def test_a_seed_and_its_checkpoint_mean_the_same_whatever_jax_makes_keys_of(tmp_path):
    expected = jax.random.key_data(SETTINGS.fresh_state().key)
    with jax.default_prng_impl("rbg"), CheckpointStore(tmp_path) as store:
        state = SETTINGS.fresh_state()
        store.save(state)
        store.wait()
        for found in (state, store.restore(state, 0)):
            np.testing.assert_array_equal(jax.random.key_data(found.key), expected)
            assert str(jax.random.key_impl(found.key)) == "threefry2x32"


def test_a_store_without_checkpoints(tmp_path):
    with CheckpointStore(tmp_path / "made" / "here") as store:
        assert store.latest_step is None
        assert store.best_step is None
    assert (tmp_path / "made" / "here").is_dir()


@pytest.mark.parametrize(
    "averages, best, kept",
    [
        ([0.1, 0.5, 0.2, 0.3, 0.4], 2, {2, 4, 5}),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 5, {4, 5}),
        ([0.1, 0.5, 0.2, 0.5, 0.3], 2, {2, 4, 5}),  # of equals the earliest
        ([0.0, 0.0, 0.0, 0.0, 0.0], 1, {1, 4, 5}),
        ([0.0, None, None, None, None], 1, {1, 4, 5}),  # no average is the worst
        ([None, None, None, 0.1, None], 4, {4, 5}),
    ],
)
def test_the_latest_two_and_the_best_are_kept(fresh, tmp_path, averages, best, kept):
    with CheckpointStore(tmp_path) as store:
        for step, average in enumerate(averages, start=1):
            store.save(_at(fresh, step), quality=average)
    assert {int(path.name) for path in tmp_path.iterdir()} == kept
    with CheckpointStore(tmp_path, read_only=True) as store:
        assert (store.latest_step, store.best_step) == (len(averages), best)
        assert int(store.restore(fresh, best).step) == best


def test_the_best_is_remembered_over_a_resume(fresh, tmp_path):
    for step, average in enumerate([0.5, 0.5, 0.1, 0.2], start=1):
        with CheckpointStore(tmp_path) as store:
            store.save(_at(fresh, step), quality=average)
    assert {int(path.name) for path in tmp_path.iterdir()} == {1, 3, 4}


def test_checkpoints_without_an_average_are_kept_as_the_latest_only(fresh, tmp_path):
    with CheckpointStore(tmp_path) as store:
        for step in (1, 2, 3):
            store.save(_at(fresh, step))
            store.wait()
            assert int(store.restore(fresh, step).step) == step
    assert {int(path.name) for path in tmp_path.iterdir()} == {2, 3}


def test_what_a_killed_process_left_behind_is_removed(fresh, tmp_path):
    """A checkpoint half saved, and one half removed."""
    with CheckpointStore(tmp_path) as store:
        for step, average in enumerate([0.5, 0.1, 0.2], start=1):
            store.save(_at(fresh, step), quality=average)
    shutil.copytree(tmp_path / "3", tmp_path / "2", dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "2" / "metrics")
    shutil.copytree(tmp_path / "3", tmp_path / "4.orbax-checkpoint-tmp")
    with CheckpointStore(tmp_path) as store:
        assert (store.latest_step, store.best_step) == (3, 1)
        store.save(_at(fresh, 4), quality=0.3)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "3", "4"}


def test_too_many_open_files_are_told_also_where_orbax_tells_more(tmp_path):
    long = f"RESOURCE_EXHAUSTED: {'x' * 200} [OS error 24: EMFILE Too many open files] {'x' * 200}"
    with CheckpointStore(tmp_path) as store, pytest.raises(InputError) as raised, store._writing():
        raise ValueError(long)
    assert str(raised.value).startswith(f"{tmp_path}: cannot be written (Too many open files); ")


def test_a_folder_that_cannot_be_written_is_named(fresh, tmp_path, monkeypatch):
    def fail(*_):
        raise ValueError("No space left\non device")

    with CheckpointStore(tmp_path) as store:
        with monkeypatch.context() as patched:
            patched.setattr(store._manager, "wait_until_finished", fail)
            with pytest.raises(InputError) as raised:
                store.wait()
        assert str(raised.value) == (
            f"{tmp_path}: cannot be written (No space left on device); expected a folder with room in it"
        )


def test_no_such_step(stored, fresh):
    folder, _ = stored
    with CheckpointStore(folder, read_only=True) as store, pytest.raises(InputError) as raised:
        store.restore(fresh, 8)
    _assert_names(raised.value, folder / "8")


def test_a_state_of_other_shapes_is_refused(stored):
    folder, _ = stored
    template = _fresh(CaseConfig(num_snippets=8, hidden_dim=6, num_clusters=3))
    with CheckpointStore(folder, read_only=True) as store, pytest.raises(InputError) as raised:
        store.restore(template, 7)
    _assert_names(raised.value, folder / "7")


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_a_damaged_checkpoint_is_refused(fresh, tmp_path, damage):
    with CheckpointStore(tmp_path) as store:
        store.save(_at(fresh, 1), quality=0.5)
    for path in (tmp_path / "1" / "default").rglob("d/*"):
        content = path.read_bytes()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]
        path.write_bytes({"cut": content[:middle], "empty": b"", "flipped": flipped}[damage])
    with CheckpointStore(tmp_path, read_only=True) as store, pytest.raises(InputError) as raised:
        store.restore(fresh, 1)
    _assert_names(raised.value, tmp_path / "1")


def _fresh(config, seed=0):
    return create_train_state(config, jax.random.key(seed), stream_widths=WIDTHS, num_classes=2)


def _at(state, step):
    return state.replace(step=jnp.int32(step))


def _scrambled(state, *, step):
    """Other numbers everywhere, among them -0, subnormal and the largest."""
    rng = np.random.default_rng(0)

    def scramble(leaf):
        if leaf.dtype != jnp.float32:
            return leaf
        values = rng.standard_normal(leaf.shape).astype(np.float32)
        values.flat[:3] = [-0.0, 1e-45, np.finfo(np.float32).max][: values.size]
        return jnp.asarray(values)

    scrambled = jax.tree.map(scramble, state.replace(key=None))
    return _at(scrambled.replace(key=jax.random.key(12345)), step)


def _bare(state):
    return state.replace(key=jax.random.key_data(state.key))


def _assert_names(error, path):
    assert str(error).startswith(f"{path}: cannot be restored (")
    assert str(error).endswith("); expected a checkpoint of this run's settings")
    assert "\n" not in str(error)
