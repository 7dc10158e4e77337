"""I3D: a tiny one against a plain float64 network, in both forms of its parameters."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.video.i3d import I3D, Mixed, Widths, i3d_features, i3d_output, prepare
from tests.helpers.convolutions import convolve, largest, relu

TINY = Widths(3, 2, 4, *(Mixed(1 + i % 2, 2, 1, 1, 2 - i % 2, 1) for i in range(9)))
BLOCKS = ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c")


@pytest.fixture(scope="module")
def tiny():
    """Parameters of a tiny network, with biases that matter."""
    params = jax.eval_shape(I3D(5, TINY).init, jax.random.key(0), jnp.zeros((1, 9, 8, 8, 3)))["params"]
    rng = np.random.default_rng(0)

    def draw(leaf):
        scale = np.sqrt(2 / max(1, np.prod(leaf.shape[:-1]))) if leaf.ndim > 1 else 0.5
        return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map(draw, params)


def plain(params, clips):
    """The network in float64, layer by layer; features and logits."""

    def layer(named, inputs, stride=1):
        kernel = named["kernel"] if named["kernel"].ndim == 5 else named["kernel"][None, None, None]
        return relu(convolve(inputs, kernel, stride) + named["bias"])

    hidden = layer(params["Conv3d_1a_7x7"], clips, 2)
    hidden = largest(hidden, (1, 3, 3), (1, 2, 2))
    hidden = layer(params["Conv3d_2c_3x3"], layer(params["Conv3d_2b_1x1"], hidden))
    for block in BLOCKS:
        if block == "3b":
            hidden = largest(hidden, (1, 3, 3), (1, 2, 2))
        if block == "4b":
            hidden = largest(hidden, (3, 3, 3), (2, 2, 2))
        if block == "5b":
            hidden = largest(hidden, (2, 2, 2), (2, 2, 2))
        named, mixed = params[f"Mixed_{block}"], getattr(TINY, f"mixed_{block}")
        first = layer(named["first"], hidden)
        b0, b1, b2 = np.split(first, np.cumsum([mixed.b0, mixed.b1_reduced]), axis=-1)
        b3 = layer(named["b3"], largest(hidden, (3, 3, 3), (1, 1, 1)))
        hidden = np.concatenate([b0, layer(named["b1"], b1), layer(named["b2"], b2), b3], axis=-1)
    windows = [hidden[:, t : t + 2].mean(axis=(1, 2, 3)) for t in range(hidden.shape[1] - 1)]
    logits = [w @ params["logits"]["kernel"] + params["logits"]["bias"] for w in windows]
    return hidden.mean(axis=(1, 2, 3)), np.mean(logits, axis=0)


def assert_close(found, expected, tolerance=1e-4):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(
    "bands",
    [
        pytest.param(False, marks=pytest.mark.slow, id="as published"),
        pytest.param(True, id="prepared for CPUs"),
    ],
)
def test_is_the_plain_network_at_odd_sizes(bands, tiny):
    clips = np.random.default_rng(1).integers(0, 256, (2, 19, 37, 50, 3), np.uint8)
    scaled = clips / np.float32(127.5) - 1
    params = prepare(tiny, backend="cpu" if bands else "gpu")
    given = scaled if bands else clips  # frames may be either
    found = jax.jit(I3D(5, TINY, bands=bands).apply)({"params": params}, given)
    features, logits = plain(tiny, scaled)
    assert np.ptp(features) > 0.1
    assert_close(found.features, features)
    assert_close(found.logits, logits)
    assert found.features.dtype == found.logits.dtype == jnp.float32


@pytest.mark.slow
def test_bfloat16_is_near(tiny):
    clips = np.random.default_rng(1).uniform(-1, 1, (1, 9, 16, 16, 3)).astype(np.float32)
    found = jax.jit(I3D(5, TINY, precision="bf16").apply)({"params": tiny}, clips)
    assert_close(found.features, plain(tiny, clips)[0], tolerance=0.05)
    assert found.features.dtype == jnp.float32


def test_published_shapes_from_parameters_alone():
    clips = jax.ShapeDtypeStruct((4, 16, 224, 224, 2), jnp.float32)
    params = jax.eval_shape(I3D(400).init, jax.random.key(0), clips)["params"]
    assert sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == 12_689_984 - 7**3 * 64
    output = jax.eval_shape(i3d_output, params, clips)
    assert (output.features.shape, output.logits.shape) == ((4, 1024), (4, 400))
    assert jax.eval_shape(i3d_features, params, clips).shape == (4, 1024)


def test_clips_are_long_enough_and_have_the_channels_of_the_weights(tiny):
    network = I3D(5, TINY)
    with pytest.raises(ValueError, match="8 frames; expected 9"):
        jax.eval_shape(network.apply, {"params": tiny}, jnp.zeros((1, 8, 16, 16, 3)))
    with pytest.raises(flax.errors.ScopeParamShapeError, match="Conv3d_1a_7x7"):
        jax.eval_shape(network.apply, {"params": tiny}, jnp.zeros((1, 16, 16, 16, 2)))
