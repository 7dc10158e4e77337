"""Which videos make a batch, and which T snippets stand for a video of any length.

All are pure functions of a key, so that a resumed run draws what the uninterrupted run would have drawn.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from case_jax.data.packed import PackedFeatures

__all__ = [
    "BatchPlan",
    "gather_batch",
    "plan_batch",
    "plan_batches",
    "sample_snippets",
    "stratified_indices",
    "uniform_indices",
]


class BatchPlan(NamedTuple):
    """What one step reads: B videos, T snippets of each. The plans of several steps have a leading axis S."""

    videos: jax.Array  # (B,) int32 positions in the training set
    snippets: jax.Array  # (B, T) int32 snippet positions in each video


def uniform_indices(length: jax.Array | int, num_snippets: int) -> jax.Array:
    """Evenly spaced snippets: floor(i * length / T) for i = 0 .. T-1.

    Videos shorter than T repeat snippets, longer ones skip some.

    Args:
        length: () int, snippets in the video, >= 1 (at most 2**31 / T).
        num_snippets: T.

    Returns:
        (T,) int32, non-decreasing.

    Example:
        >>> print(uniform_indices(3, 6))
        [0 0 1 1 2 2]
    """
    return jnp.arange(num_snippets, dtype=jnp.int32) * length // num_snippets


def stratified_indices(key: jax.Array, length: jax.Array | int, num_snippets: int) -> jax.Array:
    """One snippet drawn uniformly from each of T equal strata of a video.

    Stratum i holds the integers floor(i * length / T) .. floor((i + 1) * length / T), both ends included,
    but the last one ends at length - 1. A video of exactly T snippets is kept unchanged.

    Args:
        key: PRNG key.
        length: () int, snippets in the video, >= 1 (at most 2**31 / T).
        num_snippets: T.

    Returns:
        (T,) int32, non-decreasing.
    """
    position = jnp.arange(num_snippets, dtype=jnp.int32)
    first = position * length // num_snippets
    last = jnp.minimum((position + 1) * length // num_snippets, length - 1)
    drawn = jax.random.randint(key, (num_snippets,), first, last + 1)
    return jnp.where(length == num_snippets, position, drawn)


def sample_snippets(key: jax.Array, length: jax.Array | int, num_snippets: int, sampling: str) -> jax.Array:
    """`stratified_indices` or `uniform_indices` (which ignores the key), by name.

    Args:
        key: PRNG key.
        length: () int, snippets in the video.
        num_snippets: T.
        sampling: "stratified" or "uniform".

    Returns:
        (T,) int32, non-decreasing.

    Raises:
        ValueError: for any other ``sampling``.
    """
    if sampling == "stratified":
        return stratified_indices(key, length, num_snippets)
    if sampling == "uniform":
        return uniform_indices(length, num_snippets)
    raise ValueError(f"sampling must be 'stratified' or 'uniform', got {sampling!r}")


def plan_batch(
    key: jax.Array,
    step: jax.Array | int,
    lengths: jax.Array,
    *,
    batch_size: int,
    num_snippets: int,
    sampling: str = "stratified",
) -> BatchPlan:
    """Draws one step's batch. Every feeder of training follows this plan, on a device or on the host.

    Every epoch is a new permutation of the videos; the last, incomplete batch of an epoch is dropped. Step s
    of a key is always the same batch, on every backend.

    Args:
        key: the run's PRNG key.
        step: () int, number of steps taken before this one.
        lengths: (V,) int, snippets in each training video.
        batch_size: B, at most V.
        num_snippets: T.
        sampling: "stratified" or "uniform".

    Returns:
        `BatchPlan` of (B,) videos and (B, T) snippets, int32.

    Raises:
        ValueError: if there are fewer videos than ``batch_size``.
    """
    num_videos = lengths.shape[0]
    if num_videos < batch_size:
        raise ValueError(f"a batch of {batch_size} videos needs as many, got {num_videos}")
    steps_per_epoch = num_videos // batch_size
    order_key, snippet_key = jax.random.split(key)
    order = jax.random.permutation(jax.random.fold_in(order_key, step // steps_per_epoch), num_videos)
    start = step % steps_per_epoch * batch_size
    videos = jax.lax.dynamic_slice_in_dim(order, start, batch_size).astype(jnp.int32)
    keys = jax.random.split(jax.random.fold_in(snippet_key, step), batch_size)
    snippets = jax.vmap(lambda k, n: sample_snippets(k, n, num_snippets, sampling))(keys, lengths[videos])
    return BatchPlan(videos, snippets)


@functools.partial(jax.jit, static_argnames=("num_steps", "batch_size", "num_snippets", "sampling"))
def plan_batches(
    key: jax.Array,
    first_step: jax.Array | int,
    lengths: jax.Array,
    *,
    num_steps: int,
    batch_size: int,
    num_snippets: int,
    sampling: str = "stratified",
) -> BatchPlan:
    """`plan_batch` of S = ``num_steps`` steps from ``first_step`` on; args as there.

    Returns:
        `BatchPlan` of (S, B) videos and (S, B, T) snippets, int32.
    """
    plan = functools.partial(plan_batch, batch_size=batch_size, num_snippets=num_snippets, sampling=sampling)
    steps = first_step + jnp.arange(num_steps, dtype=jnp.int32)
    return jax.vmap(plan, in_axes=(None, 0, None))(key, steps, lengths)


def gather_batch(features: PackedFeatures, plan: BatchPlan) -> dict[str, jax.Array]:
    """Gathers the snippets of a plan on the device that holds the features.

    Args:
        features: all training videos.
        plan: one step's plan.

    Returns:
        Stream -> (B, T, D) in the dtype of the features.
    """
    positions = features.first[plan.videos][:, None] + plan.snippets
    return {
        name: jnp.asarray(rows).at[positions].get(mode="promise_in_bounds")
        for name, rows in features.rows.items()
    }
