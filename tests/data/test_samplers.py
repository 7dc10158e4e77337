import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.packed import pack
from case_jax.data.samplers import (
    gather_batch,
    plan_batch,
    plan_batches,
    sample_snippets,
    stratified_indices,
    uniform_indices,
)

LENGTHS = st.lists(st.integers(1, 3000), min_size=12, max_size=12)


def strata(length, num_snippets):
    """First and last snippet of each, as documented."""
    i = np.arange(num_snippets)
    return i * length // num_snippets, np.minimum((i + 1) * length // num_snippets, length - 1)


@functools.partial(jax.jit, static_argnums=2)
def draw_each(keys, lengths, num_snippets):
    """One draw for each key and length."""
    return jax.vmap(lambda key, n: stratified_indices(key, n, num_snippets))(keys, lengths)


def draw(length, num_snippets, seed=0):
    """4096 draws of one video."""
    keys = jax.random.split(jax.random.key(seed), 4096)
    return np.asarray(draw_each(keys, jnp.full(4096, length), num_snippets))


@settings(max_examples=8, deadline=None, derandomize=True)  # each compiles
@given(num_snippets=st.integers(1, 800), lengths=LENGTHS)
def test_uniform_is_the_floor_in_exact_integers(num_snippets, lengths):
    found = jax.jit(jax.vmap(lambda n: uniform_indices(n, num_snippets)))(jnp.array(lengths))
    expected = [[i * n // num_snippets for i in range(num_snippets)] for n in lengths]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == jnp.int32


@pytest.mark.parametrize("num_snippets", [1, 7, 50, 64, 750])
def test_uniform_for_every_length(num_snippets):
    lengths = np.arange(1, 3001)
    found = jax.vmap(lambda n: uniform_indices(n, num_snippets))(jnp.array(lengths, jnp.int32))
    np.testing.assert_array_equal(found, lengths[:, None] * np.arange(num_snippets) // num_snippets)


@pytest.mark.parametrize("num_snippets", [4, 30, 750])
def test_stratified_stays_inside_its_strata_for_every_length(num_snippets):
    lengths = np.arange(1, 4097)
    keys = jax.random.split(jax.random.key(1), lengths.size)
    found = np.asarray(draw_each(keys, jnp.array(lengths), num_snippets))
    assert found.dtype == np.int32
    assert np.all(np.diff(found, axis=1) >= 0)
    first, last = strata(lengths[:, None], num_snippets)
    assert np.all((first <= found) & (found <= last))
    np.testing.assert_array_equal(found[num_snippets - 1], np.arange(num_snippets))


@pytest.mark.parametrize(
    "length, num_snippets",
    [(1, 4), (3, 4), (5, 4), (10, 4), (15, 4), (64, 4), (100, 30), (749, 750), (3000, 750)],
)
def test_stratified_draws_every_snippet_of_a_stratum_alike(length, num_snippets):
    found = draw(length, num_snippets)
    first, last = strata(length, num_snippets)
    np.testing.assert_array_equal(found.min(axis=0), first)
    np.testing.assert_array_equal(found.max(axis=0), last)
    # The mean over a stratum of n values has variance (n² - 1) / 12: six sigma.
    size = last - first + 1
    sigma = np.sqrt((size**2 - 1) / 12 / len(found))
    assert np.all(np.abs(found.mean(axis=0) - (first + last) / 2) <= 6 * sigma + 1e-9)


def test_stratified_keeps_a_video_of_exactly_as_many_snippets():
    np.testing.assert_array_equal(draw(30, 30), np.tile(np.arange(30), (4096, 1)))


def test_strata_are_drawn_independently_and_by_the_key():
    found = draw(300, 30)
    assert not np.array_equal(found[0], found[1])
    correlation = np.corrcoef(found.T) - np.eye(30)
    assert np.abs(correlation).max() < 6 / np.sqrt(len(found))
    np.testing.assert_array_equal(found, draw(300, 30))


def test_sampling_by_name():
    key = jax.random.key(3)
    stratified = sample_snippets(key, 90, 20, "stratified")
    np.testing.assert_array_equal(stratified, stratified_indices(key, 90, 20))
    np.testing.assert_array_equal(sample_snippets(key, 90, 20, "uniform"), uniform_indices(90, 20))
    with pytest.raises(ValueError, match="must be 'stratified' or 'uniform', got 'random'"):
        sample_snippets(key, 90, 20, "random")


VIDEOS, BATCH, SNIPPETS, STEPS = 11, 4, 6, 12
LENGTH_OF = np.array([3, 50, 6, 7, 90, 12, 1, 40, 33, 25, 18], np.int32)


def plan(first_step, seed=0, **options):
    return plan_batches(
        jax.random.key(seed),
        first_step,
        jnp.array(LENGTH_OF),
        num_steps=STEPS,
        batch_size=BATCH,
        num_snippets=SNIPPETS,
        **options,
    )


@pytest.mark.parametrize("sampling", ["stratified", "uniform"])
def test_a_step_is_the_same_wherever_the_plan_starts(sampling):
    whole = plan(0, sampling=sampling)
    assert whole.videos.shape == (STEPS, BATCH)
    assert whole.snippets.shape == (STEPS, BATCH, SNIPPETS)
    assert whole.videos.dtype == whole.snippets.dtype == jnp.int32
    for first_step in (1, 5, jnp.array(10)):
        part = plan(first_step, sampling=sampling)
        np.testing.assert_array_equal(part.videos[:-first_step], whole.videos[first_step:])
        np.testing.assert_array_equal(part.snippets[:-first_step], whole.snippets[first_step:])


def test_an_epoch_is_a_permutation_without_its_incomplete_batch():
    steps_per_epoch, epochs = VIDEOS // BATCH, 240
    starts = range(0, steps_per_epoch * epochs, STEPS)
    epoch = np.concatenate([plan(start, sampling="uniform").videos for start in starts]).reshape(epochs, -1)
    assert epoch.min() == 0
    assert epoch.max() == VIDEOS - 1
    assert all(len(set(row)) == steps_per_epoch * BATCH for row in epoch.tolist())
    assert len({tuple(row) for row in epoch.tolist()}) == epochs
    # The videos left out change: every video is seen in about 8 of 11 epochs (six sigma).
    seen = np.bincount(epoch.ravel(), minlength=VIDEOS) / epochs
    assert np.all(np.abs(seen - 8 / 11) < 6 * np.sqrt(8 / 11 * 3 / 11 / epochs))


def test_snippets_are_those_of_the_planned_videos():
    plans = [plan(start) for start in (0, STEPS, 2 * STEPS)]
    videos = np.concatenate([np.ravel(p.videos) for p in plans])
    snippets = np.concatenate([np.reshape(p.snippets, (-1, SNIPPETS)) for p in plans])
    for video, row in zip(videos, snippets, strict=True):
        first, last = strata(int(LENGTH_OF[video]), SNIPPETS)
        assert np.all((first <= row) & (row <= last))
    # The longest video's snippets are drawn anew each time.
    rows = snippets[videos == 4]
    assert len(np.unique(rows, axis=0)) == len(rows) > 10


def test_uniform_plans_ignore_the_key_but_for_the_order():
    even = {n: [i * int(n) // SNIPPETS for i in range(SNIPPETS)] for n in LENGTH_OF}
    plans = [plan(0, seed=seed, sampling="uniform") for seed in (0, 1)]
    assert not np.array_equal(plans[0].videos, plans[1].videos)
    for videos, snippets in plans:
        expected = [[even[LENGTH_OF[v]] for v in batch] for batch in np.asarray(videos)]
        np.testing.assert_array_equal(snippets, expected)


def test_a_batch_needs_as_many_videos():
    options = dict(num_steps=1, num_snippets=SNIPPETS, sampling="uniform")
    with pytest.raises(ValueError, match="a batch of 4 videos needs as many, got 3"):
        plan_batches(jax.random.key(0), 0, jnp.array([5, 6, 7]), batch_size=4, **options)
    exact = plan_batches(jax.random.key(0), 0, jnp.array([5, 6, 7]), batch_size=3, **options)
    assert sorted(exact.videos[0].tolist()) == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["stratified", "uniform"])
def test_one_steps_plan_is_its_row_of_the_plan_of_many(sampling):
    options = dict(batch_size=BATCH, num_snippets=SNIPPETS, sampling=sampling)
    whole, one = plan(3, sampling=sampling), jax.jit(functools.partial(plan_batch, **options))
    for row in range(STEPS):
        alone = one(jax.random.key(0), jnp.int32(3 + row), jnp.array(LENGTH_OF))
        np.testing.assert_array_equal(alone.videos, whole.videos[row])
        np.testing.assert_array_equal(alone.snippets, whole.snippets[row])
        assert alone.videos.dtype == alone.snippets.dtype == jnp.int32
    # Outside jit, with a plain integer as step.
    plain = plan_batch(jax.random.key(0), 7, jnp.array(LENGTH_OF), **options)
    np.testing.assert_array_equal(plain.videos, whole.videos[4])
    np.testing.assert_array_equal(plain.snippets, whole.snippets[4])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gathered_batch_is_the_planned_snippets(dtype):
    rng = np.random.default_rng(0)
    videos = [
        {"rgb": rng.standard_normal((n, 3), np.float32), "flow": rng.standard_normal((n, 2), np.float32)}
        for n in LENGTH_OF
    ]
    packed = pack(videos, ("rgb", "flow"), dtype)
    plans = plan(0)
    for step in range(STEPS):
        of_step = jax.tree.map(lambda array: array[step], plans)  # noqa: B023
        batch = jax.jit(gather_batch)(jax.tree.map(jnp.asarray, packed), of_step)
        assert list(batch) == ["flow", "rgb"]
        for stream, found in batch.items():
            expected = [videos[v][stream][s] for v, s in zip(*map(np.asarray, of_step), strict=True)]
            assert found.dtype == packed.rows[stream].dtype
            np.testing.assert_array_equal(found, np.stack(expected).astype(found.dtype))
