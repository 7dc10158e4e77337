import functools

import jax
import jax.numpy as jnp
import numpy as np
import ot
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy.optimize import linear_sum_assignment

import case_jax.sinkhorn
from case_jax import gaussian_rank_prior, sinkhorn, sinkhorn_with_error
from case_jax.sinkhorn import descending_rank
from case_jax.sinkhorn import sinkhorn as sinkhorn_of_module
from tests.helpers.reference import algorithm_1, ascending_rank

_jitted_sinkhorn = jax.jit(sinkhorn, static_argnames="num_iters")
_jitted_with_error = jax.jit(sinkhorn_with_error, static_argnames="num_iters")
_jitted_prior = jax.jit(gaussian_rank_prior, static_argnames="rank")
_jitted_rank = jax.jit(descending_rank)


def random_problem(seed, n=40, k=6, scale=3.0):
    rng = np.random.default_rng(seed)
    beta = rng.dirichlet(np.ones(k))
    return scale * rng.standard_normal((n, k)), rng.uniform(0.05, 1, (n, k)), beta


def test_function_and_module_share_a_name():
    assert sinkhorn is sinkhorn_of_module
    assert case_jax.sinkhorn is sinkhorn  # `import case_jax.sinkhorn` must not hide the function


# Shapes from a short list, because every new one is compiled.
@given(st.integers(0, 10**6), st.sampled_from([(1, 3), (4, 1), (30, 7)]), st.floats(0.05, 5.0))
@settings(max_examples=30, deadline=None)
def test_equals_algorithm_1(seed, shape, epsilon):
    logits, prior, beta = random_problem(seed, *shape, scale=1.0)
    for num_iters in (1, 3):
        got = _jitted_sinkhorn(
            jnp.asarray(logits, jnp.float32),
            jnp.asarray(prior, jnp.float32),
            jnp.asarray(beta, jnp.float32),
            epsilon=epsilon,
            num_iters=num_iters,
        )
        want = algorithm_1(logits, prior, beta, epsilon, num_iters)
        np.testing.assert_allclose(got, want, atol=2e-5)
        np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("run", ["diff3", "diff3_truerank", "std0.2", "std0.2_truerank"])
def test_golden_prior_and_labels(golden, run):
    arrays = np.load(golden / f"case_{run}.npz")
    sigma = 0.2 if "std0.2" in run else 10.0
    prior = _jitted_prior(
        jnp.asarray(arrays["s0_att"]),
        jnp.asarray(arrays["prev_cls_gt0"][:, 0]),
        sigma=sigma,
        rank="true" if "truerank" in run else "permutation",
    )
    np.testing.assert_allclose(prior / prior.sum(), arrays["s0_T"], rtol=1e-5)
    logits = jnp.asarray(arrays["s0_clu"])
    np.testing.assert_allclose(_jitted_sinkhorn(logits, prior), arrays["s0_clu_gt"], rtol=1e-5, atol=1e-9)
    q_c = _jitted_sinkhorn(jnp.asarray(arrays["s0_cls"]), column_marginal=jnp.asarray(arrays["s0_beta"]))
    np.testing.assert_allclose(q_c, arrays["s0_cls_gt"], rtol=1e-5)


def test_agrees_with_pot_when_converged():
    logits, prior, beta = random_problem(0)
    with jax.enable_x64(True):
        got = _jitted_with_error(logits, prior, beta, num_iters=2000)
        got = jax.tree.map(np.asarray, got)
    n = len(logits)
    # -(logits + epsilon log prior) is the cost whose Gibbs kernel is exp(logits / epsilon) * prior.
    cost = -(logits + 0.5 * np.log(prior))
    want = n * ot.sinkhorn(np.full(n, 1 / n), beta, cost, reg=0.5, stopThr=1e-14, numItermax=20_000)
    np.testing.assert_allclose(got.plan, want, atol=1e-9)
    assert got.marginal_error < 1e-12


def test_small_epsilon_meets_the_assignment_problem():
    scores = np.random.default_rng(0).standard_normal((12, 12))
    rows, columns = linear_sum_assignment(-scores)
    with jax.enable_x64(True):
        plan = np.asarray(_jitted_sinkhorn(scores, epsilon=0.003, num_iters=5000))
    np.testing.assert_array_equal(np.argmax(plan, axis=1)[rows], columns)
    assert plan[rows, columns].min() > 0.99


