"""The training state: everything a checkpoint must hold, of one seed or of many at once."""

from collections.abc import Mapping, Sequence

import flax.struct
import jax
import jax.numpy as jnp
import optax

from case_jax.config import CaseConfig
from case_jax.method.network import CaseNetwork

__all__ = ["TrainState", "create_train_state", "make_optimizer", "select_seed", "stack_seeds"]


class TrainState(flax.struct.PyTreeNode):
    """Everything a checkpoint must hold (and, static, what the step needs to know)."""

    step: jax.Array  # () int32, steps taken
    params: dict  # stream -> layer -> arrays, see `CaseNetwork`
    opt_state: optax.OptState
    key: jax.Array  # the run's PRNG key; never changes, steps fold themselves in
    cluster_labels: jax.Array  # (K, 2) Q^C of the last step; 1/K everywhere before the first one
    config: CaseConfig = flax.struct.field(pytree_node=False)
    network: CaseNetwork = flax.struct.field(pytree_node=False)


def make_optimizer(config: CaseConfig) -> optax.GradientTransformation:
    """Adam with L2 weight decay added to the gradient (not decoupled), as published."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.adam(config.learning_rate, b1=0.9, b2=0.999, eps=1e-8),
    )


def create_train_state(
    config: CaseConfig, key: jax.Array, *, stream_widths: Mapping[str, int], num_classes: int
) -> TrainState:
    """A fresh state.

    Args:
        config: hyper-parameters.
        key: PRNG key of the run: initial parameters, shuffling and snippet sampling follow from it.
        stream_widths: stream name -> D, in the order of the streams, e.g. {"rgb": 1024, "flow": 1024}.
        num_classes: G.

    Returns:
        `TrainState` at step 0.
    """
    network = CaseNetwork.from_config(config, streams=tuple(stream_widths), num_classes=num_classes)
    init_key, run_key = jax.random.split(key)
    sample = {name: jax.ShapeDtypeStruct((1, 1, width), jnp.float32) for name, width in stream_widths.items()}
    params = network.lazy_init(init_key, sample)["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=make_optimizer(config).init(params),
        key=run_key,
        cluster_labels=jnp.full((config.num_clusters, 2), 1 / config.num_clusters, jnp.float32),
        config=config,
        network=network,
    )


def stack_seeds(states: Sequence[TrainState]) -> TrainState:
    """States of S seeds as one `TrainState`, every array with a leading axis S, for `fit` to train at once.

    `select_seed` takes one seed's state out of it.
    """
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *states)


def select_seed(states: TrainState, seed: int) -> TrainState:
    """One seed's state out of those of many seeds."""
    return jax.tree.map(lambda array: array[seed], states)
