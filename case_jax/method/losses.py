"""The losses, one function for each equation. Each takes the outputs of one stream and returns a scalar.

`case_jax.method.objective` weights and adds them.
"""

import jax
import jax.numpy as jnp

__all__ = [
    "attention_loss",
    "cluster_classification_loss",
    "clustering_loss",
    "video_loss",
]

_TINY = 1e-7  # the published code adds this number to the bases and the counts of Eq. (2)


def video_loss(
    cas: jax.Array, selected: jax.Array, video_labels: jax.Array, *, background: bool = False
) -> jax.Array:
    """Video classification loss L_V, Eq. (1).

    The mean of the T-CAS logits over each class's selected snippets gives video logits. The loss is the
    cross-entropy of their softmax with the video labels, scaled to sum 1. Its scale does not depend on the
    number of classes.

    Beyond the paper there may be a background class, whose logit is 0. It is the label of videos without any
    action, and of no other. Its role is that of the auxiliary class of BaS-Net (Lee et al., AAAI 2020).

    Args:
        cas: (B, T, G) float, T-CAS logits.
        selected: (B, T, G) bool, the same number k of true values for every video and class.
        video_labels: (B, G) float, multi-hot Y, at least one class per video; with ``background`` none is
            allowed.
        background: whether there is a background class.

    Returns:
        () float, mean over videos.
    """
    weights = selected.astype(cas.dtype)
    video_logits = jnp.sum(cas * weights, axis=1) / jnp.sum(weights, axis=1)
    if background:
        free = 1 - jnp.max(video_labels, axis=-1, keepdims=True)
        video_labels = jnp.concatenate([video_labels, free], axis=-1)
        video_logits = jnp.pad(video_logits, ((0, 0), (0, 1)))
    target = video_labels / jnp.sum(video_labels, axis=-1, keepdims=True)
    return _cross_entropy(target, video_logits)


def attention_loss(attention: jax.Array, labels: jax.Array, *, gamma: float) -> jax.Array:
    """Generalised binary cross-entropy L_A of the attention, Eq. (2).

    Args:
        attention: (B, T) float, P^A.
        labels: (B, T) float, Q^A in {0, 1}.
        gamma: noise tolerance in (0, 1); towards 0 the loss becomes the cross-entropy.

    Returns:
        () float, mean over videos.
    """

    def side(label, probability):
        cost = (1 - (probability + _TINY) ** gamma) / gamma
        return jnp.sum(label * cost, axis=-1) / (jnp.sum(label, axis=-1) + _TINY)

    return jnp.mean(side(labels, attention) + side(1 - labels, 1 - attention))


def clustering_loss(cluster_logits: jax.Array, snippet_labels: jax.Array) -> jax.Array:
    """Snippet clustering loss L_S, Eq. (3).

    Args:
        cluster_logits: (..., K) float, L^S of one stream.
        snippet_labels: (..., K) float, Q^S, rows sum to 1.

    Returns:
        () float, mean over snippets.
    """
    return _cross_entropy(snippet_labels, cluster_logits)


def cluster_classification_loss(class_logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cluster classification loss L_C, Eq. (6).

    Args:
        class_logits: (K, 2) float, L^C of one stream.
        labels: (K, 2) float, Q^C, rows sum to 1.

    Returns:
        () float, mean over clusters.
    """
    return _cross_entropy(labels, class_logits)


def _cross_entropy(target: jax.Array, logits: jax.Array) -> jax.Array:
    return -jnp.mean(jnp.sum(target * jax.nn.log_softmax(logits, axis=-1), axis=-1))