def test_marginal_error_is_the_distance_to_the_marginal_and_falls():
    logits, _, beta = random_problem(1)
    logits, beta = jnp.asarray(logits, jnp.float32), jnp.asarray(beta, jnp.float32)
    errors = []
    for num_iters in (1, 3, 10, 100):
        plan, error = _jitted_with_error(logits, column_marginal=beta, num_iters=num_iters)
        np.testing.assert_allclose(error, np.abs(plan.mean(axis=0) - beta).sum(), rtol=1e-5, atol=1e-6)
        errors.append(float(error))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4 < errors[0]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64])
def test_every_float_dtype(dtype):
    logits, prior, _ = random_problem(2)
    with jax.enable_x64(dtype == jnp.float64):
        plan = _jitted_sinkhorn(jnp.asarray(logits, dtype), jnp.asarray(prior, dtype))
        assert plan.dtype == dtype
        tolerance = 8 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(np.asarray(plan, np.float64).sum(axis=1), 1, atol=tolerance)


@jax.jit
def _solve_and_differentiate(logits, beta, epsilon):
    """The plan, and the gradient of its first entry."""
    solve = functools.partial(sinkhorn, column_marginal=beta, epsilon=epsilon)
    return solve(logits), jax.grad(lambda x: solve(x)[0, 0])(logits)


@pytest.mark.parametrize(
    "logits",
    [
        1e4 * np.eye(6, 3),
        np.zeros((6, 3)),
        np.full((6, 3), -1e38),
        np.tile([[3e38, -3e38, 0], [-3e38, 3e38, 0], [3e38, 3e38, 3e38]], (2, 1)),
        pytest.param(np.array([[1e4], [-1e4]]), marks=pytest.mark.slow),
        pytest.param(np.array([[0.0, 1.0, 2.0]]), marks=pytest.mark.slow),
        np.random.default_rng(0).uniform(-1e4, 1e4, (6, 3)),
    ],
    ids=["one-hot", "constant", "very low", "extreme", "K=1", "N=1", "wide"],
)
def test_finite_for_any_finite_logits(logits):
    logits = jnp.asarray(logits, jnp.float32)
    num_columns = logits.shape[1]
    uniform = np.full(num_columns, 1 / num_columns)
    for beta in (uniform, np.eye(num_columns)[0], np.full(num_columns, 1e-12)):
        for epsilon in (1e-3, 0.5, 1e3):
            plan, gradient = _solve_and_differentiate(logits, np.float32(beta), epsilon)
            np.testing.assert_allclose(plan.sum(axis=1), 1, atol=1e-5)
            assert np.isfinite(gradient).all()


