"""The second stage's first layer, applied to every sampled snippet once."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.data.packed import PackedFeatures
from case_jax.localization.rescoring import Judge, ProposalScorer
from case_jax.method.sampled_videos import SampledVideos, gather_block, read_blocks

__all__ = ["SecondStage", "project_sampled", "scorer_of"]


def project_sampled(kernel: jax.Array, videos: SampledVideos, streams: Sequence[str]) -> jax.Array:
    """What the first layer makes of sampled videos.

    Args:
        kernel: (D, 4, H) float32, of the features of all streams side by side.
        videos: V videos.
        streams: names of the streams, in order.

    Returns:
        (V, T, 4, H) float32, on the device.
    """
    streams = tuple(streams)
    if videos.blocks is not None:
        assert isinstance(videos.features, PackedFeatures)
        projected = _project_blocks(kernel, videos.features, videos.blocks, streams=streams)
    else:
        parts = [_project(kernel, block, streams=streams) for block in read_blocks(videos, streams)]
        projected = jnp.concatenate(parts)
    return _deal_out(projected, videos.samples)


def scorer_of(scorer: Mapping[str, jax.Array]) -> ProposalScorer:
    """The second stage behind its first layer, for `case_jax.localization.rescoring.rescore`.

    Args:
        scorer: see `case_jax.refinement.learning.empty_scorer`.
    """
    return ProposalScorer(
        extras=np.asarray(scorer["extras"]),
        bias=np.asarray(scorer["bias"]),
        head=np.asarray(scorer["head"]),
        head_bias=np.asarray(scorer["head_bias"]),
        flank=float(scorer["flank"]),
    )


class SecondStage(NamedTuple):
    """A second stage for videos that come one by one."""

    scorer: ProposalScorer
    kernel: jax.Array  # (D, 4, H)
    streams: tuple[str, ...]

    @classmethod
    def of(cls, scorer: Mapping[str, jax.Array], streams: Sequence[str]) -> "SecondStage":
        """Takes the scorer of a state, and the names of the streams in order."""
        return cls(scorer_of(scorer), scorer["kernel"], tuple(streams))

    @property
    def shape(self) -> tuple[int, ...]:
        """(4, H), what the first layer makes of a snippet."""
        return self.kernel.shape[1:]

    def project(self, rows: Mapping[str, jax.Array | np.ndarray], samples: np.ndarray) -> jax.Array:
        """(T, 4, H) of T samples among rows, see `case_jax.method.sampled_videos.score_window`."""
        return _project(self.kernel, rows, streams=self.streams)[samples]

    def judge(self, projected: np.ndarray) -> Judge:
        """The judge of a video, from (T, 4, H) of all its samples."""
        return Judge(self.scorer, projected)


@functools.partial(jax.jit, static_argnames="streams")
def _project(kernel: jax.Array, rows: Mapping[str, jax.Array], *, streams: tuple[str, ...]) -> jax.Array:
    """(R, 4, H) of (R, D) rows of each stream."""
    features = jnp.concatenate([rows[name] for name in streams], axis=-1).astype(jnp.float32)
    return jnp.einsum("rd,dkh->rkh", features, kernel, precision=jax.lax.Precision.HIGHEST)


@functools.partial(jax.jit, static_argnames="streams")
def _project_blocks(
    kernel: jax.Array, features: PackedFeatures, blocks: jax.Array, *, streams: tuple[str, ...]
) -> jax.Array:
    """(M * R, 4, H) of (M, R) rows of the features, block by block."""

    def one_block(rows: jax.Array) -> jax.Array:
        return _project(kernel, gather_block(features, rows, streams), streams=streams)

    projected = jax.lax.map(one_block, blocks)
    return projected.reshape(-1, *projected.shape[2:])


@jax.jit
def _deal_out(projected: jax.Array, samples: jax.Array) -> jax.Array:
    return projected.at[samples].get(mode="promise_in_bounds")
