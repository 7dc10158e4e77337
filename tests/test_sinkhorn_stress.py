"""The solver with large, small, equal and missing numbers, compared with a plain solver in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax import gaussian_rank_prior, sinkhorn, sinkhorn_with_error
from case_jax.config import CaseConfig
from case_jax.method import losses
from case_jax.method.labels import label_clusters, label_snippets
from case_jax.method.objective import joint_loss
from case_jax.sinkhorn import log_gaussian_rank_prior
from case_jax.training.state import create_train_state

EPSILONS = (1e-3, 0.05, 0.5, 30.0, 1e3)
# One compiled program each: shape, dtype of the logits, iterations.
PROGRAMS = [
    ((33, 6), "float32", 3),
    ((7, 4), "float64", 50),
    ((3, 7), "float16", 1),
    ((3, 7), "bfloat16", 50),
    ((1, 5), "float32", 3),
    ((5, 1), "bfloat16", 1),
]


def logits_of(kind, shape, rng):
    """(N, K) float64 logits; all within +-1e4."""
    n, k = shape
    rows, one_hot = np.arange(n), np.zeros(shape)
    if kind == "one-hot on a column each":
        one_hot[rows, rng.integers(0, k, n)] = 1e4
    elif kind == "one-hot on one column":
        one_hot[:, 0] = 1e4
    elif kind == "one-hot on one column, unequally":
        one_hot[:, 0] = rng.permutation(np.linspace(1e3, 1e4, n))
    elif kind == "one-cold":
        one_hot[rows, rng.integers(0, k, n)] = -1e4
    return {
        "mild": lambda: rng.standard_normal(shape),
        "as in training": lambda: rng.uniform(-10, 10, shape),
        "wide": lambda: rng.uniform(-1e4, 1e4, shape),
        "constant": lambda: np.full(shape, -1e4),
        "constant rows": lambda: np.tile(rng.uniform(-1e4, 1e4, (n, 1)), (1, k)),
        "constant columns": lambda: np.tile(rng.uniform(-1e4, 1e4, (1, k)), (n, 1)),
    }.get(kind, lambda: one_hot)()


LOGITS = (
    "mild",
    "as in training",
    "wide",
    "constant",
    "constant rows",
    "constant columns",
    "one-hot on a column each",
    "one-hot on one column",
    "one-hot on one column, unequally",
    "one-cold",
)


def prior_of(kind, shape, rng):
    prior = rng.uniform(0.05, 1, shape)
    if kind == "some zeros":
        return np.where(rng.random(shape) < 0.3, 0.0, prior)
    return {"flat": np.ones(shape), "any": prior, "tiny": 1e-30 * prior}[kind]


PRIORS = ("flat", "any", "some zeros", "tiny")


def marginal_of(kind, k, rng):
    marginal = rng.dirichlet(np.ones(k))
    if kind == "a zero":
        marginal[rng.integers(k)] = 0.0 if k > 1 else 1.0
    elif kind == "one at 1e-12":
        marginal[rng.integers(k)] = 1e-12
    return {"equal": np.full(k, 1 / k), "all at 1e-12": np.full(k, 1e-12)}.get(kind, marginal)


MARGINALS = ("equal", "any", "a zero", "one at 1e-12", "all at 1e-12")


def log_sum(values, axis):
    top = values.max(axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return top + np.log(np.sum(np.exp(values - top), axis=axis, keepdims=True))


def plain_sinkhorn(logits, prior, marginal, epsilon, num_iters):
    """(..., N, K) plans in float64, with log(0) for what is forbidden."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_prior, log_marginal = np.log(prior), np.log(marginal)[..., None, :]
        silent = ~((prior > 0) & (marginal > 0)[..., None, :]).any(axis=-1, keepdims=True)
        log_prior = np.where(silent, 0.0, log_prior)
        highest = logits.max(axis=(-1, -2), keepdims=True)  # shifting everything changes nothing
        log_plan = (logits - highest) / epsilon + log_prior
        for _ in range(num_iters):
            columns = log_sum(log_plan, axis=-2)
            log_plan = np.where(np.isfinite(columns), log_plan + log_marginal - columns, -np.inf)
            log_plan = log_plan - log_sum(log_plan, axis=-1)
    return np.exp(log_plan)