def test_zeros_in_prior_and_marginal_forbid():
    logits, prior = np.zeros((4, 3), np.float32), np.ones((4, 3), np.float32)
    prior[0, 0] = prior[:, 2] = 0
    plan = _jitted_sinkhorn(logits, prior, num_iters=10)
    np.testing.assert_array_equal(plan[0], [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(plan[:, 2], 0.0)
    prior[1] = 0  # this row of the prior is ignored
    silent = _jitted_sinkhorn(logits, prior, num_iters=10)
    assert np.isfinite(silent).all()
    np.testing.assert_allclose(silent.sum(axis=1), 1, atol=1e-6)
    no_first = _jitted_sinkhorn(logits, column_marginal=jnp.array([0.0, 0.5, 0.5]))
    np.testing.assert_allclose(no_first, np.tile([0.0, 0.5, 0.5], (4, 1)), atol=1e-6)


def test_permuting_rows_and_columns_permutes_the_plan():
    logits, prior, beta = (jnp.asarray(a, jnp.float32) for a in random_problem(3))
    rows, columns = np.random.default_rng(0).permutation(40), np.array([3, 0, 5, 1, 4, 2])
    got = _jitted_sinkhorn(logits[rows][:, columns], prior[rows][:, columns], beta[columns])
    np.testing.assert_allclose(got, _jitted_sinkhorn(logits, prior, beta)[rows][:, columns], atol=1e-6)


def test_shifting_logits_of_a_row_changes_nothing_once_converged():
    logits = jnp.asarray(random_problem(4)[0], jnp.float32)
    shift = jnp.linspace(-4, 4, 40)[:, None]
    plans = [_jitted_sinkhorn(one, num_iters=300) for one in (logits, logits + shift)]
    np.testing.assert_allclose(plans[0], plans[1], atol=1e-4)
    # A shift of all logits never changes anything.
    np.testing.assert_allclose(_jitted_sinkhorn(logits), _jitted_sinkhorn(logits + 7), atol=1e-5)


def test_jit_and_vmap_change_nothing():
    logits, prior, beta = (jnp.asarray(a, jnp.float32) for a in random_problem(5, n=7, k=3))
    plan = sinkhorn(logits, prior, beta)
    np.testing.assert_allclose(jax.jit(sinkhorn)(logits, prior, beta), plan, atol=1e-6)
    stacked = jax.jit(jax.vmap(sinkhorn))(*(jnp.stack([a, a]) for a in (logits, prior, beta)))
    np.testing.assert_allclose(stacked[1], plan, atol=1e-6)


@pytest.mark.slow
def test_gradients_are_finite_differences():
    with jax.enable_x64(True):
        arguments = list(random_problem(5, n=7, k=3))
        weights = np.random.default_rng(1).standard_normal((7, 3))

        @jax.jit
        def value(*arguments):
            return jnp.sum(weights * sinkhorn(*arguments))

        grads = jax.jit(jax.grad(value, argnums=(0, 1, 2)))(*arguments)
        for position, grad in enumerate(grads):
            for index in np.ndindex(grad.shape):
                ends = []
                for step in (1e-6, -1e-6):
                    moved = [np.array(argument) for argument in arguments]
                    moved[position][index] += step
                    ends.append(value(*moved))
                np.testing.assert_allclose(grad[index], (ends[0] - ends[1]) / 2e-6, atol=1e-6, rtol=1e-5)


def test_rows_sharded_over_devices():
    assert len(jax.devices()) == 8
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    by_row = NamedSharding(mesh, PartitionSpec("data"))
    logits, prior, _ = (jnp.asarray(a, jnp.float32) for a in random_problem(6))
    got = jax.jit(sinkhorn)(jax.device_put(logits, by_row), jax.device_put(prior, by_row))
    np.testing.assert_allclose(got, _jitted_sinkhorn(logits, prior), atol=1e-6)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda x: sinkhorn(x[0]), r"logits must be (N, K) with N, K >= 1, got shape (3,)"),
        (lambda x: sinkhorn(x[:0]), r"logits must be (N, K) with N, K >= 1, got shape (0, 3)"),
        (lambda x: sinkhorn(x, x[:2]), r"prior must have the shape of logits (4, 3), got (2, 3)"),
        (
            lambda x: sinkhorn(x, column_marginal=x[0, :2]),
            "column_marginal must have shape (3,), got (2,)",
        ),
        (lambda x: sinkhorn(x, epsilon=0.0), "epsilon must be greater than 0, got 0.0"),
        (
            lambda x: gaussian_rank_prior(x[0], x[0], sigma=-1.0),
            "sigma must be greater than 0, got -1.0",
        ),
        (lambda x: sinkhorn(x, num_iters=0), "num_iters must be at least 1, got 0"),
        (
            lambda x: gaussian_rank_prior(x, x[0], sigma=1.0),
            "foreground and cluster_foreground must be (N,) and (K,), got (4, 3) and (3,)",
        ),
        (
            lambda x: gaussian_rank_prior(x[0], x[0], sigma=1.0, rank="other"),
            "rank must be 'true' or 'permutation', got 'other'",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(call, words):
    with pytest.raises(ValueError) as caught:
        call(jnp.zeros((4, 3)))
    assert str(caught.value) == words


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.50001, 0.9]), min_size=23, max_size=23))
@settings(max_examples=30, deadline=None)
def test_prior_is_equation_11_with_ties_to_the_earlier(values):
    n, q, sigma = len(values), np.array([0.05, 0.6, 1.0]), 0.3
    rank = ascending_rank(values)
    want = np.exp(-((rank[:, None] / n - q) ** 2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
    got = _jitted_prior(jnp.asarray(values), jnp.asarray(q), sigma=sigma)
    np.testing.assert_allclose(got, want, rtol=2e-5)
    np.testing.assert_array_equal(_jitted_rank(jnp.asarray(values)), n - 1 - rank)


def test_lists_and_integers_are_welcome():
    assert sinkhorn([[1, 0], [0, 1]]).dtype == jnp.float32
    prior = gaussian_rank_prior([3, 1, 2], [0, 1], sigma=0.5)
    np.testing.assert_allclose(
        prior, gaussian_rank_prior(jnp.array([0.3, 0.1, 0.2]), jnp.array([0.0, 1.0]), sigma=0.5)
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("sigma", [1e-3, 10.0, 1e3])
def test_prior_is_finite_and_feeds_the_solver(dtype, sigma):
    foreground = jnp.linspace(0, 1, 500).astype(dtype)
    prior = _jitted_prior(foreground, jnp.array([0.0, 0.5, 1.0]), sigma=sigma)
    assert prior.dtype == dtype
    assert np.isfinite(np.asarray(prior, np.float32)).all()
    plan = _jitted_sinkhorn(jnp.zeros((500, 3)), prior.astype(jnp.float32))
    np.testing.assert_allclose(plan.sum(axis=1), 1, atol=1e-5)
