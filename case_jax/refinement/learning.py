"""The second stage's network and its training: one hidden layer, one jitted step."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from case_jax.localization.rescoring import EXTRAS, PARTS
from case_jax.refinement.settings import RefinementConfig
from case_jax.refinement.targets import Examples

__all__ = ["Learning", "begin", "empty_scorer", "finish", "refine_steps", "refinement_loss"]

Scorer = dict[str, jax.Array]  # what `empty_scorer` describes


class Learning(NamedTuple):
    """The state of the second stage's training."""

    step: jax.Array  # () int32
    params: dict  # of standardised features
    average: dict  # moving average of the parameters
    opt_state: optax.OptState
    key: jax.Array  # never changes, each step folds its number in


def empty_scorer(width: int, num_classes: int, config: RefinementConfig) -> Scorer:
    """A scorer of zeros, with the shapes of `finish`: D = ``width``, H hidden, G classes."""
    hidden = config.hidden_dim
    return {
        "kernel": jnp.zeros((width, len(PARTS), hidden)),
        "extras": jnp.zeros((len(EXTRAS), hidden)),
        "bias": jnp.zeros(hidden),
        "head": jnp.zeros((hidden, num_classes)),
        "head_bias": jnp.zeros(num_classes),
        "flank": jnp.zeros(()),
    }


def begin(key: jax.Array, *, width: int, num_classes: int, config: RefinementConfig) -> Learning:
    """A fresh second stage.

    Args:
        key: PRNG key; parameters, batches and dropout follow from it.
        width: D, channels of all streams together.
        num_classes: G.
        config: of the second stage.
    """
    init_key, key = jax.random.split(key)
    inner, outer = jax.random.split(init_key)
    params = empty_scorer(width, num_classes, config)
    del params["flank"]  # it is not learnt
    fan_in = len(PARTS) * width + len(EXTRAS)
    drawn = jax.random.normal(inner, (fan_in, config.hidden_dim)) * np.sqrt(2 / fan_in)
    params["kernel"] = drawn[: -len(EXTRAS)].reshape(params["kernel"].shape)
    params["extras"] = drawn[-len(EXTRAS) :]
    params["head"] = 0.1 * jax.random.normal(outer, params["head"].shape) / np.sqrt(config.hidden_dim)
    params["head_bias"] = params["head_bias"] - 3.0  # most proposals show no action of a class
    return Learning(jnp.zeros((), jnp.int32), params, params, _optimizer(config).init(params), key)


def refinement_loss(
    params: Mapping[str, jax.Array], batch: Examples, key: jax.Array | None, *, config: RefinementConfig
) -> jax.Array:
    """Binary cross-entropy of proposals and classes, over what of them is foreground.

    Args:
        params: of the network, see `empty_scorer`.
        batch: of B videos: parts (B, P, 4, D), extras (B, P, 3), targets and weights (B, P, G).
        key: PRNG key of dropout; None for none.
        config: of the second stage.

    Returns:
        () float32: the sum of weighted cross-entropies, divided by the sum of weighted targets, at least 1.
    """
    parts, beside = jnp.asarray(batch.parts), jnp.asarray(batch.extras)
    if key is not None:
        of_input, of_hidden = jax.random.split(key)
        parts_kept, extras_kept = jax.random.split(of_input)
        shape = (parts.shape[0], 1, *parts.shape[2:])
        parts = _dropout(parts_kept, parts, config.input_dropout, shape)
        beside = _dropout(extras_kept, beside, config.input_dropout, (beside.shape[0], 1, beside.shape[2]))
    bias, head_bias = params["bias"][None, None], params["head_bias"][None, None]
    hidden = jnp.einsum("bpkd,dkh->bph", parts, params["kernel"]) + beside @ params["extras"] + bias
    hidden = jax.nn.relu(hidden)
    if key is not None:
        hidden = _dropout(of_hidden, hidden, config.dropout, hidden.shape)
    logits = hidden @ params["head"] + head_bias
    loss = optax.sigmoid_binary_cross_entropy(logits, batch.targets) * batch.weights
    return loss.sum() / jnp.maximum((batch.targets * batch.weights).sum(), 1.0)


def refine_steps(
    learning: Learning, examples: Examples, *, num_steps: int, config: RefinementConfig
) -> tuple[Learning, np.ndarray]:
    """Takes some steps, each on some of the videos.

    Args:
        learning: where training is.
        examples: of all V videos, with standardised features.
        num_steps: how many steps to take.
        config: of the second stage.

    Returns:
        Where training is then, and the (num_steps,) float32 losses.
    """
    losses = []
    for _ in range(num_steps):
        learning, loss = _step(learning, examples, config=config)
        losses.append(loss)
    return learning, np.array(jax.device_get(losses), np.float32)


@functools.partial(jax.jit, static_argnames="config")
def _step(learning: Learning, examples: Examples, *, config: RefinementConfig) -> tuple[Learning, jax.Array]:
    """One step, and its loss. Pure."""
    num_videos = examples.parts.shape[0]
    draw, key = jax.random.split(jax.random.fold_in(learning.key, learning.step))
    videos = jax.random.choice(draw, num_videos, (min(config.batch_size, num_videos),), replace=False)
    batch = jax.tree.map(lambda array: array[videos], examples)
    loss, gradients = jax.value_and_grad(refinement_loss)(learning.params, batch, key, config=config)
    updates, opt_state = _optimizer(config).update(gradients, learning.opt_state, learning.params)
    params = optax.apply_updates(learning.params, updates)
    average = optax.incremental_update(params, learning.average, 1 - config.average)
    return Learning(learning.step + 1, params, average, opt_state, learning.key), loss


def finish(learning: Learning, mean: np.ndarray, deviation: np.ndarray, config: RefinementConfig) -> Scorer:
    """The scorer of features as they are: standardising is folded into the first layer.

    Args:
        learning: after the last step; its averaged parameters are taken.
        mean: (D,) of the training features.
        deviation: (D,) of the training features, above 0; infinite for a channel that is not used.
        config: of the second stage.
    """
    kernel = np.asarray(learning.average["kernel"], np.float64) / deviation[:, None, None]
    # Of the parts only the mean inside has an offset; the others are differences.
    bias = np.asarray(learning.average["bias"], np.float64) - mean.astype(np.float64) @ kernel[:, 0]
    return {
        **learning.average,
        "kernel": jnp.asarray(kernel, jnp.float32),
        "bias": jnp.asarray(bias, jnp.float32),
        "flank": jnp.float32(config.flank),
    }


def _optimizer(config: RefinementConfig) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(
        0.0,
        config.learning_rate,
        config.num_steps // 10,
        config.num_steps,
        0.02 * config.learning_rate,
    )
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=config.weight_decay)
    )


def _dropout(key: jax.Array, values: jax.Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, 1 - rate, shape), values / (1 - rate), 0.0)
