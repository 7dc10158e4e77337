"""Matrix products with gradients that never copy an operand transposed.

Automatic differentiation swaps the operands of a product and transposes the result. For activations of
12,000 x 512 these copies cost a tenth of a training step, so each function here states its own backward
products. Rows are the snippets of all videos (N = B * T).

The precision says how float32 operands are multiplied; sums are always float32:
"float32", in full; "tf32", as the backend does by default, which is TF32 on NVIDIA GPUs and full float32 on
CPUs; "bfloat16", with operands rounded to bfloat16.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.config import CaseConfig, Precision

__all__ = ["linear", "linear_relu", "weighted_sums"]


def _product(left, right, left_axis: int, right_axis: int, precision: Precision) -> jax.Array:
    """Contracts one axis of two matrices; the result is in their common dtype, at least float32."""
    # numpy's rule for the common dtype, because a strict session of jax refuses to promote.
    result_dtype = np.result_type(left.dtype, right.dtype, np.float32)
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
    rows: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    precision: Precision = CaseConfig.matmul_precision,
) -> jax.Array:
    """``rows @ kernel + bias``.

    Args:
        rows: (N, D) float32 or narrower.
        kernel: (D, H) float32.
        bias: (H,) float32.
        precision: precision of the product and of its gradients (static).

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
    rows: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    precision: Precision = CaseConfig.matmul_precision,
) -> jax.Array:
    """``relu(rows @ kernel + bias)``. Its gradient needs the result only, so the input of ReLU is not kept.

    Args:
        rows: (N, D) float32 or narrower.
        kernel: (D, H) float32.
        bias: (H,) float32.
        precision: precision of the product and of its gradients (static).

    Returns:
        (N, H) float32, >= 0.
    """
    return jnp.maximum(linear(rows, kernel, bias, precision), 0)


def _linear_relu_forward(rows, kernel, bias, precision):
    activation = linear_relu(rows, kernel, bias, precision)
    return activation, (rows, kernel, activation)


def _linear_relu_backward(precision, saved, gradient):
    rows, kernel, activation = saved
    gradient = jnp.where(activation > 0, gradient, 0)  # 0 at the kink, like that of jax.nn.relu
    return _linear_backward(precision, (rows, kernel), gradient)


linear_relu.defvjp(_linear_relu_forward, _linear_relu_backward)


@jax.custom_vjp
def weighted_sums(weights: jax.Array, rows: jax.Array) -> jax.Array:
    """``weights.T @ rows`` in full float32. The weights are labels: no gradient flows to them.

    Args:
        weights: (N, M) float.
        rows: (N, H) float.

    Returns:
        (M, H) float32, sums over all rows.
    """
    return _product(weights, rows, 0, 0, "float32")


def _weighted_sums_forward(weights, rows):
    return weighted_sums(weights, rows), (weights, rows[:0])


def _weighted_sums_backward(saved, gradient):
    weights, like_rows = saved
    return jnp.zeros_like(weights), _product(weights, gradient, 1, 0, "float32").astype(like_rows.dtype)


weighted_sums.defvjp(_weighted_sums_forward, _weighted_sums_backward)
