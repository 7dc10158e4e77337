"""I3D, the network behind the field's features: Inception-v1 with its kernels inflated to three dimensions.

Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?", as DeepMind's code computes it: SAME padding
as TensorFlow's, BatchNorm before each ReLU. BatchNorm is part of the convolutions here: its statistics are
folded into kernels and biases when weights are read (`case_jax.video.weights`).
"""

import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from case_jax.data.extraction import Precision
from case_jax.video.convolutions import (
    BAND,
    band_kernels,
    conv,
    conv_bands,
    conv_frames,
    max_pool,
    pointwise,
)

__all__ = ["I3D", "I3DOutput", "Mixed", "Widths", "i3d_features", "i3d_output", "prepare"]


class Mixed(NamedTuple):
    """Channels of a mixed block, whose four branches are joined in this order: b0, b1, b2, b3."""

    b0: int  # 1x1x1
    b1_reduced: int  # 1x1x1, then
    b1: int  # 3x3x3
    b2_reduced: int  # 1x1x1, then
    b2: int  # 3x3x3
    b3: int  # max pooling 3x3x3, then 1x1x1


class Widths(NamedTuple):
    """Channels of all layers; those of I3D by default."""

    conv_1a: int = 64
    conv_2b: int = 64
    conv_2c: int = 192
    mixed_3b: Mixed = Mixed(64, 96, 128, 16, 32, 32)
    mixed_3c: Mixed = Mixed(128, 128, 192, 32, 96, 64)
    mixed_4b: Mixed = Mixed(192, 96, 208, 16, 48, 64)
    mixed_4c: Mixed = Mixed(160, 112, 224, 24, 64, 64)
    mixed_4d: Mixed = Mixed(128, 128, 256, 24, 64, 64)
    mixed_4e: Mixed = Mixed(112, 144, 288, 32, 64, 64)
    mixed_4f: Mixed = Mixed(256, 160, 320, 32, 128, 128)
    mixed_5b: Mixed = Mixed(256, 160, 320, 32, 128, 128)
    mixed_5c: Mixed = Mixed(384, 192, 384, 48, 128, 128)


class I3DOutput(NamedTuple):
    """What the network says of B clips; all float32."""

    features: jax.Array  # (B, 1024) Mixed_5c, averaged over frames, rows and columns
    logits: jax.Array  # (B, classes)


class I3D(nn.Module):
    """The network. Its parameters are, by layer, a ``kernel`` and a ``bias``.

    Attributes:
        num_classes: of the head.
        widths: channels of the layers.
        precision: of the products of all convolutions.
        bands: whether kernels of 3x3x3 are given as `prepare` makes them for CPUs.
    """

    num_classes: int = 400
    widths: Widths = Widths()
    precision: Precision = "f32"
    bands: bool = False

    @nn.compact
    def __call__(self, clips: jax.Array) -> I3DOutput:
        """Looks at clips.

        Args:
            clips: (B, T, H, W, C), T at least 9; published weights expect T a multiple of 8, H = W = 224.
                Float in [-1, 1], or uint8, which is scaled to that (value / 127.5 - 1). C is 3 for RGB and 2
                for flow (x, y).

        Returns:
            `I3DOutput`.

        Raises:
            ValueError: if the clips are shorter; the head sees two frames of Mixed_5c at once.
        """
        if clips.shape[1] <= 8:
            raise ValueError(f"clips have {clips.shape[1]} frames; expected 9 or more")
        layer = functools.partial(_Convolution, precision=self.precision, bands=self.bands)
        widths = self.widths
        if clips.dtype == jnp.uint8:
            clips = clips.astype(jnp.float32) / 127.5 - 1
        hidden = clips.swapaxes(1, 2)  # rows first; see `convolutions`
        hidden = layer(widths.conv_1a, size=7, stride=2, name="Conv3d_1a_7x7")(hidden)
        hidden = max_pool(hidden, (3, 1, 3), (2, 1, 2))
        hidden = layer(widths.conv_2b, size=1, name="Conv3d_2b_1x1")(hidden)
        hidden = layer(widths.conv_2c, size=3, name="Conv3d_2c_3x3")(hidden)
        for block in ("3b", "3c", "4b", "4c", "4d", "4e", "4f", "5b", "5c"):
            if block in _POOLED:
                hidden = max_pool(hidden, *_POOLED[block])
            mixed = getattr(widths, f"mixed_{block}")
            hidden = _MixedBlock(mixed, self.precision, self.bands, name=f"Mixed_{block}")(hidden)
        by_frame = hidden.astype(jnp.float32).mean(axis=(1, 3))  # (B, T / 8, 1024)
        # The head averages over windows of 2 x 7 x 7, then over its outputs. It is linear: averages first.
        over_windows = (by_frame[:, 1:] + by_frame[:, :-1]).mean(axis=1) / 2
        logits = nn.Dense(self.num_classes, precision=jax.lax.Precision.HIGHEST, name="logits")(over_windows)
        return I3DOutput(by_frame.mean(axis=1), logits)


