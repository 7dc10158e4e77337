"""Clustering-assisted testing (Sec. 4.3, Fig. 2c): what the streams say about snippets, as scores.

This file scores B videos of T snippets. `case_jax.method.sampled_videos` scores videos of any lengths.
"""

import functools
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.config import CaseConfig
from case_jax.method.labels import top_k_mask
from case_jax.method.network import (
    CaseNetwork,
    StreamOutput,
    calibrated_cas,
    class_probabilities,
    class_softmax,
    mean_over_streams,
    run_network,
)

__all__ = [
    "Foreground",
    "VideoScores",
    "default_foreground",
    "fuse_scores",
    "mean_with_seed",
    "score_videos",
    "separation",
]


Scores = TypeVar("Scores")

Foreground = Literal["attention", "transformed", "mixed"]  # P^A, P^T or both (P^M), Table 6


class VideoScores(NamedTuple):
    """Scores of B videos sampled to T snippets, all float32. P^T, P^M and P^S are None without clusters."""

    fused: jax.Array | np.ndarray  # (B, T, G) class activation sequences in [0, 1], which are localised
    video: jax.Array | np.ndarray  # (B, G) video-level class scores in [0, 1]
    attention: jax.Array | np.ndarray  # (B, T) P^A, mean over streams
    transformed_foreground: jax.Array | np.ndarray | None  # (B, T) P^T = P^S Q^C[:, 0], mean over streams
    mixed_foreground: jax.Array | np.ndarray | None  # (B, T) P^M = (P^A + P^T) / 2
    clusters: jax.Array | np.ndarray | None  # (B, T, K) P^S, mean over streams
    # (B,) in [-1, 1], see `separation`; None with a single class, if no background class is beside it
    separation: jax.Array | np.ndarray | None = None
    # (B, T, 4, H), what a second stage's first layer makes of the snippets; None without one
    projected: jax.Array | np.ndarray | None = None


def default_foreground(config: CaseConfig) -> Foreground:
    """With clustering-assisted testing "mixed" (P^M), otherwise "attention" (P^A)."""
    return "mixed" if config.clustering_assisted_testing else "attention"


def mean_with_seed(mean: Scores | None, scores: Scores, count: int) -> Scores:
    """Scores of the same videos by several seeds, averaged one by one: T-CAS, P^A, P^T and video scores.

    So memory holds the mean and one seed's scores, however many seeds there are.

    Args:
        mean: the mean of the seeds before, `VideoScores` or a tuple of arrays; None if there are none.
        scores: those of one seed more, of the same shapes.
        count: how many seeds there are with this one.

    Returns:
        The mean of ``count`` seeds; of a single seed its own scores, to the bit.
    """
    if mean is None:
        return scores
    return jax.tree.map(lambda before, more: before + (more - before) / count, mean, scores)


@functools.partial(jax.jit, static_argnames=("network", "top_k", "foreground"))
def score_videos(
    params: Mapping,
    cluster_labels: jax.Array | None,
    features: Mapping[str, jax.Array],
    *,
    network: CaseNetwork,
    top_k: int,
    foreground: Foreground = "mixed",
) -> VideoScores:
    """Scores every snippet and every video of a batch.

    Args:
        params: parameters of ``network``.
        cluster_labels: (K, 2) float32, Q^C of the last training step; may be None for "attention".
        features: stream name -> (B, T, D) float32.
        network: the network (static).
        top_k: how many snippets a video score is a mean over, for each class (static).
        foreground: which foreground probability to fuse (static).

    Returns:
        `VideoScores`, see `fuse_scores`.

    Raises:
        ValueError: if ``foreground`` needs clusters and there are none.
    """
    outputs = run_network(network, params, features)
    return fuse_scores(outputs, cluster_labels, top_k=top_k, foreground=foreground)


