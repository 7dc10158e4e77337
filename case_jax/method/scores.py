"""Clustering-assisted testing (Sec. 4.3, Fig. 2c): features of whole videos to scores, on the device.

Many videos of any lengths are scored in a few device calls. The network looks at one snippet at a time, so
the snippets of all videos are scored one after another in blocks of equal size, whatever video they are from.
No snippet is scored twice: a video shorter than T, whose T samples repeat snippets, costs only the snippets
that it has. The last block is filled up; the scores of the filling are never read. Then the scores are dealt
out to the T samples of each video.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.config import CaseConfig
from case_jax.data.feature_files import read_snippets, video_length
from case_jax.data.packed import PackedFeatures
from case_jax.data.samplers import uniform_indices
from case_jax.method.labels import top_k_mask
from case_jax.method.network import CaseNetwork, StreamOutput, calibrated_cas, mean_over_streams, run_network

__all__ = [
    "Foreground",
    "SampledVideos",
    "Scorer",
    "VideoScores",
    "default_foreground",
    "fuse_scores",
    "sample_videos",
    "score_sampled",
    "score_videos",
    "score_window",
]


Foreground = Literal["attention", "transformed", "mixed"]  # P^A, P^T or both (P^M), Table 6


class VideoScores(NamedTuple):
    """Scores of B videos sampled to T snippets; P^T and P^M are None without cluster labels."""

    fused: jax.Array | np.ndarray  # (B, T, G) class activation sequences in [0, 1] that are localised
    video: jax.Array | np.ndarray  # (B, G) video-level class scores in [0, 1]
    attention: jax.Array | np.ndarray  # (B, T) P^A, mean over streams
    transformed_foreground: jax.Array | np.ndarray | None  # (B, T) P^T = P^S Q^C[:, 0], mean over streams
    mixed_foreground: jax.Array | np.ndarray | None  # (B, T) P^M = (P^A + P^T) / 2
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


# Scores are dealt out to at most this many (video, sample, class) triples in one call.
_SCORES_PER_CALL = 2**25


_uniform = jax.jit(jax.vmap(uniform_indices, in_axes=(0, None)), static_argnums=1)


class Scorer(Protocol):
    """What scoring needs of a training state; `case_jax.training.state.TrainState` is one."""

    @property
    def params(self) -> Mapping:
        """Parameters of ``network``."""

    @property
    def cluster_labels(self) -> jax.Array:
        """(K, 2) Q^C of the last training step."""

    @property
    def config(self) -> CaseConfig:
        """Hyper-parameters."""

    @property
    def network(self) -> CaseNetwork:
        """The network."""


class SampledVideos(NamedTuple):
    """V videos, each sampled uniformly to T snippets, and where to find these."""

    lengths: np.ndarray  # (V,) int32, T_v
    snippets: tuple[np.ndarray, ...]  # per video, the positions of its distinct sampled snippets
    samples: np.ndarray  # (V, T) int32, position of each sample among all the distinct snippets
    block_size: int  # snippets scored at a time
    features: PackedFeatures | Sequence[Mapping[str, np.ndarray]]  # on the device, or per video
    blocks: jax.Array | None  # (M, block_size) int32 rows of the features on the device


def sample_videos(
    features: PackedFeatures | Sequence[Mapping[str, np.ndarray]],
    *,
    num_snippets: int,
    block_size: int = 4096,
) -> SampledVideos:
    """Samples videos for `score_sampled`; do it once for videos that are scored again and again.

    Args:
        features: packed, which puts all of them on the first device; or per video, stream name -> (T_v, D),
            of which only a block at a time is there.
        num_snippets: T.
        block_size: how many snippets to score at a time.

    Returns:
        `SampledVideos`.
    """
    if isinstance(features, PackedFeatures):
        lengths = np.asarray(features.lengths, np.int32)
    else:
        lengths = np.array([video_length(video) for video in features], np.int32)
    distinct, samples, count = [], np.empty((len(lengths), num_snippets), np.int32), 0
    for row, positions in zip(samples, np.asarray(_uniform(lengths, num_snippets))):
        of_video, inverse = np.unique(positions, return_inverse=True)
        distinct.append(of_video.astype(np.int32))
        row[:] = count + inverse
        count += len(of_video)
    block_size = min(block_size, count)
    blocks = None
    if isinstance(features, PackedFeatures):
        rows = np.concatenate([first + of_video for first, of_video in zip(features.first, distinct)])
        filled = np.zeros(-(-count // block_size) * block_size, np.int32)
        filled[:count] = rows
        device = jax.local_devices()[0]
        features, blocks = jax.device_put((features, filled.reshape(-1, block_size)), device)
    return SampledVideos(lengths, tuple(distinct), samples, block_size, features, blocks)


def score_sampled(
    state: Scorer, videos: SampledVideos, *, foreground: Foreground | None = None
) -> VideoScores:
    """Scores sampled videos.

    Args:
        state: a trained state on one device; its Q^C of the last step is used.
        videos: V videos from `sample_videos`.
        foreground: as `case_jax.method.scores.score_videos`; default "mixed" (P^M) with clustering-assisted
            testing, else "attention" (P^A).

    Returns:
        `VideoScores` with V in place of B, on the device and maybe still being computed.
    """
    config, network = state.config, state.network
    if foreground is None:
        foreground = default_foreground(config)
    if videos.blocks is not None:
        outputs = _score_blocks(state.params, videos.features, videos.blocks, network=network)
    else:
        scored = []
        for block in _read_blocks(videos, network.streams):
            scored.append(_score_block(state.params, block, network=network))
            jax.block_until_ready(scored[-2:-1])  # one runs and one waits: memory holds no more blocks
        outputs = jax.tree.map(lambda *parts: jnp.concatenate(parts), *scored)

    num_videos, num_snippets = videos.samples.shape
    at_once = min(num_videos, max(1, _SCORES_PER_CALL // (num_snippets * network.num_classes)))
    deal_out = functools.partial(
        _deal_out,
        outputs,
        state.cluster_labels if config.ccc else None,
        top_k=config.top_k,
        foreground=foreground,
    )
    if at_once == num_videos:
        return deal_out(videos.samples)
    # The last videos are filled up with the first, so that only one shape is compiled.
    samples = np.resize(videos.samples, (-(-num_videos // at_once) * at_once, num_snippets))
    parts = map(deal_out, samples.reshape(-1, at_once, num_snippets))
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays)[:num_videos], *parts)


def default_foreground(config: CaseConfig) -> Foreground:
    """With clustering-assisted testing "mixed" (P^M), otherwise "attention" (P^A)."""
    return "mixed" if config.clustering_assisted_testing else "attention"


@functools.partial(jax.jit, static_argnames=("network", "top_k", "foreground"))
def score_window(
    params: Mapping,
    cluster_labels: jax.Array | None,
    rows: Mapping[str, jax.Array],
    samples: jax.Array,
    *,
    network: CaseNetwork,
    top_k: int,
    foreground: Foreground,
) -> tuple[jax.Array, jax.Array]:
    """Scores T samples of one video.

    Args:
        params: parameters of ``network``.
        cluster_labels: (K, 2) Q^C; may be None for "attention".
        rows: stream name -> (R, D), the distinct snippets among the samples, and filling after them.
        samples: (T,) int32 position of each sample in ``rows``. No row that none of them names matters.
        network: the network (static).
        top_k: k of the video score (static).
        foreground: which foreground probability to fuse (static).

    Returns:
        (T, G) fused class activation sequences and (G,) video scores, see `VideoScores`.
    """
    outputs = _score_block(params, rows, network=network)
    scores = _deal_out(outputs, cluster_labels, samples[None], top_k=top_k, foreground=foreground)
    return scores.fused[0], scores.video[0]


@functools.partial(jax.jit, static_argnames="network")
def _score_block(
    params: Mapping, rows: Mapping[str, jax.Array], *, network: CaseNetwork
) -> dict[str, StreamOutput]:
    """What the streams say about (R, D) snippets, with R leading; without the embeddings."""
    outputs = run_network(network, params, {name: rows[name][None] for name in network.streams})
    return {
        name: jax.tree.map(lambda array: array[0], out._replace(embedding=None))
        for name, out in outputs.items()
    }


@functools.partial(jax.jit, static_argnames="network")
def _score_blocks(
    params: Mapping, features: PackedFeatures, blocks: jax.Array, *, network: CaseNetwork
) -> dict[str, StreamOutput]:
    def one_block(rows):
        gathered = {
            name: jnp.asarray(features.rows[name]).at[rows].get(mode="promise_in_bounds")
            for name in network.streams
        }
        return _score_block(params, gathered, network=network)

    outputs = jax.lax.map(one_block, blocks)
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), outputs)


@functools.partial(jax.jit, static_argnames=("top_k", "foreground"))
def _deal_out(outputs, cluster_labels, samples, *, top_k, foreground) -> VideoScores:
    """Scores of distinct snippets to those of the (V, T) samples, and of videos."""
    sampled = jax.tree.map(lambda array: array.at[samples].get(mode="promise_in_bounds"), outputs)
    return fuse_scores(sampled, cluster_labels, top_k=top_k, foreground=foreground)


def _read_blocks(videos: SampledVideos, streams: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """The distinct snippets of all videos, block by block, the last one filled up with zeros."""
    assert not isinstance(videos.features, PackedFeatures)
    waiting: dict[str, list[np.ndarray]] = {stream: [] for stream in streams}
    count = 0
    for video, snippets in zip(videos.features, videos.snippets):
        for stream in streams:
            waiting[stream].append(read_snippets(video, stream, snippets))
        count += len(snippets)
        while count >= videos.block_size:
            block, waiting = _split_off(waiting, videos.block_size)
            count -= videos.block_size
            yield block
    if count:
        last, _ = _split_off(waiting, count)
        yield {name: np.pad(rows, ((0, videos.block_size - count), (0, 0))) for name, rows in last.items()}


def _split_off(waiting: dict[str, list[np.ndarray]], count: int):
    joined = {stream: np.concatenate(parts) for stream, parts in waiting.items()}
    first = {stream: rows[:count] for stream, rows in joined.items()}
    return first, {stream: [rows[count:]] for stream, rows in joined.items()}
