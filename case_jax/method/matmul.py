"""Matrix products whose gradients are written so that no operand is ever copied transposed.

Automatic differentiation transposes a product by swapping its operands and transposing the result; on
12,000 x 512 activations these copies cost a tenth of a training step. Each function here states its own
backward products instead. Rows are snippets of all videos (N = B * T).
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Precision", "linear", "linear_relu", "weighted_sums"]

# How float32 operands are multiplied; sums are float32 always.
# "float32": in full. "tf32": as the backend does by default, which is TF32 on NVIDIA GPUs and full
# float32 on CPUs. "bfloat16": operands are rounded to bfloat16.
Precision = Literal["float32", "tf32", "bfloat16"]


def _product(left, right, left_axis: int, right_axis: int, precision: Precision) -> jax.Array:
    """Contracts one axis of two matrices; the result is in their common dtype, at least float32."""
    result_dtype = np.result_type(left.dtype, right.dtype, np.float32)  # as numpy, also where jax is strict
    operand_dtype = jnp.bfloat16 if precision == "bfloat16" else result_dtype
    return jax.lax.dot_general(
        left.astype(operand_dtype),
        right.astype(operand_dtype),
        dimension_numbers=(((left_axis,), (right_axis,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST if precision == "float32" else jax.lax.Precision.DEFAULT,
        preferred_element_type=result_dtype,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def linear(
    rows: jax.Array, kernel: jax.Array, bias: jax.Array, precision: Precision = "float32"
) -> jax.Array:
    """``rows @ kernel + bias``.

    Args:
        rows: (N, D), float32 or narrower.
        kernel: (D, H).
        bias: (H,).
        precision: of the product.

    Returns:
        (N, H) float32.
    """
    return _product(rows, kernel, 1, 0, precision) + bias[None, :]


def _linear_forward(rows, kernel, bias, precision):
    return linear(rows, kernel, bias, precision), (rows, kernel)


def _linear_backward(precision, saved, gradient):
    rows, kernel = saved
    return (
        _product(gradient, kernel, 1, 1, precision).astype(rows.dtype),
        _product(rows, gradient, 0, 0, precision),
        gradient.sum(axis=0),
    )


linear.defvjp(_linear_forward, _linear_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def linear_relu(
    rows: jax.Array, kernel: jax.Array, bias: jax.Array, precision: Precision = "float32"
) -> jax.Array:
    """``relu(rows @ kernel + bias)``; only its result is kept for the gradient, not what ReLU was given.

    Args:
        rows: (N, D), float32 or narrower.
        kernel: (D, H).
        bias: (H,).
        precision: of the product.

    Returns:
        (N, H) float32, >= 0.
    """
    return jnp.maximum(linear(rows, kernel, bias, precision), 0)


def _linear_relu_forward(rows, kernel, bias, precision):
    activation = linear_relu(rows, kernel, bias, precision)
    return activation, (rows, kernel, activation)


def _linear_relu_backward(precision, saved, gradient):
    rows, kernel, activation = saved
    gradient = jnp.where(activation > 0, gradient, 0)  # as relu's: 0 at the kink
    return _linear_backward(precision, (rows, kernel), gradient)


linear_relu.defvjp(_linear_relu_forward, _linear_relu_backward)


@jax.custom_vjp
def weighted_sums(weights: jax.Array, rows: jax.Array) -> jax.Array:
    """``weights.T @ rows`` in full float32; no gradient flows to the weights, which are labels.

    Args:
        weights: (N, M).
        rows: (N, H).

    Returns:
        (M, H) sums over all rows.
    """
    return _product(weights, rows, 0, 0, "float32")


def _weighted_sums_forward(weights, rows):
    return weighted_sums(weights, rows), (weights, rows[:0])


def _weighted_sums_backward(saved, gradient):
    weights, like_rows = saved
    return jnp.zeros_like(weights), _product(weights, gradient, 1, 0, "float32").astype(like_rows.dtype)


weighted_sums.defvjp(_weighted_sums_forward, _weighted_sums_backward)