def fuse_scores(
    outputs: Mapping[str, StreamOutput],
    cluster_labels: jax.Array | None,
    *,
    top_k: int,
    foreground: Foreground = "mixed",
) -> VideoScores:
    """The outputs of the streams as scores of snippets and videos.

    The fused sequence of S streams is (mean of softmax(CAS) + sum of the foreground probabilities) / (1 +
    their number). These are P^A and P^T of each stream ("mixed", which is P^M), or only one of them (Table
    6). The video score of a class is the mean of its CAS logits over the fused sequence's top-k snippets, as
    a softmax over classes, mean over streams. With a background class, that takes part in the softmax, and
    the video scores sum to the probability that the video shows any action.

    Args:
        outputs: stream name -> `StreamOutput`; embeddings are not used.
        cluster_labels: (K, 2) float32, Q^C of the last training step; may be None for "attention".
        top_k: how many snippets a video score is a mean over, for each class.
        foreground: which foreground probability to fuse.

    Returns:
        `VideoScores`.

    Raises:
        ValueError: if ``foreground`` needs clusters and there are none.
    """
    attention = mean_over_streams(out.attention for out in outputs.values())
    assignments, per_stream_transformed = _cluster_scores(outputs, cluster_labels)
    transformed = mixed = clusters = None
    if assignments:
        transformed = mean_over_streams(per_stream_transformed)
        mixed = (attention + transformed) / 2
        clusters = mean_over_streams(assignments)
    elif foreground != "attention":
        raise ValueError(f"foreground={foreground!r} needs cluster labels and a clustering head")

    fused = _fused_sequence(outputs, per_stream_transformed, foreground)
    selected = top_k_mask(fused, top_k).astype(fused.dtype)
    video = mean_over_streams(
        class_softmax(
            jnp.sum(out.cas * selected, axis=1) / top_k,
            None if out.background is None else out.background.mean(axis=1),
        )
        for out in outputs.values()
    )
    separated = None
    if video.shape[-1] > 1 or all(out.background is not None for out in outputs.values()):
        separated = separation(class_probabilities(outputs), attention, video)
    return VideoScores(fused, video, attention, transformed, mixed, clusters, separated)


def separation(probability: jax.Array, attention: jax.Array, video: jax.Array) -> jax.Array:
    """By how much the video's classes are likelier in the foreground than in the background.

    The evidence of a snippet is the sum of its class probabilities, weighted by the video's class scores.
    The separation is the evidence's mean weighted by P^A, less its mean weighted by 1 - P^A. Separate
    branches learn attention and classes, so where both have found the actions it is large, and where the
    attention has settled on something else it is about 0. It needs no annotations. It is not from the paper.

    Args:
        probability: (B, T, G) float32, the T-CAS as probabilities.
        attention: (B, T) float32 P^A.
        video: (B, G) float32 video scores.

    Returns:
        (B,) float32 in [-1, 1].

    Example:
        >>> import jax.numpy as jnp
        >>> found = jnp.array([[[1.0, 0.0], [0.5, 0.5]]])  # the first of two snippets shows the first class
        >>> print(separation(found, jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0]])))
        [0.5]
    """
    evidence = jnp.einsum("btg,bg->bt", probability, video, precision=jax.lax.Precision.HIGHEST)

    def mean(weights: jax.Array) -> jax.Array:
        return jnp.sum(weights * evidence, axis=1) / jnp.maximum(jnp.sum(weights, axis=1), 1e-9)

    return mean(attention) - mean(1 - attention)


def _cluster_scores(
    outputs: Mapping[str, StreamOutput], cluster_labels: jax.Array | None
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Each stream's P^S, (B, T, K), and P^T, (B, T); empty without clusters or their labels."""
    if cluster_labels is None:
        return [], []
    assignments = [
        jax.nn.softmax(out.cluster_logits, axis=-1)
        for out in outputs.values()
        if out.cluster_logits is not None
    ]
    transformed = [
        jnp.matmul(p_s, cluster_labels[:, 0], precision=jax.lax.Precision.HIGHEST) for p_s in assignments
    ]
    return assignments, transformed


def _fused_sequence(
    outputs: Mapping[str, StreamOutput], per_stream_transformed: list[jax.Array], foreground: Foreground
) -> jax.Array:
    """(B, T, G), the T-CAS calibrated by the chosen foreground probabilities."""
    if foreground == "attention":
        return calibrated_cas(outputs)
    if foreground == "mixed":
        return calibrated_cas(outputs, *per_stream_transformed)
    in_place_of_attention = {
        name: out._replace(attention=p_t) for (name, out), p_t in zip(outputs.items(), per_stream_transformed)
    }
    return calibrated_cas(in_place_of_attention)
