import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.data.packed import pack
from case_jax.data.samplers import gather_batch, plan_batch
from case_jax.training.feeding import TrainingSet, train_chunk
from case_jax.training.loop import fit
from case_jax.training.state import stack_seeds
from case_jax.training.step import train_step
from tests.helpers.small import assert_close_trees, small_state, small_videos

pytestmark = [pytest.mark.usefixtures("standard_dtypes"), pytest.mark.optimised]


@pytest.mark.slow
def test_a_chunk_is_its_steps_one_by_one():
    features, labels = small_videos()
    training_set = jax.tree.map(jnp.asarray, TrainingSet(pack(features, ("rgb", "flow")), labels))
    state = small_state(sigma=0.3)
    together, history = jax.jit(train_chunk, static_argnames="num_steps")(state, training_set, num_steps=5)
    step, config = jax.jit(train_step), state.config
    for i in range(5):
        plan = plan_batch(
            state.key,
            state.step,
            training_set.features.lengths,
            batch_size=config.batch_size,
            num_snippets=config.num_snippets,
            sampling=config.sampling,
        )
        batch = {
            "features": gather_batch(training_set.features, plan),
            "labels": training_set.labels[plan.videos],
        }
        state, metrics = step(state, batch)
        assert set(history) == set(metrics)
        for name, value in metrics.items():
            np.testing.assert_allclose(history[name][i], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert int(together.step) == int(state.step) == 5
    assert_close_trees(together.params, state.params)


@pytest.mark.slow
def test_packed_videos_train_as_videos_do():
    features, labels = small_videos()
    (apart,) = fit(small_state(), features, labels, num_steps=3)
    (packed,) = fit(small_state(), pack(features, ("rgb", "flow")), labels, num_steps=3)
    assert packed.metrics == apart.metrics


@pytest.mark.slow
def test_bfloat16_features_train_nearly_alike():
    features, labels = small_videos()
    (exact,) = fit(small_state(), features, labels, num_steps=3)
    (near,) = fit(small_state(feature_dtype="bfloat16"), features, labels, num_steps=3)
    for name, value in exact.metrics.items():
        if name.startswith("loss"):
            assert near.metrics[name] == pytest.approx(value, rel=0.05), name
    assert near.metrics["loss"] != exact.metrics["loss"]
    for leaf in jax.tree.leaves(near.state.params):
        assert leaf.dtype == jnp.float32


@pytest.mark.slow
def test_many_seeds_need_their_features_on_the_device():
    states = stack_seeds([small_state(0), small_state(1)])
    with pytest.raises(ValueError, match="many seeds at once need their features on the device"):
        list(fit(states, *small_videos(), num_steps=1, on_device=False))
