"""Snippet embeddings and cluster prototypes in the plane (Figure 7); needs scikit-learn (extra `plots`)."""

from collections.abc import Mapping

import jax
import numpy as np
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from case_jax.data.dataset import Dataset, in_action
from case_jax.data.feature_files import read_snippets
from case_jax.training.state import TrainState
from experiments.ablations.drawing import EmbeddingPanel

__all__ = ["agreement", "draw_snippets", "maps"]


def maps(
    state: TrainState, features: Mapping[str, np.ndarray], foreground: np.ndarray, *, name: str
) -> list[EmbeddingPanel]:
    """t-SNE of snippets, together with the prototypes if the model has clusters.

    Both are normalised first, because the network compares them by their cosine.

    Args:
        state: a trained state.
        features: stream -> (1, N, D) features of N snippets, as `draw_snippets` returns them.
        foreground: (N,) bool, whether an annotated action is on in each snippet.
        name: name of the model.

    Returns:
        One panel per stream.
    """
    outputs = jax.jit(state.network.apply)({"params": state.params}, features)
    cluster_foreground = np.asarray(state.cluster_labels)[:, 0] > 0.5
    panels = []
    for stream in state.network.streams:
        points = _unit(np.asarray(outputs[stream].embedding[0], np.float32))
        prototypes = np.zeros((0, points.shape[1]), np.float32)
        if state.config.ccc:
            prototypes = _unit(np.asarray(state.params[stream]["prototypes"], np.float32))
        together = np.concatenate([points, prototypes])
        perplexity = min(30.0, (len(together) - 1) / 3)
        plane = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(together)
        panels.append(
            EmbeddingPanel(
                f"{name}, {stream}",
                plane[: len(points)],
                foreground,
                plane[len(points) :],
                cluster_foreground[: len(prototypes)],
                agreement(points, foreground),
            )
        )
    return panels


def draw_snippets(dataset: Dataset, num_points: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draws test snippets at random, without replacement.

    Args:
        dataset: the snippets are drawn from its test split.
        num_points: how many to draw; all snippets if there are fewer.

    Returns:
        stream -> (1, N, D) features, and (N,) bool, whether an annotated action is on in the middle of each
        snippet.
    """
    videos = dataset.test.videos
    ends = np.cumsum([video.num_snippets for video in videos])
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.permutation(ends[-1])[:num_points])
    features: dict[str, list[np.ndarray]] = {stream: [] for stream in dataset.info.streams}
    foreground = []
    for video, end in zip(videos, ends):
        positions = drawn[(drawn >= end - video.num_snippets) & (drawn < end)] - (end - video.num_snippets)
        for stream, parts in features.items():
            parts.append(read_snippets(video.features, stream, positions))
        seconds_per_snippet = video.seconds(dataset.info) / video.num_snippets
        foreground.append(in_action(video.annotations, (positions + 0.5) * seconds_per_snippet))
    return {s: np.concatenate(parts)[None] for s, parts in features.items()}, np.concatenate(foreground)


def agreement(points: np.ndarray, foreground: np.ndarray, *, num_neighbours: int = 10) -> float:
    """How well foreground and background are separated in a space.

    Args:
        points: (N, D) float.
        foreground: (N,) bool.
        num_neighbours: how many nearest neighbours of a point to look at.

    Returns:
        The share of a point's nearest neighbours that are of its kind, averaged over the points of each kind,
        then over both kinds (if there are two): 0.5 by chance, 1 if the kinds are separate.
    """
    count = min(num_neighbours, len(points) - 1)
    neighbours = NearestNeighbors(n_neighbors=count).fit(points).kneighbors(return_distance=False)
    same = (foreground[neighbours] == foreground[:, None]).mean(axis=1)
    return float(np.mean([same[foreground == kind].mean() for kind in np.unique(foreground)]))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