# Max pooling before a block: (rows, frames, columns) of a window, and from a window to the next.
_POOLED = {
    "3b": ((3, 1, 3), (2, 1, 2)),
    "4b": ((3, 3, 3), (2, 2, 2)),
    "5b": ((2, 2, 2), (2, 2, 2)),
}


class _Convolution(nn.Module):
    """A convolution with a kernel of size x size x size, and ReLU."""

    outputs: int
    size: int
    precision: Precision
    bands: bool
    stride: int = 1

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self._init, inputs.shape[-1])
        bias = self.param("bias", nn.initializers.zeros_init(), (self.outputs,))
        result = self._convolve(inputs, kernel)
        return nn.relu(result + bias.astype(result.dtype)[None, None, None, None])

    def _init(self, key: jax.Array, channels: int) -> Any:
        def draw(key: jax.Array, *taps: int) -> jax.Array:
            deviation = math.sqrt(2 / (self.size**3 * channels))
            return deviation * jax.random.normal(key, (*taps, channels, self.outputs))

        if self.bands and self.size == 3:
            return tuple(draw(key, 3, 3) for key in jax.random.split(key, BAND))
        return draw(key, *((self.size,) * 3 if self.size > 1 else ()))

    def _convolve(self, inputs: jax.Array, kernel: Any) -> jax.Array:
        if self.size == 1:
            return pointwise(inputs, kernel, precision=self.precision)
        if not self.bands:
            return conv(inputs, kernel, stride=self.stride, precision=self.precision)
        if self.size == 3:
            return conv_bands(inputs, kernel, precision=self.precision)
        return conv_frames(inputs, kernel, stride=self.stride, precision=self.precision)


class _MixedBlock(nn.Module):
    widths: Mixed
    precision: Precision
    bands: bool

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        layer = functools.partial(_Convolution, precision=self.precision, bands=self.bands)
        widths = self.widths
        # Three layers read the inputs: one product for all.
        first = widths.b0, widths.b1_reduced, widths.b2_reduced
        b0, b1, b2 = jnp.split(
            layer(sum(first), size=1, name="first")(inputs), np.cumsum(first)[:-1], axis=-1
        )
        b1 = layer(widths.b1, size=3, name="b1")(b1)
        b2 = layer(widths.b2, size=3, name="b2")(b2)
        b3 = layer(widths.b3, size=1, name="b3")(max_pool(inputs, (3, 3, 3), (1, 1, 1)))
        return jnp.concatenate([b0, b1, b2, b3], axis=-1)


def prepare(params: Mapping, *, backend: str | None = None) -> dict:
    """Puts parameters on the device, in the form with which it computes fastest.

    Args:
        params: parameters of an `I3D` with ``bands=False``, as weights files give them.
        backend: "cpu", "gpu" or "tpu"; default the one that jax uses.

    Returns:
        Parameters for `i3d_features`. On CPUs kernels of 3x3x3 are in the form of `I3D` with ``bands=True``.
    """
    if (backend or jax.default_backend()) == "cpu":
        params = jax.tree.map(lambda a: band_kernels(a) if np.shape(a)[:3] == (3, 3, 3) else a, params)
    return jax.device_put(params)


@functools.partial(jax.jit, static_argnames="precision")
def i3d_output(params: Mapping, clips: jax.Array | np.ndarray, *, precision: Precision = "f32") -> I3DOutput:
    """The features and logits of clips, from parameters of the published widths.

    Args:
        params: from `prepare`; on CPUs, parameters that are not prepared are computed several times slower.
        clips: as `I3D` takes them.
        precision: of the products.

    Returns:
        `I3DOutput`.
    """
    bands = isinstance(params["Conv3d_2c_3x3"]["kernel"], tuple)
    num_classes = params["logits"]["kernel"].shape[1]
    network = I3D(num_classes, precision=precision, bands=bands)
    return cast(I3DOutput, network.apply({"params": params}, clips))


def i3d_features(
    params: Mapping, clips: jax.Array | np.ndarray, *, precision: Precision = "f32"
) -> jax.Array:
    """(B, 1024) float32, the features of `i3d_output`."""
    return i3d_output(params, clips, precision=precision).features