def rounding(logits, prior, marginal, epsilon, num_iters, dtype):
    """The largest error of the logarithm of a plan that is solved in ``dtype``.

    The kernel is rounded at the size of its largest entry. Scaling is 1-Lipschitz in the logarithms (it is a
    softmax), so every scaling adds this error once.
    """
    with np.errstate(divide="ignore"):
        kernel = logits / epsilon + np.where(prior > 0, np.log(np.where(prior > 0, prior, 1.0)), 0.0)
        columns = np.where(marginal > 0, np.log(np.where(marginal > 0, marginal, 1.0)), 0.0)
    largest = np.ptp(kernel, axis=(-1, -2)) + np.ptp(logits / epsilon, axis=(-1, -2))
    largest = largest + np.abs(columns).max(axis=-1) + 10
    return 4 * np.finfo(dtype).eps * largest * (num_iters + 1)


def compute_dtype(dtype):
    return "float64" if dtype == "float64" else "float32"


def rounded(values, dtype):
    return np.asarray(np.asarray(values, jnp.dtype(dtype)), np.float64)


@functools.cache
def program(num_iters, batched):
    """(plan, marginal error, gradients of a weighted sum of the plan) of one problem or of many."""

    def value(logits, prior, marginal, epsilon, weights):
        result = sinkhorn_with_error(logits, prior, marginal, epsilon=epsilon, num_iters=num_iters)
        return jnp.sum(weights.astype(logits.dtype) * result.plan), result

    def solve(*problem):
        gradients, result = jax.grad(value, argnums=(0, 1, 2), has_aux=True)(*problem)
        return result, gradients

    return jax.jit(jax.vmap(solve) if batched else solve)


def solve(problem, dtype, num_iters, *, batched):
    """The program's results as numpy, in float64, and the problem as it was rounded."""
    precise = compute_dtype(dtype)
    logits, prior, marginal, epsilon, weights = problem
    with jax.enable_x64(dtype == "float64"):
        given = (
            jnp.asarray(logits, dtype),
            *(jnp.asarray(part, precise) for part in (prior, marginal, epsilon, weights)),
        )
        (plan, error), gradients = program(num_iters, batched)(*given)
        assert plan.dtype == given[0].dtype
        assert error.dtype == precise
        assert [g.dtype for g in gradients] == [g.dtype for g in given[:3]]
        plan, error, *gradients = (np.asarray(x).astype(np.float64) for x in (plan, error, *gradients))
    problem = (rounded(logits, dtype), *(rounded(part, precise) for part in (prior, marginal, epsilon)))
    return plan, error, gradients, problem


def check(plan, error, gradients, problem, dtype, num_iters):
    """Checks all that holds of any problem; returns how many plans were compared with the plain solver."""
    logits, prior, marginal, epsilon = problem
    resolution = float(jnp.finfo(dtype).eps)
    precise = np.finfo(compute_dtype(dtype)).eps
    k = plan.shape[-1]

    assert np.isfinite(plan).all()
    assert (plan >= 0).all()
    np.testing.assert_allclose(plan.sum(axis=-1), 1, rtol=0, atol=k * resolution)
    for gradient in gradients:
        assert np.isfinite(gradient).all()

    # The error is the distance of this very plan.
    distance = np.abs(plan.mean(axis=-2) - marginal).sum(axis=-1)
    np.testing.assert_allclose(error, distance, rtol=0, atol=resolution + 8 * k * precise)
    # No plan is nearer to the marginal than the marginal's own sum is to 1.
    assert (error >= np.abs(1 - marginal.sum(axis=-1)) - 8 * k * precise).all()

    expected = plain_sinkhorn(logits, prior, marginal, epsilon[..., None, None], num_iters)
    bound = rounding(logits, prior, marginal, epsilon[..., None, None], num_iters, compute_dtype(dtype))
    compared = bound < 0.1
    off = np.abs(plan - expected).max(axis=(-1, -2))
    allowed = np.expm1(np.minimum(bound, 1.0)) + resolution
    assert (off[compared] <= allowed[compared]).all(), (off - allowed)[compared].max()
    # A forbidden entry is exactly 0, unless its row allows no other.
    forbidden = (prior == 0) | (marginal == 0)[..., None, :]
    assert (plan[forbidden & ~forbidden.all(axis=-1, keepdims=True)] == 0).all()
    return compared.sum()


