"""Every form of a convolution computes the sums of a plain float64 one, whatever the sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.video.convolutions import band_kernels, conv, conv_bands, conv_frames, max_pool, pointwise
from tests.helpers.convolutions import convolve, largest

# (T, H, W): even and odd; rows that fill bands of four, and rows that do not.
SIZES = [(4, 8, 6), (3, 9, 5), (1, 1, 1)]
sizes = pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))


def arrays(size, kernel, channels=3, outputs=5, batch=2):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((batch, *size, channels), np.float32)
    return inputs, rng.standard_normal((*kernel, channels, outputs), np.float32)


def rows_first(inputs):
    return jnp.asarray(inputs).swapaxes(1, 2)


def assert_close(found, expected, tolerance=1e-5):
    found = np.asarray(found, np.float64).swapaxes(1, 2)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@sizes
@pytest.mark.parametrize("kernel, stride", [((7, 7, 7), 2), ((2, 4, 3), 3)])
def test_convolutions_pad_as_tensorflow(size, kernel, stride):
    inputs, weights = arrays(size, kernel)
    expected = convolve(inputs, weights, stride)
    assert_close(conv(rows_first(inputs), weights, stride=stride), expected)
    assert_close(
        jax.jit(conv_frames, static_argnames="stride")(rows_first(inputs), weights, stride=stride), expected
    )


@sizes
def test_bands_of_rows_give_the_same(size):
    inputs, weights = arrays(size, (3, 3, 3))
    expected = convolve(inputs, weights)
    assert_close(jax.jit(conv_bands)(rows_first(inputs), band_kernels(weights)), expected)
    assert_close(conv(rows_first(inputs), weights), expected)


def test_bands_keep_the_scale_of_rounding_with_many_channels():
    inputs, weights = arrays((4, 12, 12), (3, 3, 3), channels=128, outputs=16, batch=1)
    expected = convolve(inputs, weights)
    assert_close(jax.jit(conv_bands)(rows_first(inputs), band_kernels(weights)), expected, tolerance=1e-5)


def test_a_kernel_of_one_tap_is_a_product():
    inputs, weights = arrays((3, 4, 5), (1, 1, 1))
    assert_close(pointwise(rows_first(inputs), weights[0, 0, 0]), convolve(inputs, weights))


def test_bfloat16_rounds_the_operands():
    inputs, weights = arrays((3, 8, 5), (3, 3, 3))
    rounded = [np.asarray(jnp.bfloat16(array), np.float32) for array in (inputs, weights)]
    found = conv(rows_first(inputs), weights, precision="bf16")
    assert found.dtype == jnp.bfloat16
    assert_close(found, convolve(*rounded), tolerance=2**-8)


@sizes
@pytest.mark.parametrize(
    "window, stride", [((3, 1, 3), (2, 1, 2)), ((3, 3, 3), (1, 1, 1)), ((2, 2, 2), (2, 2, 2))]
)
def test_pools_pad_as_tensorflow(size, window, stride):
    inputs = arrays(size, (1, 1, 1))[0] - 5  # below 0, where padding by zeros would show
    expected = largest(inputs, [window[i] for i in (1, 0, 2)], [stride[i] for i in (1, 0, 2)])
    assert_close(max_pool(rows_first(inputs), window, stride), expected, tolerance=0)
