"""Scores of many whole videos of any lengths, in a few calls of the device.

The network looks at one snippet at a time. So the snippets of all videos are scored one after another in
blocks of equal size, across the borders of videos. No snippet is scored twice: of a video shorter than T,
whose T samples repeat snippets, only the snippets that it has are scored. The last block is filled up; the
scores of the filling are never read. Then each video gets the scores of its T samples.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.config import CaseConfig
from case_jax.data.feature_files import read_snippets, video_length
from case_jax.data.packed import PackedFeatures
from case_jax.data.samplers import uniform_indices
from case_jax.method.network import CaseNetwork, StreamOutput, run_network
from case_jax.method.scores import Foreground, VideoScores, default_foreground, fuse_scores

__all__ = [
    "SampledVideos",
    "Scorer",
    "gather_block",
    "read_blocks",
    "sample_videos",
    "score_sampled",
    "score_window",
    "score_window_fully",
]

# One call gives at most this many (video, sample, class) triples their scores.
_SCORES_PER_CALL = 2**25

_uniform = jax.jit(jax.vmap(uniform_indices, in_axes=(0, None)), static_argnums=1)


class Scorer(Protocol):
    """What scoring needs of a training state; `case_jax.training.state.TrainState` is one."""

    @property
    def params(self) -> Mapping:
        """Parameters of ``network``."""

    @property
    def cluster_labels(self) -> jax.Array:
        """(K, 2) float32, Q^C of the last training step."""

    @property
    def config(self) -> CaseConfig:
        """Hyper-parameters."""

    @property
    def network(self) -> CaseNetwork:
        """The network."""


class SampledVideos(NamedTuple):
    """V videos, each sampled uniformly to T snippets, and where these snippets are."""

    lengths: np.ndarray  # (V,) int32, T_v, snippets of each video
    snippets: tuple[np.ndarray, ...]  # per video, int32 positions of its distinct sampled snippets
    samples: np.ndarray  # (V, T) int32, position of each sample among the distinct snippets of all videos
    block_size: int  # snippets scored at a time
    features: PackedFeatures | Sequence[Mapping[str, np.ndarray]]  # on the device, or per video
    blocks: jax.Array | None  # (M, block_size) int32, rows of the features, if these are on the device


def sample_videos(
    features: PackedFeatures | Sequence[Mapping[str, np.ndarray]],
    *,
    num_snippets: int,
    block_size: int = 4096,
) -> SampledVideos:
    """Samples videos for `score_sampled`. Videos that are scored repeatedly need sampling only once.

    Args:
        features: either packed, and then all of them are put on the first device; or stream name -> (T_v, D)
            for each video, and then the device holds one block at a time.
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
        foreground: see `case_jax.method.scores.score_videos`; default
            `case_jax.method.scores.default_foreground`.

    Returns:
        `VideoScores` with V in place of B, on the device; they may still be being computed.
    """
    foreground = default_foreground(state.config) if foreground is None else foreground
    outputs = _score_snippets(state, videos)
    deal_out = functools.partial(
        _deal_out,
        outputs,
        state.cluster_labels if state.config.ccc else None,
        top_k=state.config.top_k,
        foreground=foreground,
    )
    num_videos, num_snippets = videos.samples.shape
    at_once = min(num_videos, max(1, _SCORES_PER_CALL // (num_snippets * state.network.num_classes)))
    if at_once == num_videos:
        return deal_out(videos.samples)
    # The last call is filled up with the first videos, so that only one shape is compiled.
    samples = np.resize(videos.samples, (-(-num_videos // at_once) * at_once, num_snippets))
    parts = map(deal_out, samples.reshape(-1, at_once, num_snippets))
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays)[:num_videos], *parts)


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
        cluster_labels: (K, 2) float32, Q^C; may be None for "attention".
        rows: stream name -> (R, D) float32 or bfloat16, the distinct snippets among the samples. Further
            rows, which no sample names, do not matter.
        samples: (T,) int32, position of each sample in ``rows``.
        network: the network (static).
        top_k: how many snippets a video score is a mean over, for each class (static).
        foreground: which foreground probability to fuse (static).

    Returns:
        (T, G) fused class activation sequences and (G,) video scores, both float32, see
        `case_jax.method.scores.VideoScores`.
    """
    scores = score_window_fully(
        params, cluster_labels, rows, samples, network=network, top_k=top_k, foreground=foreground
    )
    return scores.fused[0], scores.video[0]


