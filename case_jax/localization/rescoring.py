"""Proposals judged as a whole: what their snippets show inside and at both flanks, as scores of the classes.

The second stage (docs/plus.md) learns a small network with one hidden layer. Its first layer is linear and
takes means over snippets, so it is applied to every snippet once (`case_jax.refinement.projection`), and a
proposal needs only the means of what that gave.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from case_jax.localization.detections import Detections

__all__ = ["EXTRAS", "PARTS", "Judge", "PartMeans", "ProposalScorer", "SnippetMeans", "extras", "rescore"]

# What a proposal is seen by: the mean inside; by how much the mean over the left and over the right flank
# differs from it; and by how much the second half differs from the first.
PARTS = ("inside", "left", "right", "halves")
EXTRAS = ("length", "begins the video", "ends the video")

_TINY = 1e-6  # snippets; and the lowest score of the first stage, which a power needs to be positive


class ProposalScorer(NamedTuple):
    """The second stage's network behind its first layer, H wide, for G classes. Arrays are float32."""

    extras: np.ndarray  # (3, H)
    bias: np.ndarray  # (H,)
    head: np.ndarray  # (H, G)
    head_bias: np.ndarray  # (G,)
    flank: float  # length of a flank, in lengths of the proposal


class SnippetMeans:
    """Means of arrays over segments of a video's T samples, from their running sums."""

    def __init__(self, samples: np.ndarray):
        """Takes (T, C) float samples; sample i covers [i, i + 1)."""
        self._samples = np.asarray(samples, np.float64)
        self._sums = np.concatenate([np.zeros_like(self._samples[:1]), np.cumsum(self._samples, axis=0)])

    def __call__(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Means over (P,) segments in samples, of which only what lies in the video counts.

        Returns:
            (P, C) float64; 0 where nothing of a segment lies in the video.
        """
        count = len(self._samples)
        start, end = np.clip(start, 0, count), np.clip(end, 0, count)
        length = end - start
        means = (self._until(end) - self._until(start)) / np.maximum(length, _TINY)[:, None]
        return np.where(length[:, None] > _TINY, means, 0.0)

    def _until(self, position: np.ndarray) -> np.ndarray:
        """(P, C) sums over [0, position)."""
        whole = np.minimum(position.astype(np.int64), len(self._samples) - 1)
        return self._sums[whole] + (position - whole)[:, None] * self._samples[whole]


class PartMeans:
    """What proposals of a video are seen by: `PARTS`."""

    def __init__(self, samples: np.ndarray, *, flank: float):
        """Takes the video's samples.

        Args:
            samples: (T, 4, C) float: for each part its own arrays. The same ones four times are features.
            flank: length of a flank, in lengths of the proposal; a flank has a sample at least.
        """
        self._parts = [SnippetMeans(samples[:, part]) for part in range(len(PARTS))]
        self._count, self._flank = len(samples), flank

    def __call__(
        self, start: np.ndarray, end: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The four parts of P proposals, each (P, C) float64. A flank outside of the video does not differ.

        Args:
            start: (P,) starts in samples.
            end: (P,) ends in samples.
        """
        inside, left, right, halves = self._parts
        margin = np.maximum(self._flank * (end - start), 1.0)
        middle = (start + end) / 2
        has_left, has_right = start > _TINY, end < self._count - _TINY
        return (
            inside(start, end),
            (left(start - margin, start) - left(start, end)) * has_left[:, None],
            (right(end, end + margin) - right(start, end)) * has_right[:, None],
            (halves(middle, end) - halves(start, middle)) / 2,
        )


def extras(start: np.ndarray, end: np.ndarray, num_samples: int) -> np.ndarray:
    """`EXTRAS` of P proposals in samples, (P, 3) float64: about 0 for usual lengths, and 0 or 1."""
    length = np.log((end - start) / num_samples + _TINY) / 2 + 1
    return np.stack([length, start <= 0, end >= num_samples - _TINY], axis=1)


class Judge:
    """A second stage for the proposals of one video."""

    def __init__(self, scorer: ProposalScorer, projected: np.ndarray):
        """Takes a second stage and what its first layer makes of the video.

        Args:
            scorer: the second stage behind its first layer.
            projected: (T, 4, H) float32, what the first layer makes of T samples, evenly spaced over the
                video, for each of `PARTS`.
        """
        self._scorer, self._count = scorer, len(projected)
        self._parts = PartMeans(projected, flank=scorer.flank)

    def probability(self, found: Detections, *, duration: float) -> np.ndarray:
        """(P,) float64, of each detection's class, given seconds of video that the T samples cover."""
        scorer, per_second = self._scorer, self._count / duration
        start, end = found.start * per_second, found.end * per_second
        hidden = sum(self._parts(start, end)) + scorer.bias
        hidden = np.maximum(hidden + extras(start, end, self._count) @ scorer.extras, 0)
        logits = np.einsum("ph,hp->p", hidden, scorer.head[:, found.label]) + scorer.head_bias[found.label]
        return 1 / (1 + np.exp(-np.clip(logits, -50, 50)))


def rescore(found: Detections, judges: Sequence[Judge], *, duration: float, weight: float) -> Detections:
    """Detections with the geometric mean of their score and the second stage's probability of their class.

    Args:
        found: P detections of one video, in seconds; their scores are the first stage's.
        judges: second stages, of one seed or of several, whose probabilities are averaged.
        duration: seconds of the video.
        weight: of the second stage, in [0, 1]: score^(1 - weight) * probability^weight.

    Returns:
        The detections in their order; only scores differ. A negative score counts as almost 0.
    """
    probability = np.mean([judge.probability(found, duration=duration) for judge in judges], axis=0)
    return found._replace(score=np.maximum(found.score, _TINY) ** (1 - weight) * probability**weight)
