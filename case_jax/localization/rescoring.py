"""Proposals judged as a whole: what their snippets show inside and at both flanks, as scores of the classes.

The second stage (docs/plus.md) learns a small network with one hidden layer. Its first layer is linear and
takes means over snippets, so it is applied to every snippet once (`case_jax.refinement.projection`), and a
proposal needs only the means of what that gave.
"""

from typing import NamedTuple

import numpy as np

from case_jax.localization.detections import Detections

__all__ = ["EXTRAS", "PARTS", "ProposalScorer", "SnippetMeans", "extras", "part_means", "rescore"]

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


def part_means(
    samples: np.ndarray, start: np.ndarray, end: np.ndarray, *, flank: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What P proposals are seen by: `PARTS`.

    Args:
        samples: (T, 4, C) float: for each part its own arrays. The same ones four times are features.
        start: (P,) starts in samples.
        end: (P,) ends in samples.
        flank: length of a flank, in lengths of the proposal; a flank has a sample at least.

    Returns:
        The four parts, each (P, C) float64. A flank that lies outside of the video does not differ.
    """
    inside, left, right, halves = (SnippetMeans(samples[:, part]) for part in range(len(PARTS)))
    margin = np.maximum(flank * (end - start), 1.0)
    middle = (start + end) / 2
    has_left, has_right = start > _TINY, end < len(samples) - _TINY
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


def rescore(
    found: Detections, projected: np.ndarray, scorer: ProposalScorer, *, duration: float, weight: float
) -> Detections:
    """Detections with the geometric mean of their score and the second stage's probability of their class.

    Args:
        found: P detections of one video, in seconds; their scores are the first stage's.
        projected: (T, 4, H) float32, what the second stage's first layer makes of T samples, evenly spaced
            over the video, for each of `PARTS`.
        scorer: the rest of the second stage.
        duration: seconds of video that the T samples cover.
        weight: of the second stage, in [0, 1]: score^(1 - weight) * probability^weight.

    Returns:
        The detections in their order; only scores differ. A negative score counts as almost 0.
    """
    per_second = len(projected) / duration
    start, end = found.start * per_second, found.end * per_second
    hidden = sum(part_means(projected, start, end, flank=scorer.flank))
    hidden = hidden + extras(start, end, len(projected)) @ scorer.extras + scorer.bias
    logits = np.einsum("ph,hp->p", np.maximum(hidden, 0), scorer.head[:, found.label])
    probability = 1 / (1 + np.exp(-np.clip(logits + scorer.head_bias[found.label], -50, 50)))
    score = np.maximum(found.score, _TINY) ** (1 - weight) * probability**weight
    return found._replace(score=score)
