import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from case_jax.training.state import make_optimizer, select_seed, stack_seeds
from tests.helpers.small import BASELINE, WIDTHS, assert_equal_trees, small_state


def test_a_fresh_state_has_taken_no_step():
    state = small_state()
    assert int(state.step) == 0
    assert state.cluster_labels.dtype == jnp.float32
    np.testing.assert_array_equal(state.cluster_labels, np.full((4, 2), 1 / 4))
    assert state.network.streams == tuple(WIDTHS)
    assert set(state.params) == set(WIDTHS)
    for stream, width in WIDTHS.items():
        assert state.params[stream]["cas_encoder"]["kernel"].shape == (width, 8)
        assert state.params[stream]["prototypes"].shape == (4, 8)


def test_the_baseline_has_no_prototypes():
    assert all("prototypes" not in layers for layers in small_state(**BASELINE).params.values())


def test_the_key_alone_determines_the_parameters():
    assert_equal_trees(small_state(3).params, small_state(3).params)
    kernels = [small_state(seed).params["rgb"]["cas_encoder"]["kernel"] for seed in (3, 4)]
    assert not np.array_equal(*kernels)


@pytest.mark.slow
@pytest.mark.usefixtures("standard_dtypes")
def test_weight_decay_is_added_to_the_gradient():
    config = small_state(weight_decay=0.1, learning_rate=0.01).config
    optimizer, weight = make_optimizer(config), jnp.float32(2.0)
    updates, _ = optimizer.update(jnp.float32(-0.2), optimizer.init(weight), weight)
    np.testing.assert_allclose(updates, 0, atol=1e-6)  # a decoupled decay would still move the weight
    updates, _ = optimizer.update(jnp.float32(0.3), optimizer.init(weight), weight)
    np.testing.assert_allclose(optax.apply_updates(weight, updates), 2 - 0.01, rtol=1e-5)  # Adam's first step


def test_seeds_stack_and_come_out_again():
    states = [small_state(seed) for seed in (3, 4)]
    stacked = stack_seeds(states)
    assert stacked.step.shape == (2,)
    assert stacked.config == states[0].config
    for i, state in enumerate(states):
        selected = select_seed(stacked, i)
        assert jax.tree.structure(selected) == jax.tree.structure(state)
        assert_equal_trees(selected.params, state.params)
        assert jax.random.bits(selected.key) == jax.random.bits(state.key)
