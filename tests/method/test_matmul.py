import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from case_jax.method.matmul import linear, linear_relu, weighted_sums

N, D, H, M = 40, 6, 9, 3


@pytest.fixture
def mixed_dtypes():
    """Operands are promoted to their common dtype, which a strict session refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def arrays(dtype=np.float32):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((N, D), (D, H), (H,))]


def plain_linear(rows, kernel, bias):
    return jnp.matmul(rows, kernel, precision=jax.lax.Precision.HIGHEST) + bias[None, :]


def plain_linear_relu(rows, kernel, bias):
    return jax.nn.relu(plain_linear(rows, kernel, bias))


PAIRS = [(linear, plain_linear), (linear_relu, plain_linear_relu)]


def labels():
    return np.random.default_rng(1).random((N, M)).astype(np.float32)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_products_are_those_of_float64(precision):
    rows, kernel, bias = arrays()
    exact = rows.astype(np.float64) @ kernel + bias
    np.testing.assert_allclose(linear(rows, kernel, bias, precision), exact, rtol=0, atol=1e-5)
    found = linear_relu(rows, kernel, bias, precision)
    np.testing.assert_allclose(found, np.maximum(exact, 0), rtol=0, atol=1e-5)
    assert found.dtype == jnp.float32
    assert 0.2 < np.mean(np.asarray(found) == 0) < 0.8


def test_weighted_sums_are_those_of_float64():
    rows = arrays()[0]
    expected = labels().T.astype(np.float64) @ rows
    np.testing.assert_allclose(weighted_sums(labels(), rows), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("function", [linear, linear_relu])
@pytest.mark.usefixtures("mixed_dtypes")
def test_gradients_are_finite_differences(function):
    with jax.enable_x64(True):
        values = [jnp.asarray(array) for array in arrays(np.float64)]
        assert np.abs(plain_linear(*values)).min() > 1e-4  # further from the kink than a difference reaches
        check_grads(function, values, order=1, modes=["rev"], atol=1e-7, rtol=1e-7, eps=1e-5)


@pytest.mark.usefixtures("mixed_dtypes")
def test_gradients_of_weighted_sums_are_finite_differences():
    with jax.enable_x64(True):
        weights, rows = jnp.asarray(labels(), jnp.float64), jnp.asarray(arrays(np.float64)[0])
        check_grads(lambda r: weighted_sums(weights, r), [rows], order=1, modes=["rev"], atol=1e-7, rtol=1e-7)


@pytest.mark.parametrize("function, plain", PAIRS)
def test_gradients_are_those_of_automatic_differentiation(function, plain):
    upstream = np.random.default_rng(2).standard_normal((N, H)).astype(np.float32)
    found, expected = (jax.vjp(f, *arrays())[1](upstream) for f in (function, plain))
    for ours, theirs, value in zip(found, expected, arrays(), strict=True):
        assert ours.shape == value.shape
        assert ours.dtype == value.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradient_of_weighted_sums_reaches_the_rows_alone():
    upstream = np.random.default_rng(2).standard_normal((M, D)).astype(np.float32)
    of_weights, of_rows = jax.vjp(weighted_sums, labels(), arrays()[0])[1](upstream)
    np.testing.assert_array_equal(of_weights, np.zeros((N, M)))
    np.testing.assert_allclose(of_rows, labels() @ upstream, rtol=1e-5, atol=1e-6)


def test_relu_has_no_gradient_at_its_kink():
    rows, kernel, bias = jnp.ones((1, 2)), jnp.array([[1.0, 1.0, 1.0], [-1.0, -2.0, 1.0]]), jnp.zeros(3)
    assert linear(rows, kernel, bias).tolist() == [[0.0, -1.0, 2.0]]
    _, back = jax.vjp(linear_relu, rows, kernel, bias)
    of_rows, of_kernel, of_bias = back(jnp.ones((1, 3)))
    assert of_bias.tolist() == [0.0, 0.0, 1.0]
    assert of_kernel.tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    assert of_rows.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("function, plain", PAIRS)
def test_bfloat16_products_are_near_and_summed_in_float32(function, plain):
    near = function(*arrays(), "bfloat16")
    assert near.dtype == jnp.float32
    assert not np.array_equal(near, plain(*arrays()))
    np.testing.assert_allclose(near, plain(*arrays()), rtol=0, atol=0.1)
    # Only the operands are rounded.
    rows, kernel, bias = arrays()
    rounded = [np.asarray(jnp.asarray(a, jnp.bfloat16), np.float32) for a in (rows, kernel)]
    np.testing.assert_allclose(near, plain(*rounded, bias), rtol=0, atol=1e-5)

    upstream = np.random.default_rng(2).standard_normal((N, H)).astype(np.float32)
    found = jax.vjp(lambda *a: function(*a, "bfloat16"), *arrays())[1](upstream)
    exact = jax.vjp(plain, *arrays())[1](upstream)
    for ours, theirs in zip(found[:2], exact[:2]):
        assert ours.dtype == jnp.float32
        assert not np.array_equal(ours, theirs)
    np.testing.assert_allclose(found[1], exact[1], rtol=0, atol=0.25)


@pytest.mark.parametrize("function, plain", PAIRS)
@pytest.mark.usefixtures("mixed_dtypes")
def test_bfloat16_rows_lose_nothing_more(function, plain):
    rows, kernel, bias = arrays()
    rows = jnp.asarray(rows, jnp.bfloat16)
    wide = rows.astype(jnp.float32)
    found = function(rows, kernel, bias)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, function(wide, kernel, bias))
    np.testing.assert_allclose(found, plain(wide, kernel, bias), rtol=1e-5, atol=1e-5)

    of_rows, of_kernel, _ = jax.vjp(function, rows, kernel, bias)[1](jnp.ones((N, H)))
    assert (of_rows.dtype, of_kernel.dtype) == (jnp.bfloat16, jnp.float32)
    expected = jax.vjp(plain, wide, kernel, bias)[1](jnp.ones((N, H)))
    np.testing.assert_allclose(of_kernel, expected[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(of_rows.astype(jnp.float32), expected[0], rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("function", [linear, linear_relu])
def test_many_at_once_are_each_alone(function):
    def loss(*values):
        return jnp.sum(jnp.square(function(*values)))

    many = [np.stack([array, 0.5 * array, array + 1]) for array in arrays()]
    together = jax.vmap(jax.value_and_grad(loss, argnums=(0, 1, 2)))(*many)
    for i in range(3):
        alone = jax.value_and_grad(loss, argnums=(0, 1, 2))(*(array[i] for array in many))
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-4)


def test_many_weighted_sums_at_once_are_each_alone():
    def loss(weights, rows):
        return jnp.sum(jnp.sin(weighted_sums(weights, rows)))

    many = np.stack([labels(), 2 * labels()]), np.stack([arrays()[0], arrays()[0] + 1])
    together = jax.vmap(weighted_sums)(*many)
    gradients = jax.vmap(jax.grad(loss, argnums=1))(*many)
    for i in range(2):
        np.testing.assert_allclose(together[i], weighted_sums(many[0][i], many[1][i]), rtol=1e-5, atol=1e-5)
        alone = jax.grad(loss, argnums=1)(many[0][i], many[1][i])
        np.testing.assert_allclose(gradients[i], alone, rtol=1e-5, atol=1e-5)


def transposed(function, *values):
    """The shapes of all transposes in a program."""
    return re.findall(r":(\w+\[[\d,]*\]) = transpose\[", str(jax.make_jaxpr(function)(*values)))


def gradient_step(linear, linear_relu, weighted_sums):
    def loss(parameters, rows):
        hidden = linear_relu(rows, *parameters["encoder"])
        return jnp.sum(jnp.square(linear(hidden, *parameters["head"]))) + jnp.sum(
            jnp.square(weighted_sums(labels(), hidden))
        )

    return jax.grad(loss, argnums=(0, 1))


def test_a_gradient_step_transposes_nothing():
    rows, *encoder = arrays()
    parameters = {"encoder": encoder, "head": [np.ones((H, 4), np.float32), np.ones(4, np.float32)]}
    assert transposed(gradient_step(linear, linear_relu, weighted_sums), parameters, rows) == []
    # Automatic differentiation does, activations included.
    plain = gradient_step(plain_linear, plain_linear_relu, lambda w, r: jnp.matmul(w.T, r))
    assert f"f32[{N},{H}]" in transposed(plain, parameters, rows)
