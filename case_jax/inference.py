"""Clustering-assisted testing (Sec. 4.3, Fig. 2c): features of whole videos to scores, on the device."""

import functools
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.labeling import top_k_mask
from case_jax.model import CaseNetwork, StreamOutput, calibrated_cas, mean_over_streams, run_network

__all__ = ["Foreground", "VideoScores", "fuse_scores", "score_videos"]

Foreground = Literal["attention", "transformed", "mixed"]  # P^A, P^T or both (P^M), Table 6


class VideoScores(NamedTuple):
    """Scores of B videos sampled to T snippets; P^T and P^M are None without cluster labels."""

    fused: jax.Array | np.ndarray  # (B, T, G) class activation sequences in [0, 1] that are localised
    video: jax.Array | np.ndarray  # (B, G) video-level class scores in [0, 1]
    attention: jax.Array | np.ndarray  # (B, T) P^A, mean over streams
    transformed: jax.Array | np.ndarray | None  # (B, T) P^T = P^S Q^C[:, 0], mean over streams
    mixed: jax.Array | np.ndarray | None  # (B, T) P^M = (P^A + P^T) / 2
    clusters: jax.Array | np.ndarray | None  # (B, T, K) P^S, mean over streams


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
    """Scores every snippet and video.

    Args:
        params: parameters of ``network``.
        cluster_labels: (K, 2) Q^C of the last training step; may be None for "attention".
        features: stream name -> (B, T, D) float32.
        network: the network (static).
        top_k: k of the video score (static).
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
    """What the streams say about snippets, as scores of snippets and videos.

    The fused sequence of S streams is (mean of softmax(CAS) + sum of the foreground probabilities) / (1 +
    their number): P^A and P^T of each stream ("mixed", which is P^M), or only one kind (Table 6). The video
    score is the softmax of the CAS logits averaged over the fused sequence's top-k, mean over streams.

    Args:
        outputs: stream name -> `StreamOutput`; embeddings are not used.
        cluster_labels: (K, 2) Q^C of the last training step; may be None for "attention".
        top_k: k of the video score.
        foreground: which foreground probability to fuse.

    Returns:
        `VideoScores`.

    Raises:
        ValueError: if ``foreground`` needs clusters and there are none.
    """
    streams = list(outputs.values())
    attention = mean_over_streams(out.attention for out in streams)
    cluster_logits = [out.cluster_logits for out in streams if out.cluster_logits is not None]

    transformed = mixed = clusters = None
    per_stream_transformed = []
    if cluster_labels is not None and cluster_logits:
        assignments = [jax.nn.softmax(logits, axis=-1) for logits in cluster_logits]
        per_stream_transformed = [
            jnp.matmul(p, cluster_labels[:, 0], precision=jax.lax.Precision.HIGHEST) for p in assignments
        ]
        transformed = mean_over_streams(per_stream_transformed)
        mixed = (attention + transformed) / 2
        clusters = mean_over_streams(assignments)
    elif foreground != "attention":
        raise ValueError(f"foreground={foreground!r} needs cluster labels and a clustering head")

    if foreground == "transformed":
        without_attention = {
            name: out._replace(attention=p_t)
            for (name, out), p_t in zip(outputs.items(), per_stream_transformed)
        }
        fused = calibrated_cas(without_attention)
    elif foreground == "mixed":
        fused = calibrated_cas(outputs, *per_stream_transformed)
    else:
        fused = calibrated_cas(outputs)

    selected = top_k_mask(fused, top_k).astype(fused.dtype)
    video = mean_over_streams(
        jax.nn.softmax(jnp.sum(out.cas * selected, axis=1) / top_k, axis=-1) for out in streams
    )
    return VideoScores(fused, video, attention, transformed, mixed, clusters)
