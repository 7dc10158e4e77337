"""The test snippets that belong to each cluster most (Figure 6)."""

from typing import NamedTuple

import jax
import numpy as np

from case_jax.data.dataset import Dataset, in_action
from case_jax.data.samplers import uniform_indices
from case_jax.evaluation.clusters import summarise_clusters
from case_jax.method.scores import VideoScores
from experiments.ablations.drawing import GalleryRow, Member
from experiments.ablations.frames import Frames

__all__ = ["gallery"]


def gallery(
    scores: VideoScores,
    cluster_labels: np.ndarray,
    dataset: Dataset,
    *,
    frames: Frames | None = None,
    num_members: int = 6,
) -> list[GalleryRow]:
    """Every cluster with the test snippets that belong to it most, one snippet of each video.

    Args:
        scores: scores of the V test videos, with (V, T, K) ``clusters`` (P^S).
        cluster_labels: (K, 2) Q^C.
        dataset: its test split has the annotations and the times of snippets.
        frames: frames of the test videos; None shows no frames.
        num_members: how many snippets to show per cluster.

    Returns:
        One row per cluster, in the clusters' order. Shares and purities are over distinct snippets, since a
        short video is sampled several times at the same snippet.
    """
    assignments = np.asarray(scores.clusters)
    sampled = _sample(dataset, assignments.shape[1])
    summary = summarise_clusters(assignments[sampled.distinct], sampled.in_action[sampled.distinct])
    return [
        GalleryRow(
            k,
            float(foreground),
            float(summary.hard_share[k]),
            float(summary.hard_in_action[k]),
            _members(assignments[:, :, k], sampled, dataset, frames, num_members),
        )
        for k, foreground in enumerate(np.asarray(cluster_labels)[:, 0])
    ]


class _Sampled(NamedTuple):
    """The T snippets that are sampled from each of V test videos."""

    middle: np.ndarray  # (V, T) float64, middle of each snippet in seconds
    snippet_seconds: np.ndarray  # (V,) float64, how long a snippet of each video lasts
    in_action: np.ndarray  # (V, T) bool, whether an annotated action is on in the middle
    distinct: np.ndarray  # (V, T) bool, false where a snippet repeats the one before


def _sample(dataset: Dataset, num_samples: int) -> _Sampled:
    videos = dataset.test.videos
    lengths = np.array([video.num_snippets for video in videos], np.int32)
    snippet = np.asarray(jax.vmap(uniform_indices, in_axes=(0, None))(lengths, num_samples))
    snippet_seconds = np.array([video.seconds(dataset.info) for video in videos]) / lengths
    middle = (snippet + 0.5) * snippet_seconds[:, None]
    return _Sampled(
        middle,
        snippet_seconds,
        np.stack([in_action(video.annotations, m) for video, m in zip(videos, middle)]),
        np.diff(snippet, axis=1, prepend=-1) > 0,
    )


def _members(
    probability: np.ndarray, sampled: _Sampled, dataset: Dataset, frames: Frames | None, count: int
) -> tuple[Member, ...]:
    """The best snippet of each of the ``count`` best videos, by their (V, T) probability of one cluster."""
    videos = dataset.test.videos
    best = probability.argmax(axis=1)
    order = np.argsort(-probability[np.arange(len(videos)), best], kind="stable")[:count]
    members = []
    for v in order:
        second, name = float(sampled.middle[v, best[v]]), videos[v].name
        members.append(
            Member(
                name,
                round(second - float(sampled.snippet_seconds[v]) / 2, 3),
                float(probability[v, best[v]]),
                bool(sampled.in_action[v, best[v]]),
                None if frames is None else frames.at(name, second),
            )
        )
    return tuple(members)
