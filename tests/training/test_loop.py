import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.data.samplers import plan_batch
from case_jax.training.loop import NonFiniteLossError, fit
from case_jax.training.state import select_seed, stack_seeds
from tests.helpers.small import (
    WIDTHS,
    assert_close_trees,
    assert_equal_trees,
    small_state,
    small_videos,
)

pytestmark = pytest.mark.usefixtures("standard_dtypes")


def start(seed=0, *, on_device=True):
    """A fresh state. Chunks of three steps on the device are one program, the steps of the host another."""
    return small_state(seed, sigma=0.3, learning_rate=1e-4 if on_device else 1e-2)


def drawn_videos(state, num_steps, num_videos):
    """Positions of the videos in each of the first batches."""
    lengths = jnp.full(num_videos, 16)
    return [
        plan_batch(state.key, step, lengths, batch_size=3, num_snippets=16).videos.tolist()
        for step in range(num_steps)
    ]


@pytest.mark.slow
def test_training_resumes_to_the_same_bits():
    features, labels = small_videos()
    whole = list(fit(start(), features, labels, num_steps=9, report_every=3))
    assert [chunk.step for chunk in whole] == [3, 6, 9]
    first = list(fit(start(), features, labels, num_steps=3, report_every=3))[-1]
    again = list(fit(first.state, features, labels, num_steps=9, report_every=3))
    assert [chunk.step for chunk in again] == [6, 9]
    for ours, theirs in zip(again, whole[1:], strict=True):
        assert ours.metrics == theirs.metrics
    assert_equal_trees(
        (again[-1].state.params, again[-1].state.opt_state, again[-1].state.cluster_labels),
        (whole[-1].state.params, whole[-1].state.opt_state, whole[-1].state.cluster_labels),
    )


@pytest.mark.slow
def test_training_learns():
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype=np.float32)[np.arange(12) % 3]
    features = [
        {n: rng.standard_normal((20, w)).astype(np.float32) + 3 * y[0] - 3 * y[1] for n, w in WIDTHS.items()}
        for y in labels
    ]
    chunks = list(fit(start(on_device=False), features, labels, num_steps=60, on_device=False))
    assert chunks[-1].metrics["loss_video"] < chunks[0].metrics["loss_video"] / 3


@pytest.mark.slow
@pytest.mark.parametrize("on_device", [True, False])
def test_training_stops_at_the_first_loss_that_is_not_finite(on_device):
    features, labels = small_videos()
    features[2]["rgb"][:] = np.inf  # readers refuse such files; here it stands for a training that diverged
    state = start(on_device=on_device)
    with pytest.raises(NonFiniteLossError) as raised:
        list(fit(state, features, labels, num_steps=9, report_every=3, on_device=on_device))
    error = raised.value
    match = re.fullmatch(r"loss is nan at step (\d+)", error.what)
    batches = drawn_videos(start(), int(match[1]), len(features))
    assert list(error.videos) == batches[-1]
    assert [2 in batch for batch in batches] == [False] * (len(batches) - 1) + [True]
    names = "abcdefg"
    listed = ", ".join(names[video] for video in error.videos)
    numbers = ", ".join(map(str, error.videos))
    for message, batch in ((str(error), f"training videos {numbers}"), (error.with_names(names), listed)):
        assert message.startswith(f"{error.what}, with a batch of {batch}; expected a finite number")


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e25, 1e37])
def test_training_stops_if_only_the_gradient_is_not_finite(scale):
    """The losses stay finite, but infinite moments in Adam would keep weights from ever moving again."""
    features, labels = small_videos(12)
    state = start(on_device=False)
    # One video of the last of the four batches of an epoch, amid a chunk's five steps.
    batch = drawn_videos(state, 4, 12)[3]
    features[batch[1]]["rgb"][:] = scale
    with pytest.raises(NonFiniteLossError) as raised:
        next(fit(state, features, labels, num_steps=10, report_every=5, on_device=False))
    assert raised.value.what == "gradient_norm is inf at step 4"
    assert list(raised.value.videos) == batch
    good = next(fit(state, features, labels, num_steps=3, on_device=False)).state
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((good.params, good.opt_state)))


