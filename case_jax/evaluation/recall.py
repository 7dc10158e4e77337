"""Average recall over the average number of proposals (AR-AN), as ActivityNet's proposal task defines it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from case_jax.evaluation.matching import Segments, require_finite
from case_jax.localization.tiou import tiou

__all__ = ["RecallCurve", "average_recall"]


class RecallCurve(NamedTuple):
    """Recall over the average number of proposals per video; labels are ignored."""

    tiou: np.ndarray  # (Q,) thresholds
    num_proposals: np.ndarray  # (100,) average numbers of proposals per video (AN)
    per_tiou: np.ndarray  # (Q, 100) recall in [0, 1]

    @property
    def average(self) -> np.ndarray:
        """(100,) AR: recall averaged over thresholds, at each AN."""
        return self.per_tiou.mean(axis=0)

    @property
    def area(self) -> float:
        """Area under AR over AN by trapezoids, as a share of the largest AN: in [0, 1]."""
        return float(np.trapezoid(self.average, self.num_proposals) / self.num_proposals[-1])

    def at(self, num_proposals: float) -> float:
        """AR at an average number of proposals, interpolated linearly between the computed ones."""
        return float(np.interp(num_proposals, self.num_proposals, self.average))


def average_recall(
    ground_truth: Segments,
    proposals: Segments,
    tiou_thresholds: Sequence[float],
    *,
    max_proposals: float = 100.0,
) -> RecallCurve:
    """Recall of the best proposals of every video.

    Every video keeps the same share of its proposals, by falling score (equal scores by start, then end). The
    share is chosen such that videos keep ``max_proposals`` on average; recall is measured with 1 %, 2 %, ...
    100 % of the kept ones. An instance is found if a proposal has tIoU >= threshold with it, and one proposal
    may find several instances.

    Args:
        ground_truth: instances of V videos, in seconds; labels are ignored.
        proposals: segments with scores, in seconds; labels are ignored, and so are proposals in other videos.
        tiou_thresholds: (Q,) thresholds in (0, 1]; ActivityNet's are 0.5:0.95:0.05.
        max_proposals: largest average number of proposals per video.

    Returns:
        `RecallCurve`.

    Raises:
        ValueError: if there is no ground truth, threshold or proposal, or a score or a bound is NaN or
            infinite.

    Example:
        >>> from case_jax.evaluation.matching import make_segments
        >>> truth = make_segments({"v": [{"label": "Jump", "segment": (0.0, 10.0)}]})
        >>> found = make_segments({"v": [{"label": "", "segment": (0.0, 8.0), "score": 0.9}]})
        >>> result = average_recall(truth, found, [0.5, 0.9], max_proposals=1)
        >>> result.average[-1], result.per_tiou[:, -1].tolist()
        (np.float64(0.5), [1.0, 0.0])
    """
    require_finite("ground truth", ground_truth)
    require_finite("proposals", proposals)
    thresholds = np.asarray(tiou_thresholds, np.float64)
    videos, truth_video = np.unique(ground_truth.video, return_inverse=True)
    by_video = _proposals_by_video(proposals, videos)
    total = sum(map(len, by_video))
    if not ground_truth.label.size or not thresholds.size or not total:
        raise ValueError("average recall needs at least one ground truth, one threshold and one proposal")
    share = max_proposals * len(videos) / total
    kept = [segments[: _part(len(segments), share)] for segments in by_video]
    num_kept = sum(map(len, kept))
    if not num_kept:
        raise ValueError(f"max_proposals={max_proposals} keeps no proposal at all")
    shares = np.arange(1, 101) / 100 * (max_proposals * len(videos) / num_kept)

    found = np.zeros((thresholds.size, 100))
    for v, segments in enumerate(kept):
        instances = np.stack([ground_truth.start, ground_truth.end], axis=1)[truth_video == v]
        overlap = _tiou(instances, segments)  # (instances, proposals)
        counts = _part(len(segments), shares)
        for q, threshold in enumerate(thresholds):
            reached = overlap >= threshold
            first = np.where(reached.any(axis=1), reached.argmax(axis=1), len(segments))
            found[q] += (first[:, None] < counts[None, :]).sum(axis=0)
    recall = found / ground_truth.label.size
    return RecallCurve(thresholds, shares * num_kept / len(videos), recall)


def _part(count: int, share: np.ndarray | float) -> np.ndarray:
    """A share of ``count``, rounded down. The addend undoes rounding errors, as in 49 * (1 / 49) < 1."""
    return np.minimum(np.floor(count * np.asarray(share) + 1e-9), count).astype(int)


def _proposals_by_video(proposals: Segments, videos: np.ndarray) -> list[np.ndarray]:
    """(P_v, 2) segments of each video v, the surest first."""
    order = np.lexsort((proposals.end, proposals.start, -proposals.score))
    video = np.minimum(np.searchsorted(videos, proposals.video[order]), len(videos) - 1)
    known = videos[video] == proposals.video[order] if len(videos) else np.zeros(0, bool)
    order, video = order[known], video[known]
    segments = np.stack([proposals.start[order], proposals.end[order]], axis=1)
    by_video = np.argsort(video, kind="stable")
    bounds = np.searchsorted(video[by_video], np.arange(1, len(videos)))
    return np.split(segments[by_video], bounds) if len(videos) else []


def _tiou(instances: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """(M, P) tIoU of (M, 2) instances and (P, 2) segments; (M, 1) zeros if there are no segments."""
    if not len(segments):
        return np.zeros((len(instances), 1))  # stands for a proposal that finds nothing
    return tiou(*instances.T[:, :, None], *segments.T[:, None, :])