def some_problem(shape, logits, prior, marginal, epsilon, rng):
    return (
        logits_of(logits, shape, rng),
        prior_of(prior, shape, rng),
        marginal_of(marginal, shape[1], rng),
        np.asarray(epsilon),
        rng.standard_normal(shape),
    )


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("shape, dtype, num_iters", PROGRAMS)
def test_every_corner_under_vmap(shape, dtype, num_iters):
    rng = np.random.default_rng(0)
    corners = list(itertools.product(LOGITS, PRIORS, MARGINALS, EPSILONS))
    assert len(corners) == 1000
    problems = [np.stack(part) for part in zip(*(some_problem(shape, *c, rng) for c in corners))]
    plan, error, gradients, problem = solve(problems, dtype, num_iters, batched=True)
    compared = check(plan, error, gradients, problem, dtype, num_iters)
    assert compared > (300 if num_iters > 3 else 400)  # the other plans have no exact digit in float32


@pytest.mark.slow
@pytest.mark.optimised
@given(
    st.sampled_from(PROGRAMS[:2]),
    st.sampled_from(LOGITS),
    st.sampled_from(PRIORS),
    st.sampled_from(MARGINALS),
    st.floats(-3, 3).map(lambda power: 10.0**power),
    st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_problem_alone(chosen, logits, prior, marginal, epsilon, seed):
    """Without vmap only one of the two ways of scaling runs; under vmap both do."""
    shape, dtype, num_iters = chosen
    problem = some_problem(shape, logits, prior, marginal, epsilon, np.random.default_rng(seed))
    plan, error, gradients, problem = solve(problem, dtype, num_iters, batched=False)
    check(plan, error, gradients, problem, dtype, num_iters)


@pytest.mark.slow
@pytest.mark.optimised
def test_gradients_in_float32_are_those_of_float64():
    """Even if the kernel spans so much that the square of its least entry is 0 in float32."""
    rng = np.random.default_rng(0)
    n, k, spans = 33, 6, np.repeat(np.array([5.0, 30, 43, 46, 55, 69, 71, 80]), 125)
    low_columns = -spans[:, None, None] * (rng.random((spans.size, 1, k)) < 0.5)
    low_rows = -spans[:, None, None] * (rng.random((spans.size, n, 1)) < 0.5)
    logits = rng.uniform(-1, 1, (spans.size, n, k)) + np.where(
        rng.random((spans.size, 1, 1)) < 0.5, low_columns, low_rows
    )
    logits = np.asarray(logits, np.float32)
    many = np.ones((spans.size, 1, 1))
    problem = (
        logits,
        many * np.ones((n, k)),
        np.full((spans.size, k), 1 / k),
        np.ones(spans.size),
        many * rng.standard_normal((n, k)).astype(np.float32),
    )
    wanted = solve(problem, "float64", 3, batched=True)[2][0]
    assert np.abs(wanted).max() > 0.2
    together = solve(problem, "float32", 3, batched=True)[2][0]
    np.testing.assert_allclose(together, wanted, rtol=0, atol=2e-5)
    for i in range(0, spans.size, 25):
        alone = solve([part[i] for part in problem], "float32", 3, batched=False)[2][0]
        np.testing.assert_allclose(alone, wanted[i], rtol=0, atol=2e-5)


def test_float64_is_solved_in_float64():
    rng = np.random.default_rng(0)
    logits, prior, marginal = 2 * rng.standard_normal((7, 4)), rng.uniform(0.1, 1, (7, 4)), np.ones(4) / 4
    for scale, tolerance in ((1, 1e-14), (1000, 1e-10)):
        problem = scale * logits, prior, marginal, np.array(0.5)
        plan, error, *_ = solve((*problem, np.zeros((7, 4))), "float64", 50, batched=False)
        expected = plain_sinkhorn(*problem, 50)
        np.testing.assert_allclose(plan, expected, rtol=0, atol=tolerance)
        distance = np.abs(expected.mean(axis=0) - marginal).sum()
        np.testing.assert_allclose(error, distance, rtol=0, atol=tolerance)


with_error = jax.jit(sinkhorn_with_error, static_argnames="num_iters")


@pytest.mark.parametrize("num_iters", [1, 3, 50])
def test_equal_rows_get_the_marginal_however_far_apart_the_columns_are(num_iters):
    """The gap of 1e7 between the columns is exact in float32, so the plan must be exact, too."""
    logits = jnp.zeros((6, 3)).at[:, 0].set(1e4)
    plan, error = with_error(logits, epsilon=1e-3, num_iters=num_iters)
    np.testing.assert_allclose(plan, 1 / 3, rtol=0, atol=1e-6)
    assert error < 1e-6
    marginal = jnp.array([0.2, 0.7, 0.1])
    plan, error = with_error(logits, column_marginal=marginal, epsilon=1e-3, num_iters=num_iters)
    np.testing.assert_allclose(plan, np.tile(marginal, (6, 1)), rtol=0, atol=1e-6)
    assert error < 1e-6


@pytest.mark.parametrize("num_iters", [1, 3, 50])
def test_the_error_is_large_where_few_iterations_cannot_meet_the_marginal(num_iters):
    # All six rows prefer column 0, with different strength. At so small an epsilon the strongest takes the
    # whole column, and the next is e^-1e6 below it, while an iteration lifts the column by 2 only. So one row
    # of six comes to column 0, not two.
    logits = jnp.zeros((6, 3)).at[:, 0].set(jnp.arange(1e3, 7e3, 1e3))
    plan, error = with_error(logits, epsilon=1e-3, num_iters=num_iters)
    first = {1: 2 / (2 + 2 / 3), 3: None, 50: None}[num_iters]
    share = float(plan[:, 0].mean())
    assert share <= 1 / 6 + 1e-6
    np.testing.assert_allclose(error, 2 * (1 / 3 - share), atol=1e-6)
    if first is not None:
        np.testing.assert_allclose(share, first / 6, rtol=1e-6)
    assert error > 1 / 3 - 1e-6


def test_the_error_is_large_where_zeros_make_the_marginal_unreachable():
    prior = jnp.zeros((8, 4)).at[:, 0].set(1.0)
    result = with_error(jnp.zeros((8, 4)), prior, num_iters=50)
    np.testing.assert_array_equal(result.plan, np.eye(4)[[0] * 8])
    assert float(result.marginal_error) == 2 * (1 - 1 / 4)
    # A marginal that does not sum to 1 cannot be met, either.
    assert float(with_error(jnp.zeros((8, 4)), column_marginal=jnp.full(4, 1e-12))[1]) == 1.0


@pytest.mark.parametrize("num_iters", [1, 3])
def test_a_prior_that_forbids_all_of_a_row_is_ignored_in_this_row(num_iters):
    # Row 0 may go to columns 0 and 2 by the prior, and to column 1 alone by the marginal.
    prior = jnp.ones((4, 3)).at[0, 1].set(0.0)
    result = with_error(jnp.zeros((4, 3)), prior, jnp.array([0.0, 1.0, 0.0]), num_iters=num_iters)
    np.testing.assert_array_equal(result.plan, np.tile([0.0, 1.0, 0.0], (4, 1)))
    assert float(result.marginal_error) == 0


def test_the_error_of_very_many_rows():
    logits = np.random.default_rng(0).standard_normal((300_000, 4)).astype(np.float32)
    for scale in (3, 300):  # solved by scaling the kernel, and in the log domain
        plan, error = with_error(jnp.asarray(scale * logits))
        distance = np.abs(np.asarray(plan, np.float64).mean(axis=0) - 0.25).sum()
        assert distance > 0.01
        np.testing.assert_allclose(error, distance, rtol=1e-5)


@pytest.mark.parametrize(
    "epsilon", [1e-46, *(pytest.param(epsilon, marks=pytest.mark.slow) for epsilon in (1e-37, 1e37))]
)
def test_an_epsilon_beyond_the_range_of_float32(epsilon):
    logits = jnp.array([[0.0, 1.0], [2.0, -1e4], [0.0, 0.0]])

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def picked(logits):
        plan = sinkhorn(logits, epsilon=epsilon)
        return plan[0, 0], plan

    (_, plan), gradient = picked(logits)
    np.testing.assert_allclose(plan.sum(axis=1), 1, atol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), np.float32(0), jnp.float32(-2)])
