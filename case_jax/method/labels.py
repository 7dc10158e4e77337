"""The three kinds of pseudo-labels: Q^A (Sec. 3), Q^S and Q^C (Sec. 4.2). No gradient flows through a label.

`extend_foreground` is not in the paper.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from case_jax.config import PriorRank
from case_jax.sinkhorn import SinkhornResult, log_gaussian_rank_prior, sinkhorn_with_error

__all__ = ["extend_foreground", "label_clusters", "label_foreground", "label_snippets", "top_k_mask"]


def top_k_mask(activations: jax.Array, k: int) -> jax.Array:
    """Marks the k highest activations over time.

    Videos shorter than T repeat snippets, so equal activations are normal. Of equal activations the earlier
    snippet's is taken, on every backend.

    Args:
        activations: (B, T, G) float, for example the calibrated T-CAS.
        k: how many snippets to mark per video and class, 1 <= k <= T.

    Returns:
        (B, T, G) bool with exactly k true values along the time axis.

    Raises:
        ValueError: if k is not between 1 and T.

    Example:
        >>> import jax.numpy as jnp
        >>> print(top_k_mask(jnp.array([[[0.2], [0.7], [0.7], [0.7]]]), k=2)[0, :, 0])
        [False  True  True False]
    """
    if not 1 <= k <= activations.shape[1]:
        raise ValueError(f"k must be between 1 and T = {activations.shape[1]}, got {k}")
    activations = jax.lax.stop_gradient(activations)
    # The k-th highest value is the same on every backend; which of several equal activations `top_k` reports
    # is not. The barrier keeps XLA from turning "the last of the top-k" into a full sort, 4 times slower on a
    # CPU.
    over_time = jnp.swapaxes(activations, 1, 2)
    highest, _ = jax.lax.optimization_barrier(jax.lax.top_k(over_time, k))
    kth = highest[..., -1:]
    above, equal = over_time > kth, over_time == kth
    room = k - jnp.sum(above, axis=-1, keepdims=True, dtype=jnp.int32)
    selected = above | (equal & (jnp.cumsum(equal, axis=-1, dtype=jnp.int32) <= room))
    return jnp.swapaxes(selected, 1, 2)


def label_foreground(selected: jax.Array, video_labels: jax.Array) -> jax.Array:
    """Foreground pseudo-labels Q^A: 1 for snippets among the top-k of a ground-truth class (Sec. 3).

    Args:
        selected: (B, T, G) bool from `top_k_mask`.
        video_labels: (B, G) float, multi-hot video labels Y.

    Returns:
        (B, T) float32 in {0, 1}.
    """
    return jnp.any(selected & (video_labels > 0)[:, None, :], axis=-1).astype(jnp.float32)


def extend_foreground(
    labels: jax.Array, attention: jax.Array, transformed: jax.Array, *, rule: Literal["agreed", "mixed"]
) -> jax.Array:
    """Q^A, extended by snippets that the clusters find to be foreground. Not in the paper.

    Top-k selection marks the same share of every video, however much of it is action. Every action that it
    misses teaches the attention that this action is background. This function also marks those of the missed
    snippets that the rule takes for foreground.

    Args:
        labels: (B, T) float, Q^A in {0, 1}.
        attention: (B, T) float, P^A, fused over streams.
        transformed: (B, T) float, P^T, the foreground probability of a snippet's clusters.
        rule: "agreed", where P^A and P^T both exceed 1/2; "mixed", where their mean P^M does.

    Returns:
        (B, T) in {0, 1}, in the dtype of ``labels``.

    Example:
        >>> import jax.numpy as jnp
        >>> marked = jnp.array([[1.0, 0.0, 0.0, 0.0]])
        >>> p_a, p_t = jnp.array([[0.1, 0.6, 0.2, 0.6]]), jnp.array([[0.0, 0.7, 0.9, 0.3]])
        >>> for rule in ("agreed", "mixed"):
        ...     print(extend_foreground(marked, p_a, p_t, rule=rule))
        [[1. 1. 0. 0.]]
        [[1. 1. 1. 0.]]
    """
    if rule == "agreed":
        found = jnp.minimum(attention, transformed) > 0.5
    else:
        found = attention + transformed > 1
    return jax.lax.stop_gradient(jnp.maximum(labels, found.astype(labels.dtype)))


def label_snippets(
    cluster_logits: jax.Array,
    foreground: jax.Array,
    cluster_foreground: jax.Array | None,
    *,
    epsilon: float,
    num_iters: int,
    sigma: float,
    rank: PriorRank,
    transport: bool,
    hard: bool,
) -> SinkhornResult:
    """Cluster pseudo-labels Q^S of snippets: Eqs. (7)-(9) with Eq. (12), or with Eq. (10).

    Clusters get equal shares of the snippets (Eq. 9). With ``cluster_foreground``, the prior of Eq. (11)
    draws snippets of high foreground rank to foreground clusters. ``transport`` and ``hard`` give the labels
    that Table 4 compares with.

    Args:
        cluster_logits: (N, K) float, L^S, fused over streams.
        foreground: (N,) float, P^A, fused over streams.
        cluster_foreground: (K,) float, Q^C[:, 0] of the previous step, or None for Eq. (10), no prior.
        epsilon: see `case_jax.sinkhorn.sinkhorn`.
        num_iters: see `case_jax.sinkhorn.sinkhorn`.
        sigma: see `case_jax.sinkhorn.gaussian_rank_prior`.
        rank: see `case_jax.sinkhorn.gaussian_rank_prior`.
        transport: False drops the constraint of Eq. (8), and with it transport and prior: the labels are
            the predictions themselves, softmax of L^S.
        hard: whether to make the labels one-hot. Of equal entries the first cluster's is taken.

    Returns:
        `SinkhornResult` with the (N, K) float32 plan Q^S.
    """
    scores = jax.lax.stop_gradient(cluster_logits).astype(jnp.float32)
    if not transport:
        result = _with_marginal_error(jax.nn.softmax(scores, axis=-1))
    else:
        if cluster_foreground is not None:
            # exp(L / epsilon) * prior = exp((L + epsilon * log prior) / epsilon): adding the logarithm of the
            # prior stays exact where the prior of a narrow sigma would underflow.
            log_prior = log_gaussian_rank_prior(
                *jax.lax.stop_gradient((foreground, cluster_foreground)), sigma=sigma, rank=rank
            )
            scores = scores + epsilon * log_prior
        result = sinkhorn_with_error(scores, epsilon=epsilon, num_iters=num_iters)
    if hard:
        best = jnp.argmax(result.plan, axis=-1)
        result = _with_marginal_error(jax.nn.one_hot(best, scores.shape[1], dtype=scores.dtype))
    return jax.lax.stop_gradient(result)


def _with_marginal_error(labels: jax.Array) -> SinkhornResult:
    """(N, K) labels that no transport made, and their distance from equal shares (Eq. 9)."""
    return SinkhornResult(labels, jnp.sum(jnp.abs(labels.mean(axis=0) - 1 / labels.shape[1])))


def label_clusters(
    class_logits: jax.Array, foreground_share: jax.Array | None, *, epsilon: float, num_iters: int
) -> SinkhornResult:
    """Foreground and background pseudo-labels Q^C of clusters: Eqs. (7), (8), (10) with Eq. (13).

    Args:
        class_logits: (K, 2) float, L^C, fused over streams; column 0 is foreground.
        foreground_share: () float, mean of Q^A (beyond the paper, of P^A) over the batch: beta^C is then
            [share, 1 - share] (Eq. 13). None gives equal shares (Eq. 9).
        epsilon: see `case_jax.sinkhorn.sinkhorn`.
        num_iters: see `case_jax.sinkhorn.sinkhorn`.

    Returns:
        `SinkhornResult` with the (K, 2) float32 plan Q^C.
    """
    marginal = None
    if foreground_share is not None:
        marginal = jnp.stack([foreground_share, 1 - foreground_share])
    result = sinkhorn_with_error(
        class_logits.astype(jnp.float32), column_marginal=marginal, epsilon=epsilon, num_iters=num_iters
    )
    return jax.lax.stop_gradient(result)