@functools.partial(jax.jit, static_argnames=("network", "top_k", "foreground"))
def score_window_fully(
    params: Mapping,
    cluster_labels: jax.Array | None,
    rows: Mapping[str, jax.Array],
    samples: jax.Array,
    *,
    network: CaseNetwork,
    top_k: int,
    foreground: Foreground,
) -> VideoScores:
    """`score_window` with all that can be shown of a video: `VideoScores` of B = 1 video."""
    outputs = _score_block(params, rows, network=network)
    return _deal_out(outputs, cluster_labels, samples[None], top_k=top_k, foreground=foreground)


def _score_snippets(state: Scorer, videos: SampledVideos) -> dict[str, StreamOutput]:
    """The streams' outputs for the distinct snippets of all videos in a row, and for the filling."""
    if videos.blocks is not None:
        return _score_blocks(state.params, videos.features, videos.blocks, network=state.network)
    scored: list[dict[str, StreamOutput]] = []
    for block in read_blocks(videos, state.network.streams):
        scored.append(_score_block(state.params, block, network=state.network))
        jax.block_until_ready(scored[-2:-1])  # one block runs and one waits, so memory holds no more of them
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *scored)


@functools.partial(jax.jit, static_argnames="network")
def _score_block(
    params: Mapping, rows: Mapping[str, jax.Array], *, network: CaseNetwork
) -> dict[str, StreamOutput]:
    """The streams' outputs for (R, D) snippets, with R as the leading axis; without the embeddings."""
    outputs = run_network(network, params, {name: rows[name][None] for name in network.streams})
    return {
        name: jax.tree.map(lambda array: array[0], out._replace(embedding=None))
        for name, out in outputs.items()
    }


def gather_block(features: PackedFeatures, rows: jax.Array, streams: Sequence[str]) -> dict[str, jax.Array]:
    """Inside jit: stream -> (R, D), the features at (R,) rows, all of which must exist."""
    return {name: jnp.asarray(features.rows[name]).at[rows].get(mode="promise_in_bounds") for name in streams}


@functools.partial(jax.jit, static_argnames="network")
def _score_blocks(
    params: Mapping, features: PackedFeatures, blocks: jax.Array, *, network: CaseNetwork
) -> dict[str, StreamOutput]:
    """`_score_block` of (M, R) rows of the features, block by block, as M * R snippets."""

    def one_block(rows):
        return _score_block(params, gather_block(features, rows, network.streams), network=network)

    outputs = jax.lax.map(one_block, blocks)
    return jax.tree.map(lambda array: array.reshape(-1, *array.shape[2:]), outputs)


@functools.partial(jax.jit, static_argnames=("top_k", "foreground"))
def _deal_out(outputs, cluster_labels, samples, *, top_k, foreground) -> VideoScores:
    """The outputs of distinct snippets, given to the (V, T) samples and fused into scores."""
    sampled = jax.tree.map(lambda array: array.at[samples].get(mode="promise_in_bounds"), outputs)
    return fuse_scores(sampled, cluster_labels, top_k=top_k, foreground=foreground)


def read_blocks(videos: SampledVideos, streams: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """The distinct snippets of all videos, block by block; zeros fill up the last block."""
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


def _split_off(
    waiting: dict[str, list[np.ndarray]], count: int
) -> tuple[dict[str, np.ndarray], dict[str, list[np.ndarray]]]:
    """The first ``count`` rows of every stream, and those that remain."""
    joined = {stream: np.concatenate(parts) for stream, parts in waiting.items()}
    first = {stream: rows[:count] for stream, rows in joined.items()}
    return first, {stream: [rows[count:]] for stream, rows in joined.items()}