def test_epsilon_and_sigma_of_every_kind_must_be_above_zero(value):
    for call in (
        lambda x: sinkhorn(x, epsilon=value),
        jax.jit(lambda x: sinkhorn(x, epsilon=value)),
        lambda x: gaussian_rank_prior(x[0], x[0], sigma=value),
    ):
        with pytest.raises(ValueError, match=r"^(epsilon|sigma) must be greater than 0, got (0|-1|-2|nan)"):
            call(jnp.zeros((2, 3)))


@pytest.mark.parametrize("num_iters", [0, -1])
def test_fewer_than_one_iteration_is_refused(num_iters):
    with pytest.raises(ValueError, match=f"^num_iters must be at least 1, got {num_iters}$"):
        sinkhorn_with_error(jnp.zeros((2, 3)), num_iters=num_iters)


SIGMAS = (1e-3, 0.05, 0.3, 10.0, 1e3)


@jax.jit
def priors(foreground, centres, sigma):
    """The logarithm, the prior itself, and the gradients of the logarithm's sum."""
    log_prior = functools.partial(log_gaussian_rank_prior, sigma=sigma)
    slopes = jax.grad(lambda *x: jnp.sum(log_prior(*x)), (0, 1))(foreground, centres)
    return log_prior(foreground, centres), gaussian_rank_prior(foreground, centres, sigma=sigma), slopes


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.parametrize("n", [1, 400])
def test_prior_for_every_dtype_and_width(n, dtype):
    rng = np.random.default_rng(0)
    precise, resolution = compute_dtype(dtype), float(jnp.finfo(dtype).eps)
    centres = np.array([0.0, 0.25, 0.5, 1.0])
    for foreground, sigma in itertools.product((rng.random(n), np.full(n, 0.5)), SIGMAS):
        foreground = rounded(foreground, dtype)
        order = sorted(range(n), key=lambda i: (-foreground[i], i))
        rank = np.empty(n)
        rank[order] = np.arange(n)[::-1]
        wanted = -(((rank[:, None] / n - centres) / sigma) ** 2) / 2 - np.log(sigma * np.sqrt(2 * np.pi))
        with jax.enable_x64(dtype == "float64"):
            given = jnp.asarray(foreground, dtype), jnp.asarray(centres, precise)
            log_prior, prior, slopes = priors(*given, jnp.asarray(sigma, precise))
        assert (log_prior.dtype, prior.dtype) == (precise, dtype)
        tolerance = 8 * np.finfo(precise).eps
        # A distance of 1/400 of the ranks is rounded at the size of the ranks.
        off = np.abs(wanted) + (np.abs(rank[:, None] / n - centres) + 1 / n) / sigma**2 + 10
        assert (np.abs(np.asarray(log_prior) - wanted) <= tolerance * off).all()
        least = float(jnp.finfo(dtype).tiny)
        np.testing.assert_allclose(
            np.asarray(prior).astype(np.float64),
            np.exp(wanted),
            rtol=2 * resolution + (tolerance * off).max() if sigma > 0.01 else 0.1,
            atol=2 * least,
        )
        assert np.isfinite(np.asarray(slopes[1], np.float32)).all()
        np.testing.assert_array_equal(np.asarray(slopes[0], np.float32), 0)  # ranks are constants


