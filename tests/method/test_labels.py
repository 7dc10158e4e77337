import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.method.labels import (
    extend_foreground,
    label_clusters,
    label_foreground,
    label_snippets,
    top_k_mask,
)
from tests.helpers import reference

_top_k_mask = jax.jit(top_k_mask, static_argnums=1)
_label_foreground = jax.jit(label_foreground)
_extend_foreground = jax.jit(extend_foreground, static_argnames="rule")


@functools.partial(jax.jit, static_argnames="num_iters")
def _label_clusters(logits, share, num_iters=3):
    return label_clusters(logits, share, epsilon=0.5, num_iters=num_iters)


@functools.partial(jax.jit, static_argnames=("num_iters", "transport", "hard"))
def _label_snippets(logits, foreground, clusters, sigma=10.0, num_iters=3, transport=True, hard=False):
    return label_snippets(
        logits,
        foreground,
        clusters,
        epsilon=0.5,
        num_iters=num_iters,
        sigma=sigma,
        rank="true",
        transport=transport,
        hard=hard,
    )


@given(st.lists(st.sampled_from([-1.0, 0.0, -0.0, 0.25]), min_size=12, max_size=12), st.sampled_from([1, 4]))
@settings(max_examples=60, deadline=None)
def test_top_k_takes_the_earlier_of_equal_activations(values, k):
    activations = np.reshape(np.asarray(values, np.float32), (1, 6, 2))
    got = _top_k_mask(jnp.asarray(activations), k)
    for g in range(2):
        want = np.zeros(6, bool)
        want[reference.top_k(activations[0, :, g], k)] = True
        np.testing.assert_array_equal(got[0, :, g], want)


def test_top_k_of_a_constant_sequence_is_its_beginning():
    mask = _top_k_mask(np.ones((2, 9, 3), np.float32), 4)
    np.testing.assert_array_equal(mask[1, :, 2], [True] * 4 + [False] * 5)


def test_top_k_has_no_gradient_and_maps_over_batches():
    x = np.random.default_rng(0).standard_normal((3, 2, 8, 4), np.float32)
    many = jax.jit(jax.vmap(lambda a: top_k_mask(a, 3)))(x)
    alone = np.asarray(_top_k_mask(x[1], 3))
    np.testing.assert_array_equal(many[1], alone)
    grad = jax.jit(jax.grad(lambda a: jnp.sum(jnp.where(top_k_mask(a, 3), a, 0.0))))(x[1])
    np.testing.assert_array_equal(grad, alone.astype(np.float32))


@pytest.mark.parametrize("k", [0, 9])
def test_top_k_needs_a_possible_k(k):
    with pytest.raises(ValueError, match=f"k must be between 1 and T = 8, got {k}"):
        top_k_mask(jnp.zeros((1, 8, 1)), k)


@pytest.mark.parametrize("run", ["base_diff3", "case_std0.2"])
def test_golden_selection_and_foreground_labels(golden, run):
    arrays, batches = np.load(golden / f"{run}.npz"), np.load(golden / "batches.npz")
    mask = _top_k_mask(arrays["s0_combined_cas"], 8)
    want = np.zeros(mask.shape, bool)
    np.put_along_axis(want, arrays["s0_topk_indices"], True, axis=1)
    np.testing.assert_array_equal(mask, want)
    q_a = _label_foreground(mask, batches["y"][0])
    np.testing.assert_array_equal(q_a.reshape(-1), arrays["s0_att_gt_flat"][:, 0])


def test_foreground_labels_join_the_classes_of_a_video():
    mask = np.zeros((1, 5, 3), bool)
    mask[0, [0, 2, 4], [0, 1, 2]] = True
    q_a = _label_foreground(mask, np.array([[1, 0, 1]], np.float32))
    np.testing.assert_array_equal(q_a, [[1.0, 0.0, 0.0, 0.0, 1.0]])


def problem():
    """(60, 5) cluster logits, P^A of 60 snippets and Q^C[:, 0] of 5 clusters."""
    rng = np.random.default_rng(1)
    return (
        4 * rng.standard_normal((60, 5), np.float32),
        rng.random(60, np.float32),
        rng.random(5, np.float32),
    )


@pytest.mark.slow
def test_a_narrow_prior_draws_foreground_snippets_to_foreground_clusters():
    logits, foreground, _ = problem()
    clusters = jnp.array([1.0, 0.8, 0.5, 0.2, 0.0])
    result = _label_snippets(logits, foreground, clusters, sigma=0.05)
    by_rank = np.asarray(result.plan @ clusters)
    assert np.corrcoef(by_rank, foreground)[0, 1] > 0.9
    flat = _label_snippets(logits, foreground, clusters, sigma=1e4)
    none = _label_snippets(logits, foreground, None)
    np.testing.assert_allclose(flat.plan, none.plan, atol=1e-6)


