"""Convolutions and pooling over video, padded as TensorFlow's SAME pads, in forms that are fast on CPUs.

Arrays are (B, H, T, W, C): clips, rows, frames, columns, channels. Rows stand before frames because
`conv_bands` cuts arrays into bands of rows; a band is then one block of memory. Kernels are (T, H, W, I, O),
as published.

On CPUs, XLA's 3D convolutions are several times slower than its 2D ones. Two functions put 2D ones in their
place; they compute what `conv` computes, up to rounding:

- `conv_bands`, for kernels of 3 rows and stride 1, is Winograd's F(4, 3) along rows: 2D convolutions over
  frames and columns, of 6 transformed rows for every 4 rows of the result, so half as many multiplications as
  4 * 3 (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks").
- `conv_frames`, for the first layer, lays the frames under a kernel side by side as channels, of which frames
  have few. One 2D convolution over rows and columns remains.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.data.extraction import Precision

__all__ = ["BAND", "band_kernels", "conv", "conv_bands", "conv_frames", "max_pool", "pointwise"]

BAND = 6  # rows under the kernels of 4 rows of the result

# F(4, 3) at the points 0, 1, -1, 2, -2, infinity: result = _RESULT @ ((_KERNEL @ kernel) * (_ROWS @ rows)).
_ROWS = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_RESULT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def conv(inputs: jax.Array, kernel: jax.Array, *, stride: int = 1, precision: Precision = "f32") -> jax.Array:
    """A 3D convolution, as the backend computes it.

    Args:
        inputs: (B, H, T, W, I) float32 or bfloat16.
        kernel: (t, h, w, I, O) float32.
        stride: in rows, frames and columns.
        precision: of the products.

    Returns:
        (B, H / stride, T / stride, W / stride, O), sizes rounded up; float32, or bfloat16 with "bf16".
    """
    return _convolve(inputs, kernel.transpose(1, 0, 2, 3, 4), (stride,) * 3, ("NDHWC", "DHWIO"), precision)


def band_kernels(kernel: np.ndarray) -> tuple[np.ndarray, ...]:
    """The kernels that `conv_bands` takes in place of one.

    Args:
        kernel: (t, 3, w, I, O) float32.

    Returns:
        Six times (t, w, I, O) float32, computed in float64.
    """
    by_row = np.asarray(kernel, np.float64).swapaxes(0, 1)
    return tuple(sum(c * row for c, row in zip(cs, by_row)).astype(np.float32) for cs in _KERNEL)


def conv_bands(inputs: jax.Array, kernels: Sequence[jax.Array], *, precision: Precision = "f32") -> jax.Array:
    """`conv` with stride 1 by Winograd's F(4, 3) along rows.

    The transforms amplify rounding: results differ from those of `conv` by some 1e-5 of the largest.

    Args:
        inputs: (B, H, T, W, I) float32.
        kernels: from `band_kernels`.
        precision: of the products.

    Returns:
        As `conv`.
    """
    batch, height, *rest = inputs.shape
    bands = -(-height // 4)
    padded = jnp.pad(inputs, ((0, 0), (1, 4 * bands - height + 1), (0, 0), (0, 0), (0, 0)))
    rows = [padded[:, i : i + 4 * bands - 3 : 4] for i in range(BAND)]  # each (B, bands, T, W, I)
    products = [
        _convolve(row.reshape(batch * bands, *rest), kernel, (1, 1), ("NHWC", "HWIO"), precision)
        for row, kernel in zip(_combine(_ROWS, rows), kernels)
    ]
    results = jnp.stack([r.reshape(batch, bands, *r.shape[1:]) for r in _combine(_RESULT, products)], axis=2)
    return results.reshape(batch, 4 * bands, *results.shape[3:])[:, :height]


def conv_frames(
    inputs: jax.Array, kernel: jax.Array, *, stride: int, precision: Precision = "f32"
) -> jax.Array:
    """`conv` by one 2D convolution over rows and columns, of all frames under the kernel as channels.

    Args:
        inputs: (B, H, T, W, I) float32.
        kernel: (t, h, w, I, O) float32.
        stride: in rows, frames and columns.
        precision: of the products.

    Returns:
        As `conv`.
    """
    batch, height, num_frames, width, channels = inputs.shape
    covered, *window, _, outputs = kernel.shape
    length = -(-num_frames // stride)
    before, after = _same_padding(num_frames, covered, stride)
    frames = jnp.pad(inputs.swapaxes(1, 2), ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)))
    last = (length - 1) * stride + 1
    beside = jnp.concatenate([frames[:, i : i + last : stride] for i in range(covered)], axis=-1)
    beside = beside.reshape(batch * length, height, width, covered * channels)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(*window, covered * channels, outputs)
    result = _convolve(beside, flat, (stride, stride), ("NHWC", "HWIO"), precision)
    return result.reshape(batch, length, *result.shape[1:]).swapaxes(1, 2)


def max_pool(inputs: jax.Array, window: Sequence[int], stride: Sequence[int]) -> jax.Array:
    """Maxima over windows; what lies beyond the edge is left out.

    Args:
        inputs: (B, H, T, W, C) float.
        window: (rows, frames, columns) of a window.
        stride: (rows, frames, columns) from a window to the next.

    Returns:
        (B, H', T', W', C), where H' = H / stride rounded up, and so on.
    """
    for axis, (size, step) in enumerate(zip(window, stride), start=1):
        if size > 1:  # one axis at a time: 3 + 3 + 3 comparisons in place of 27
            sizes, steps = [1] * 5, [1] * 5
            sizes[axis], steps[axis] = size, step
            inputs = jax.lax.reduce_window(inputs, -jnp.inf, jax.lax.max, sizes, steps, "SAME")
    return inputs


def pointwise(inputs: jax.Array, kernel: jax.Array, *, precision: Precision = "f32") -> jax.Array:
    """The convolution with a kernel of 1 x 1 x 1: a matrix product.

    Args:
        inputs: (..., I) float32 or bfloat16.
        kernel: (I, O) float32.
        precision: of the products.

    Returns:
        (..., O) float32, or bfloat16 with "bf16".
    """
    contracted = (((inputs.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(*_operands(inputs, kernel, precision), contracted, precision=_XLA[precision])


def _convolve(inputs, kernel, strides, layouts: tuple[str, str], precision: Precision) -> jax.Array:
    return jax.lax.conv_general_dilated(
        *_operands(inputs, kernel, precision),
        strides,
        "SAME",
        dimension_numbers=(*layouts, layouts[0]),
        precision=_XLA[precision],
    )


_XLA = {
    "f32": jax.lax.Precision.HIGHEST,
    "tf32": jax.lax.Precision.DEFAULT,
    "bf16": jax.lax.Precision.DEFAULT,
}


def _operands(inputs: jax.Array, kernel: jax.Array, precision: Precision) -> tuple[jax.Array, jax.Array]:
    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    return inputs.astype(dtype), kernel.astype(dtype)


def _same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """Zeros before and after `size` values, as TensorFlow's SAME has them: an odd one comes after."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def _combine(matrix: tuple[tuple[int, ...], ...], parts: Sequence[jax.Array]) -> list[jax.Array]:
    """The sums of arrays that the rows of a small matrix describe."""
    return [sum((part * c for c, part in zip(row, parts) if c)) for row in matrix]  # type: ignore[misc]