def log_softmax(values):
    return values - log_sum(values, axis=-1)


@functools.partial(jax.jit, static_argnames="hard")
@functools.partial(jax.vmap, in_axes=(0, 0, None, 0, 0, None))
def label_and_differentiate(logits, foreground, clusters, epsilon, sigma, hard):
    """Q^S, the clustering loss with it, and the gradient of this loss, as training computes them."""

    def loss(logits):
        labels = label_snippets(
            logits,
            foreground,
            clusters,
            epsilon=epsilon,
            num_iters=3,
            sigma=sigma,
            rank="true",
            transport=True,
            hard=hard,
        )
        return losses.clustering_loss(logits.astype(jnp.float32), labels.plan), labels

    (value, labels), gradient = jax.value_and_grad(loss, has_aux=True)(logits)
    return labels, value, gradient


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.parametrize("dtype, hard", [("bfloat16", False), ("float32", True)])
def test_snippet_labels_and_their_loss_at_every_corner(dtype, hard):
    rng, shape = np.random.default_rng(0), (33, 6)
    corners = list(itertools.product(LOGITS, EPSILONS, SIGMAS))
    logits = np.stack([logits_of(kind, shape, rng) for kind, *_ in corners])
    epsilon, sigma = (np.array(column, np.float32) for column in list(zip(*corners))[1:])
    foreground = rng.choice([0.0, 0.3, 0.7, 1.0], (len(corners), shape[0]))
    clusters = jnp.array([0.0, 0.1, 0.5, 0.5, 0.9, 1.0])
    labels, value, gradient = label_and_differentiate(
        jnp.asarray(logits, dtype), jnp.asarray(foreground, dtype), clusters, epsilon, sigma, hard
    )
    plan = np.asarray(labels.plan, np.float64)
    assert np.isfinite(plan).all()
    np.testing.assert_allclose(plan.sum(axis=-1), 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        labels.marginal_error, np.abs(plan.mean(axis=1) - 1 / 6).sum(axis=-1), rtol=0, atol=1e-5
    )
    assert np.isin(plan, [0, 1]).all() == hard
    # The labels are constants: the gradient is that of a cross-entropy with them and nothing else.
    given, exact = rounded(logits, dtype), np.asarray(gradient).astype(np.float64)
    softmax = np.exp(log_softmax(given))
    tolerance = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(exact, (softmax - plan) / shape[0], rtol=0, atol=2 * tolerance)
    wanted = -(plan * log_softmax(given)).sum(axis=-1).mean(axis=-1)
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.optimised
def test_cluster_labels_and_their_loss_at_every_corner():
    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, 0))
    def label(logits, share, epsilon):
        def loss(logits, share):
            labels = label_clusters(logits, share, epsilon=epsilon, num_iters=3)
            return losses.cluster_classification_loss(logits, labels.plan), labels

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(logits, share)

    rng, shape = np.random.default_rng(0), (16, 2)
    corners = list(itertools.product(LOGITS, (0.0, 1e-12, 0.1, 0.5, 1.0), EPSILONS))
    logits = np.stack([logits_of(kind, shape, rng) for kind, *_ in corners]).astype(np.float32)
    share, epsilon = (np.array(column, np.float32) for column in list(zip(*corners))[1:])
    (slope, of_share), (plan, error) = label(logits, share, epsilon)
    plan = np.asarray(plan, np.float64)
    np.testing.assert_allclose(plan.sum(axis=-1), 1, rtol=0, atol=1e-6)
    marginal = np.stack([share, 1 - share], axis=-1).astype(np.float64)
    np.testing.assert_allclose(error, np.abs(plan.mean(axis=1) - marginal).sum(axis=-1), rtol=0, atol=1e-5)
    none, all_of_them = share == 0, share == 1
    assert (plan[none][..., 0] == 0).all()
    assert (plan[all_of_them][..., 0] == 1).all()
    softmax = np.exp(log_softmax(logits.astype(np.float64)))
    np.testing.assert_allclose(slope, (softmax - plan) / shape[0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(of_share, 0)


@pytest.mark.slow
@pytest.mark.optimised
def test_training_at_the_corners():
    config = CaseConfig(num_snippets=12, batch_size=2, hidden_dim=8, num_clusters=4, epsilon=1e-3, sigma=1e-3)
    state = create_train_state(config, jax.random.key(0), stream_widths={"rgb": 6}, num_classes=3)
    step = jax.jit(
        jax.value_and_grad(functools.partial(joint_loss, network=state.network, config=config), has_aux=True)
    )
    rng = np.random.default_rng(0)
    for features in (
        rng.standard_normal((2, 12, 6)),
        1e4 * rng.standard_normal((2, 12, 6)),
        np.zeros((2, 12, 6)),
        np.full((2, 12, 6), 1e4),
    ):
        for video_labels in (np.eye(3)[:2], np.ones((2, 3))):
            batch = {
                "features": {"rgb": np.asarray(features, np.float32)},
                "labels": np.asarray(video_labels, np.float32),
            }
            (loss, (metrics, q_c)), gradients = step(state.params, batch, state.cluster_labels, 0)
            assert np.isfinite(loss)
            assert all(np.isfinite(value) for value in metrics.values())
            np.testing.assert_allclose(q_c.sum(axis=1), 1, atol=1e-6)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
