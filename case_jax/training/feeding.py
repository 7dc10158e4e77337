"""Chunks of training steps, fed from the device or from the host.

Batches follow from the state alone, so both ways of feeding train on the same ones.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from case_jax.data.feature_files import video_length
from case_jax.data.host_batches import HostBatches, host_batches
from case_jax.data.packed import PackedFeatures, pack
from case_jax.data.samplers import gather_batch, plan_batch
from case_jax.method.objective import Batch, Metrics
from case_jax.training import parallel
from case_jax.training.state import TrainState
from case_jax.training.step import train_step

__all__ = ["Advance", "TrainingSet", "feed_from_device", "feed_from_host", "train_chunk"]

# (state, a number of steps) -> the state after these steps, and their metrics: stacked along a last axis of
# steps, or a list with those of each step. The given state is consumed.
Advance = Callable[[TrainState, int], tuple[TrainState, Metrics | list[Metrics]]]


class TrainingSet(NamedTuple):
    """All that training reads, on the device."""

    features: PackedFeatures  # of V videos
    labels: jax.Array | np.ndarray  # (V, G) float32 multi-hot video labels


def train_chunk(
    state: TrainState, training_set: TrainingSet, *, num_steps: int, mesh: Mesh | None = None
) -> tuple[TrainState, Metrics]:
    """Several steps in one program, which draws, gathers and trains without the host. Pure.

    Args:
        state: the state.
        training_set: V videos, on the device.
        num_steps: how many steps (static under jit).
        mesh: the devices to divide every batch over (static under jit); default one device.

    Returns:
        The state after the last step, and the metrics of `train_step`, each (num_steps,) float32.
    """
    config, features = state.config, training_set.features

    def one_step(state: TrainState, _):
        plan = plan_batch(
            state.key,
            state.step,
            jnp.asarray(features.lengths),
            batch_size=config.batch_size,
            num_snippets=config.num_snippets,
            sampling=config.sampling,
        )
        if mesh is not None:  # before the gather, so that each device gathers its own part
            plan = parallel.divide_batch(plan, mesh)
        labels = jnp.asarray(training_set.labels)[plan.videos]
        return train_step(state, Batch(features=gather_batch(features, plan), labels=labels))

    return jax.lax.scan(one_step, state, length=num_steps)


def _train_chunk_of_seeds(states, training_set, *, num_steps, mesh=None):
    """`train_chunk` of S stacked states; metrics are (S, num_steps)."""
    chunk = functools.partial(train_chunk, num_steps=num_steps, mesh=mesh)
    return jax.vmap(chunk, in_axes=(0, None))(states, training_set)


_jitted_step = jax.jit(train_step, donate_argnums=0)
_jitted_chunk = jax.jit(train_chunk, static_argnames=("num_steps", "mesh"), donate_argnums=0)
_jitted_chunk_of_seeds = jax.jit(
    _train_chunk_of_seeds, static_argnames=("num_steps", "mesh"), donate_argnums=0
)


@contextlib.contextmanager
def feed_from_device(
    state: TrainState,
    features: PackedFeatures | Sequence[Mapping[str, np.ndarray]],
    labels: np.ndarray,
    *,
    mesh: Mesh,
    steps: range,
) -> Iterator[Advance]:
    """Trains from features that are all on every device.

    Args:
        state: the state that training starts with; stacked states of many seeds train at once.
        features: of V videos: packed, or stream name -> (T_v, D) for each video.
        labels: (V, G) float32 multi-hot video labels.
        mesh: the devices to divide batches over.
        steps: the steps that will be taken; not used here.

    Yields:
        A function that takes a number of steps.
    """
    del steps
    if not isinstance(features, PackedFeatures):
        features = pack(features, state.network.streams, state.config.feature_dtype)
    training_set = parallel.replicate(TrainingSet(features, np.asarray(labels)), mesh)
    chunk = _jitted_chunk_of_seeds if state.step.ndim else _jitted_chunk
    yield lambda state, num_steps: chunk(state, training_set, num_steps=num_steps, mesh=mesh)


@contextlib.contextmanager
def feed_from_host(
    state: TrainState,
    features: Sequence[Mapping[str, np.ndarray]],
    labels: np.ndarray,
    *,
    mesh: Mesh,
    steps: range,
    num_workers: int,
) -> Iterator[Advance]:
    """Trains from batches that the host gathers ahead of time.

    Args:
        state: the state that training starts with, of one seed.
        features: stream name -> (T_v, D) for each of V videos.
        labels: (V, G) float32 multi-hot video labels.
        mesh: the devices to divide batches over.
        steps: the steps that will be taken.
        num_workers: processes that gather, see `case_jax.data.host_batches.host_batches`.

    Yields:
        A function that takes a number of steps.

    Raises:
        ValueError: if the state is of many seeds.
    """
    if state.step.ndim:
        raise ValueError("many seeds at once need their features on the device")
    config = state.config
    of_steps = HostBatches(
        key_data=np.asarray(jax.random.key_data(state.key)),
        videos=features,
        labels=np.asarray(labels),
        lengths=np.array([video_length(video) for video in features], np.int32),
        streams=state.network.streams,
        batch_size=config.batch_size,
        num_snippets=config.num_snippets,
        sampling=config.sampling,
        shard=jax.process_index(),
        num_shards=jax.process_count(),
        key_impl=str(jax.random.key_impl(state.key)),
    )
    batches = host_batches(of_steps, steps.start, steps.stop, num_workers=num_workers)

    def advance(state, num_steps):
        history = []
        for _ in range(num_steps):
            state, metrics = _jitted_step(state, parallel.from_local_batch(next(batches), mesh))
            history.append(metrics)
            # One step runs and at most one waits; more would only hold more batches in memory.
            jax.block_until_ready(history[-2:-1] if parallel.runs_beside_the_host(mesh) else history[-1:])
        return state, history

    with contextlib.closing(batches):
        yield advance
        next(batches, None)  # workers that reach the end clean up better than those that are stopped