@pytest.mark.parametrize("sigma", [1e-3, 1e3])
def test_snippet_labels_stay_finite_where_the_prior_underflows(sigma):
    logits, foreground, clusters = problem()
    plan = _label_snippets(logits, foreground, clusters, sigma=sigma).plan
    np.testing.assert_allclose(np.sum(plan, axis=1), 1, atol=1e-5)


def test_labels_without_transport_are_the_predictions():
    logits, foreground, clusters = problem()
    soft = _label_snippets(logits, foreground, clusters, transport=False, sigma=0.05)
    scores = np.exp(np.asarray(logits, np.float64))
    want = scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(soft.plan, want, rtol=1e-5)
    np.testing.assert_allclose(soft.marginal_error, np.abs(want.mean(axis=0) - 1 / 5).sum(), rtol=1e-5)


@pytest.mark.parametrize("transport", [True, False])
def test_hard_labels_are_one_hot_of_the_soft_ones(transport):
    logits, foreground, clusters = problem()
    soft, hard = (
        _label_snippets(logits, foreground, clusters, transport=transport, hard=hard)
        for hard in (False, True)
    )
    np.testing.assert_array_equal(hard.plan, np.eye(5)[np.argmax(soft.plan, axis=1)])
    shares = np.bincount(np.argmax(soft.plan, axis=1), minlength=5) / 60
    np.testing.assert_allclose(hard.marginal_error, np.abs(shares - 1 / 5).sum(), atol=1e-6)


def test_hard_labels_take_the_first_of_equal_clusters():
    hard = _label_snippets(np.zeros((3, 4), np.float32), np.zeros(3, np.float32), None, hard=True)
    np.testing.assert_array_equal(hard.plan, [[1, 0, 0, 0]] * 3)


def test_only_transport_keeps_all_snippets_from_one_cluster():
    logits, foreground, _ = problem()
    logits[:, 2] += 20  # the trivial solution of Sec. 5.3
    shares = [
        np.mean(
            _label_snippets(logits, foreground, None, transport=transport, hard=True, num_iters=50).plan, 0
        )
        for transport in (True, False)
    ]
    assert shares[0].max() < 0.5
    np.testing.assert_array_equal(shares[1], [0, 0, 1, 0, 0])


def test_no_gradient_flows_through_labels():
    logits, foreground, clusters = problem()

    def through(logits, foreground, clusters):
        q_s = _label_snippets(logits, foreground, clusters, sigma=0.2).plan
        q_c = _label_clusters(logits[:5, :2], foreground.mean()).plan
        own = _label_snippets(logits, foreground, None, transport=False).plan
        return jnp.sum(q_s[:, 0]) + q_c[0, 0] + own[0, 0]

    for grad in jax.jit(jax.grad(through, argnums=(0, 1, 2)))(logits, foreground, clusters):
        np.testing.assert_array_equal(grad, 0)


def test_cluster_labels_have_the_shares_of_equation_13_or_9():
    logits = problem()[0][:16, :2]
    shares = [
        np.asarray(_label_clusters(logits, share, num_iters=200).plan)[:, 0].mean()
        for share in (np.float32(0.125), None)
    ]
    np.testing.assert_allclose(shares, [0.125, 0.5], atol=1e-3)


PROBABILITIES = st.lists(st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.6, 0.9, 1.0]), min_size=12, max_size=12)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=12, max_size=12), PROBABILITIES, PROBABILITIES)
@settings(max_examples=50, deadline=None)
def test_labels_are_extended_where_both_probabilities_or_their_mean_exceed_one_half(
    labels, attention, transformed
):
    arrays = [np.reshape(np.asarray(v, np.float32), (3, 4)) for v in (labels, attention, transformed)]
    agreed, mixed = (_extend_foreground(*map(jnp.asarray, arrays), rule=rule) for rule in ("agreed", "mixed"))
    for n in range(12):
        both = labels[n] == 1 or (attention[n] > 0.5 and transformed[n] > 0.5)
        mean = labels[n] == 1 or np.float32(attention[n]) + np.float32(transformed[n]) > 1
        assert float(agreed.reshape(-1)[n]) == both
        assert float(mixed.reshape(-1)[n]) == mean
    assert np.all(np.asarray(agreed) <= np.asarray(mixed))
    assert agreed.dtype == jnp.float32
