"""The losses, one function per equation; each takes one stream and returns a scalar."""

import jax
import jax.numpy as jnp

__all__ = [
    "attention_loss",
    "cluster_classification_loss",
    "clustering_loss",
    "total_loss",
    "video_loss",
]

_TINY = 1e-7  # the published code adds it to the bases and the counts of Eq. (2)


def video_loss(cas: jax.Array, selected: jax.Array, video_labels: jax.Array) -> jax.Array:
    """Video classification loss L_V, Eq. (1).

    The T-CAS logits averaged over each class's selected snippets give video logits; cross-entropy of
    their softmax with the video label scaled to sum 1. Its scale does not depend on the number of classes.

    Args:
        cas: (B, T, G) T-CAS logits.
        selected: (B, T, G) bool, the same number of true values k for every video and class.
        video_labels: (B, G) multi-hot Y, at least one class per video.

    Returns:
        () mean over videos.
    """
    weights = selected.astype(cas.dtype)
    video_logits = jnp.sum(cas * weights, axis=1) / jnp.sum(weights, axis=1)
    target = video_labels / jnp.sum(video_labels, axis=-1, keepdims=True)
    return _cross_entropy(target, video_logits)


def attention_loss(attention: jax.Array, labels: jax.Array, *, gamma: float = 0.7) -> jax.Array:
    """Generalised binary cross-entropy L_A of the attention, Eq. (2).

    Args:
        attention: (B, T) P^A.
        labels: (B, T) Q^A in {0, 1}.
        gamma: noise tolerance in (0, 1); towards 0 it becomes cross-entropy.

    Returns:
        () mean over videos.
    """

    def side(label, probability):
        cost = (1 - (probability + _TINY) ** gamma) / gamma
        return jnp.sum(label * cost, axis=-1) / (jnp.sum(label, axis=-1) + _TINY)

    return jnp.mean(side(labels, attention) + side(1 - labels, 1 - attention))


def clustering_loss(cluster_logits: jax.Array, snippet_labels: jax.Array) -> jax.Array:
    """Snippet clustering loss L_S, Eq. (3).

    Args:
        cluster_logits: (..., K) L^S of one stream.
        snippet_labels: (..., K) Q^S, rows sum to 1.

    Returns:
        () mean over snippets.
    """
    return _cross_entropy(snippet_labels, cluster_logits)


def cluster_classification_loss(class_logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cluster classification loss L_C, Eq. (6).

    Args:
        class_logits: (K, 2) L^C of one stream.
        labels: (K, 2) Q^C, rows sum to 1.

    Returns:
        () mean over clusters.
    """
    return _cross_entropy(labels, class_logits)


def total_loss(
    video: jax.Array,
    attention: jax.Array,
    clustering: jax.Array | float = 0.0,
    cluster_classification: jax.Array | float = 0.0,
    *,
    lambda_s: float = 1.0,
    lambda_c: float = 0.3,
) -> jax.Array:
    """Overall objective L = (L_V + L_A) + lambda_S L_S + lambda_C L_C, Eq. (14); all scalars."""
    return video + attention + lambda_s * clustering + lambda_c * cluster_classification


def _cross_entropy(target: jax.Array, logits: jax.Array) -> jax.Array:
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1))
