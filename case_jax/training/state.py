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
    """Everything a checkpoint must hold and, as static fields, what else a step depends on."""

    step: jax.Array  # () int32, steps taken
    params: dict  # stream -> layer -> arrays, see `CaseNetwork`
    opt_state: optax.OptState
    key: jax.Array  # the run's PRNG key; it never changes, each step folds its number in
    cluster_labels: jax.Array  # (K, 2) float32 Q^C of the last step; 1/K everywhere before the first step
    # A second stage (`case_jax.refinement`), which training does not touch; None without one.
    scorer: dict[str, jax.Array] | None = flax.struct.field(default=None, kw_only=True)
    config: CaseConfig = flax.struct.field(pytree_node=False)
    network: CaseNetwork = flax.struct.field(pytree_node=False)


def make_optimizer(config: CaseConfig) -> optax.GradientTransformation:
    """Adam with L2 weight decay added to the gradient, not decoupled, as published."""
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
        key: PRNG key of the run; it determines initial parameters, shuffling and the sampling of snippets.
        stream_widths: stream name -> D, in the order of the streams, for example
            {"rgb": 1024, "flow": 1024}.
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
    """The states of S seeds as one `TrainState`, which `fit` trains at once.

    Args:
        states: S states of the same config.

    Returns:
        `TrainState` whose arrays have a leading axis S. `select_seed` takes one seed's state out of it.
    """
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *states)


def select_seed(states: TrainState, seed: int) -> TrainState:
    """One seed's state out of the states of many seeds.

    Args:
        states: from `stack_seeds`.
        seed: position of the seed among the stacked ones, from 0.

    Returns:
        `TrainState` without the leading axis.
    """
    return jax.tree.map(lambda array: array[seed], states)