@pytest.mark.slow
def test_a_yielded_state_stays_valid_while_training_goes_on():
    chunks = fit(start(), *small_videos(), num_steps=9, report_every=3)
    first = next(chunks)
    early = jax.tree.map(np.array, (first.state.params, first.state.opt_state, first.state.cluster_labels))
    *_, last = chunks
    assert_equal_trees(early, (first.state.params, first.state.opt_state, first.state.cluster_labels))
    assert (int(first.state.step), int(last.state.step)) == (3, 9)


@pytest.mark.slow
@pytest.mark.parametrize("on_device", [True, False])
def test_training_leaves_the_state_that_it_is_given(on_device):
    state = start(on_device=on_device)
    before = jax.tree.map(np.array, state.params)
    num_steps = 3 if on_device else 4
    chunks = fit(state, *small_videos(), num_steps=num_steps, report_every=3, on_device=on_device)
    assert [chunk.step for chunk in chunks] == [3, 4][: num_steps - 2]
    assert_equal_trees(before, state.params)


def test_training_needs_a_batch_of_videos():
    with pytest.raises(ValueError, match="a batch of 3 videos needs as many, got 2"):
        list(fit(start(), *small_videos(2), num_steps=1))


# Many seeds


def three_seeds(*, seeds=(0, 1, 2)):
    return [start(seed) for seed in seeds]


@pytest.mark.slow
def test_each_of_many_seeds_trains_as_it_does_alone():
    states = three_seeds()
    together = list(fit(stack_seeds(states), *small_videos(), num_steps=6, report_every=3))
    for position, state in enumerate(states):
        alone = list(fit(state, *small_videos(), num_steps=6, report_every=3))
        assert [chunk.step for chunk in together] == [chunk.step for chunk in alone] == [3, 6]
        for of_all, of_one in zip(together, alone):
            assert set(of_all.metrics) == set(of_one.metrics)
            for name, value in of_one.metrics.items():
                found = of_all.metrics[name]
                assert found.shape == (3,)
                np.testing.assert_allclose(found[position], value, rtol=1e-5, atol=1e-6, err_msg=name)
            ours, theirs = select_seed(of_all.state, position), of_one.state
            assert int(ours.step) == int(theirs.step) == of_one.step
            assert jax.random.key_data(ours.key).tolist() == jax.random.key_data(theirs.key).tolist()
            assert_close_trees(
                (ours.params, ours.opt_state, ours.cluster_labels),
                (theirs.params, theirs.opt_state, theirs.cluster_labels),
                rtol=1e-5,
            )
    losses = together[-1].metrics["loss"]
    assert len(set(losses.tolist())) == 3


@pytest.mark.slow
def test_of_many_seeds_the_one_that_breaks_is_named():
    states = three_seeds()
    params = jax.tree.map(lambda array: array.at[:].set(jnp.nan), states[1].params)
    states[1] = states[1].replace(params=params)
    with pytest.raises(NonFiniteLossError) as raised:
        list(fit(stack_seeds(states), *small_videos(), num_steps=3))
    assert raised.value.what == "loss (number 2 of 3 seeds) is nan at step 1"
    assert list(raised.value.videos) == drawn_videos(states[1], 1, 7)[0]


@pytest.mark.slow
def test_of_many_seeds_the_first_to_draw_a_broken_video_is_named():
    states = three_seeds(seeds=(0, 4, 1))
    features, labels = small_videos()
    drawn = np.array([drawn_videos(state, 3, 7) for state in states])  # (seeds, steps, B)
    meets = {v: (drawn == v).any(axis=2) for v in range(7)}
    first = {v: np.where(met.any(axis=1), met.argmax(axis=1), 3).tolist() for v, met in meets.items()}
    # A video that the last seed draws before the others, and not in the first step.
    broken = next(v for v, steps in first.items() if 0 < steps[2] < min(steps[:2]))
    features[broken]["flow"][:] = 1e38
    step = first[broken][2]
    with pytest.raises(NonFiniteLossError) as raised:
        next(fit(stack_seeds(states), features, labels, num_steps=3))
    assert raised.value.what == f"loss (number 3 of 3 seeds) is nan at step {step + 1}"
    assert list(raised.value.videos) == drawn[2, step].tolist()
    assert broken in raised.value.videos
