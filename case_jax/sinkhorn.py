"""Entropic optimal transport for self-labelling: Algorithm 1 and the prior of Eq. (11) of CASE.

Everything is computed in the log domain, so that no finite logit overflows, and in at least float32.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from case_jax.config import CaseConfig, PriorRank

__all__ = [
    "SinkhornResult",
    "descending_rank",
    "gaussian_rank_prior",
    "log_gaussian_rank_prior",
    "sinkhorn",
    "sinkhorn_log_kernel",
    "sinkhorn_with_error",
]

# Stands for log(0). It is finite, so that `a - a` is 0 and never NaN, in values and in gradients. It lies so
# far below any log-kernel (these are clipped at _LOWEST) that its exponential is exactly 0 beside that of a
# kernel.
_LOG_ZERO = -1e30
_LOWEST = -1e27

# The kernel can be scaled without logarithms if the log-kernel spans at most _NARROW_KERNEL and no
# log-marginal is below -_NARROW_MARGINAL. Scalings then span at most exp(70 + 10) = 6e34, which float32
# holds.
_NARROW_KERNEL = 70.0
_NARROW_MARGINAL = 10.0


class SinkhornResult(NamedTuple):
    """A transport plan, and how far its columns are from their marginal."""

    plan: jax.Array  # (N, K), rows sum to 1
    marginal_error: jax.Array  # (), sum over columns of |mean of the plan over rows - marginal|, in [0, 2]


def sinkhorn(
    logits: jax.Array,
    prior: jax.Array | None = None,
    column_marginal: jax.Array | None = None,
    *,
    epsilon: float = CaseConfig.epsilon,
    num_iters: int = CaseConfig.sinkhorn_iters,
) -> jax.Array:
    r"""Soft labels :math:`Q` with given class proportions, by Sinkhorn-Knopp (Algorithm 1).

    After enough iterations this solves

    .. math::
        \min_Q \; -\langle Q, L \rangle + \varepsilon\, \mathrm{KL}(Q \,\|\, \hat Q)
        \quad \text{with} \quad Q 1_K = 1_N, \; Q^\top 1_N = N \beta

    with :math:`L` = ``logits``, :math:`\hat Q` = ``prior``, :math:`\beta` = ``column_marginal`` and
    :math:`\varepsilon` = ``epsilon``: Eq. (12), or Eq. (10) where there is no prior. Each iteration scales
    the columns to the marginal and then the rows to 1; the rows come last, so they always sum to 1 while
    the columns meet their marginal only approximately (see `sinkhorn_with_error`). Three iterations, as
    published, are far from convergence when ``epsilon`` is small against the spread of the logits.

    ``epsilon`` *divides* the logits, as in Algorithm 1, Cuturi (2013), SwAV and OTT-JAX. Eq. (10) of the
    paper writes its inverse: the published value 2 there is ``epsilon=0.5`` here.

    Differentiable (by unrolling), and safe under ``jit`` (``num_iters`` is static), ``vmap`` and with rows
    sharded over devices. Finite for any finite logits. A zero in the prior or in the marginal forbids that
    assignment; a row of the prior that leaves no column of positive marginal says nothing, and is ignored;
    a column with no assignment allowed stays empty.

    Args:
        logits: (N, K) scores of N samples for K classes, any float dtype.
        prior: (N, K) non-negative weights, up to a factor per row; default uniform.
        column_marginal: (K,) non-negative proportion of rows for each column; default 1/K each (Eq. 9).
        epsilon: entropic regularisation, > 0; default 0.5, the published value.
        num_iters: iterations, >= 1; default 3, the published value.

    Returns:
        (N, K) plan in the dtype of ``logits`` (float32 for integers); every row sums to 1.

    Raises:
        ValueError: if the shapes do not fit together, ``num_iters`` < 1 or ``epsilon`` <= 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from case_jax import sinkhorn
        >>> logits = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.5, 0.0]])
        >>> plan = sinkhorn(logits, num_iters=20)  # arg max would put all four into column 0
        >>> print(np.asarray(plan).round(2))
        [[0.91 0.09]
         [0.59 0.41]
         [0.16 0.84]
         [0.34 0.66]]

    References:
        Algorithm 1 of CASE (Liu et al., ICCV 2023); Cuturi, Sinkhorn Distances, NeurIPS 2013.
    """
    return sinkhorn_with_error(logits, prior, column_marginal, epsilon=epsilon, num_iters=num_iters).plan


def sinkhorn_with_error(
    logits: jax.Array,
    prior: jax.Array | None = None,
    column_marginal: jax.Array | None = None,
    *,
    epsilon: float = CaseConfig.epsilon,
    num_iters: int = CaseConfig.sinkhorn_iters,
) -> SinkhornResult:
    """`sinkhorn`, with the distance of the plan's columns from their marginal.

    Args:
        logits: (N, K), see `sinkhorn`.
        prior: (N, K), see `sinkhorn`.
        column_marginal: (K,), see `sinkhorn`.
        epsilon: see `sinkhorn`.
        num_iters: see `sinkhorn`.

    Returns:
        `SinkhornResult`. A large ``marginal_error`` means that the iterations were too few for this
        ``epsilon``, or that zeros in the prior make the marginal unreachable.

    Raises:
        ValueError: see `sinkhorn`.

    Example:
        >>> import jax.numpy as jnp
        >>> logits = jnp.array([[2.0, 0.0], [1.0, 0.0]])
        >>> [round(float(sinkhorn_with_error(logits, num_iters=n).marginal_error), 3) for n in (1, 8)]
        [0.17, 0.0]
    """
    logits = _floating(logits)
    _require_positive("epsilon", epsilon)
    if logits.ndim != 2 or 0 in logits.shape:
        raise ValueError(f"logits must be (N, K) with N, K >= 1, got shape {logits.shape}")
    num_columns = logits.shape[1]
    compute_dtype = _compute_dtype(logits)
    log_kernel = _divide_by_epsilon(logits.astype(compute_dtype), epsilon)
    if column_marginal is None:
        log_marginal = jnp.full((num_columns,), -math.log(num_columns), compute_dtype)
    else:
        column_marginal = jnp.asarray(column_marginal)
        if column_marginal.shape != (num_columns,):
            raise ValueError(f"column_marginal must have shape ({num_columns},), got {column_marginal.shape}")
        log_marginal = _safe_log(column_marginal.astype(compute_dtype))

    if prior is not None:
        prior = jnp.asarray(prior)
        if prior.shape != logits.shape:
            raise ValueError(f"prior must have the shape of logits {logits.shape}, got {prior.shape}")
        log_prior = _safe_log(prior.astype(compute_dtype))
        possible = (log_prior > _LOG_ZERO) & (log_marginal > _LOG_ZERO)[None, :]
        log_kernel = log_kernel + jnp.where(jnp.any(possible, axis=1, keepdims=True), log_prior, 0.0)

    plan = sinkhorn_log_kernel(log_kernel, log_marginal, num_iters=num_iters)
    error = jnp.sum(jnp.abs(plan.mean(axis=0) - jnp.exp(log_marginal)))
    return SinkhornResult(plan.astype(logits.dtype), error)


def _divide_by_epsilon(scores: jax.Array, epsilon: float | jax.Array) -> jax.Array:
    """(N, K) scores, shifted to at most 0, over epsilon; at least _LOWEST."""
    # The shift of all scores changes nothing, but keeps the division by epsilon from overflowing upwards;
    # the clip keeps it from overflowing downwards. No gradient flows through the shift.
    scores = scores - jax.lax.stop_gradient(scores.max())
    # An epsilon above 0 in Python may be 0 in float32.
    divisor = jnp.maximum(jnp.asarray(epsilon, scores.dtype), jnp.finfo(scores.dtype).tiny)
    return jnp.maximum(jnp.maximum(scores, _LOWEST) / divisor, _LOWEST)


def sinkhorn_log_kernel(log_kernel: jax.Array, log_marginal: jax.Array, *, num_iters: int) -> jax.Array:
    """The loop of Algorithm 1 on a log-kernel, in its dtype.

    Args:
        log_kernel: (N, K) float; ``logits / epsilon + log(prior)``, finite.
        log_marginal: (K,) float, the log of the column proportions, finite.
        num_iters: iterations, >= 1, a Python int (static under jit).

    Returns:
        (N, K) plan whose rows sum to 1.

    Raises:
        ValueError: if ``num_iters`` < 1.
    """
    if num_iters < 1:
        raise ValueError(f"num_iters must be at least 1, got {num_iters}")

    log_kernel = log_kernel - jax.lax.stop_gradient(log_kernel.max())
    # If no value can leave the range of float32, scaling the kernel itself gives the same plan, several times
    # faster than exponentials and logarithms in every iteration.
    narrow = (log_kernel.min() > -_NARROW_KERNEL) & (log_marginal.min() > -_NARROW_MARGINAL)
    return jax.lax.cond(
        jax.lax.stop_gradient(narrow),
        functools.partial(_scale_kernel, num_iters=num_iters),
        functools.partial(_scale_log_kernel, num_iters=num_iters),
        log_kernel,
        log_marginal,
    )


def _scale_kernel(log_kernel: jax.Array, log_marginal: jax.Array, *, num_iters: int) -> jax.Array:
    """The plan as rows * kernel * columns; iterations change only the two vectors."""
    # Under vmap `cond` computes both branches and selects one. The clip changes nothing in problems for which
    # this branch is selected; in the others it prevents NaN, which would reach the gradient although not
    # selected.
    kernel = jnp.exp(jnp.maximum(log_kernel, -_NARROW_KERNEL))
    marginal = jnp.exp(jnp.maximum(log_marginal, -_NARROW_MARGINAL))

    def scale_columns(rows):
        # Not a matrix product: on CPUs it adds row after row, which is 0.2 % wrong after a million rows.
        return _quotient(marginal, jnp.mean(kernel * rows[:, None], axis=0))

    def iteration(_, rows):
        mass = jnp.matmul(kernel, scale_columns(rows), precision=jax.lax.Precision.HIGHEST)
        return _quotient(jnp.ones_like(mass), mass)

    unroll = num_iters <= 8  # a loop costs more than a few iterations
    rows = jax.lax.fori_loop(0, num_iters - 1, iteration, jnp.ones_like(kernel[:, 0]), unroll=unroll)
    columns = scale_columns(rows)
    plan = kernel * columns[None, :]
    return _quotient(plan, jnp.sum(plan, axis=1, keepdims=True))


@jax.custom_jvp
def _quotient(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """``numerator / denominator``, with a gradient that does not square the denominator.

    The built-in derivative squares it. The square of exp(-70) is 0 in float32, which makes the gradient NaN.
    """
    return numerator / denominator


@_quotient.defjvp
def _quotient_jvp(primals, tangents):
    (numerator, denominator), (of_numerator, of_denominator) = primals, tangents
    quotient = numerator / denominator
    return quotient, (of_numerator - quotient * of_denominator) / denominator


def _scale_log_kernel(log_kernel: jax.Array, log_marginal: jax.Array, *, num_iters: int) -> jax.Array:
    """The same plan in the log domain, for any finite values."""

    def iteration(_, log_plan):
        # A column in which no assignment is allowed must not be scaled up to its marginal: scaling would
        # allow every assignment.
        empty = jnp.max(log_plan, axis=0) < 0.5 * _LOG_ZERO
        # Subtracting the logarithm of the column's mass would lose digits: float32 rounds -1e7 to whole
        # numbers. The softmax subtracts the column's maximum first, at no cost.
        scaled = jax.nn.log_softmax(log_plan, axis=0) + log_marginal[None, :]
        log_plan = jnp.where(empty[None, :], log_plan, scaled)
        # Keeps forbidden entries at _LOG_ZERO, however far the iterations move them down.
        log_plan = jnp.maximum(log_plan, _LOG_ZERO)
        return jax.nn.log_softmax(log_plan, axis=1)

    return jnp.exp(jax.lax.fori_loop(0, num_iters, iteration, log_kernel))


def gaussian_rank_prior(
    foreground: jax.Array,
    cluster_foreground: jax.Array,
    *,
    sigma: float,
    rank: PriorRank = CaseConfig.prior_rank,
) -> jax.Array:
    r"""Prior of assigning snippets to clusters from ranks and cluster labels, Eq. (11).

    .. math::
        \hat Q^S_{n,k} = \frac{1}{\sigma\sqrt{2\pi}}
        \exp\left(-\frac{(\mathrm{rank}_n / N - Q^C_{k,1})^2}{2\sigma^2}\right)

    Snippets of high foreground rank go to clusters of high foreground probability. Ranks follow the
    ascending order and start at 0: the snippet of lowest P^A has rank 0, that of highest P^A has N - 1. (The
    published convention is the mirror image: there the snippet of highest P^A has rank 1, and ranks are
    compared with the clusters' *background* probability.)
    Equal values (snippets repeated to fill a short video) never share a rank: the earlier snippet takes the
    higher one, on every backend.

    With the published ``sigma=10`` the prior is flat to 0.5 %; it begins to matter below about 0.5.

    Args:
        foreground: (N,) foreground probability P^A of each snippet, any float dtype.
        cluster_foreground: (K,) foreground probability Q^C[:, 0] of each cluster.
        sigma: standard deviation, > 0, in units of the normalised rank.
        rank: "true", the ranks of Eq. (11); "permutation", the indices of the sorting permutation, which the
            published code takes for ranks.

    Returns:
        (N, K) densities in the dtype of ``foreground``. They underflow to 0 for very small ``sigma``; those
        of `log_gaussian_rank_prior` do not.

    Raises:
        ValueError: if an argument is not one-dimensional, ``sigma`` <= 0 or ``rank`` is unknown.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> prior = gaussian_rank_prior(jnp.array([0.9, 0.1]), jnp.array([0.5, 0.0]), sigma=0.5)
        >>> print(np.asarray(prior).round(3))  # snippet 0 has rank 1 of {0, 1}: 1 / 2 is at cluster 0
        [[0.798 0.484]
         [0.484 0.798]]
    """
    log_prior = log_gaussian_rank_prior(foreground, cluster_foreground, sigma=sigma, rank=rank)
    return jnp.exp(log_prior).astype(_floating(foreground).dtype)


def log_gaussian_rank_prior(
    foreground: jax.Array,
    cluster_foreground: jax.Array,
    *,
    sigma: float,
    rank: PriorRank = CaseConfig.prior_rank,
) -> jax.Array:
    """The natural logarithm of `gaussian_rank_prior`, computed without the density itself.

    Args:
        foreground: (N,), see `gaussian_rank_prior`.
        cluster_foreground: (K,), see `gaussian_rank_prior`.
        sigma: see `gaussian_rank_prior`.
        rank: see `gaussian_rank_prior`.

    Returns:
        (N, K) log-densities, float64 if ``foreground`` is, otherwise float32.

    Raises:
        ValueError: see `gaussian_rank_prior`.
    """
    foreground, cluster_foreground = _floating(foreground), _floating(cluster_foreground)
    _require_positive("sigma", sigma)
    if foreground.ndim != 1 or cluster_foreground.ndim != 1:
        raise ValueError(
            "foreground and cluster_foreground must be (N,) and (K,), got "
            f"{foreground.shape} and {cluster_foreground.shape}"
        )
    num_snippets = foreground.shape[0]
    # bfloat16 cannot count beyond 256, so ranks are never held in less than float32.
    compute_dtype = _compute_dtype(foreground)
    if rank == "true":
        from_the_top = descending_rank(foreground)
    elif rank == "permutation":
        from_the_top = jnp.argsort(foreground, descending=True, stable=True)
    else:
        raise ValueError(f"rank must be 'true' or 'permutation', got {rank!r}")
    ascending = (num_snippets - 1 - from_the_top).astype(compute_dtype) / num_snippets
    distance = ascending[:, None] - cluster_foreground.astype(compute_dtype)[None, :]
    return -jnp.square(distance / sigma) / 2 - jnp.log(sigma * jnp.sqrt(2 * jnp.pi)).astype(compute_dtype)


def descending_rank(values: jax.Array) -> jax.Array:
    """Position of each value in the descending order; of equal values the earlier comes first.

    Args:
        values: (N,) float.

    Returns:
        (N,) int32, a permutation of 0 .. N-1.

    Example:
        >>> import jax.numpy as jnp
        >>> print(descending_rank(jnp.array([0.5, 0.9, 0.5, 0.1])))
        [1 0 2 3]
    """
    order = jnp.argsort(values, descending=True, stable=True)
    positions = jnp.arange(values.shape[0], dtype=jnp.int32)
    return jnp.zeros_like(positions).at[order].set(positions, unique_indices=True)


def _compute_dtype(array: jax.Array) -> jnp.dtype:
    """float64 for float64, float32 for everything narrower."""
    return jnp.dtype(jnp.float64 if array.dtype == jnp.float64 else jnp.float32)


def _floating(values: jax.typing.ArrayLike) -> jax.Array:
    """The values as an array; integers become float32."""
    array = jnp.asarray(values)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.float32)


def _require_positive(name: str, value: float | jax.Array) -> None:
    """Rejects a number that is not above 0. A traced value cannot be checked."""
    if not isinstance(value, jax.core.Tracer) and not float(value) > 0:
        raise ValueError(f"{name} must be greater than 0, got {value}")


def _safe_log(weights: jax.Array) -> jax.Array:
    """log(weights), with `_LOG_ZERO` (and no gradient) where a weight is not positive."""
    positive = weights > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, weights, 1.0)), _LOG_ZERO)
