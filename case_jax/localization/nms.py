"""Soft non-maximum suppression of the detections of one class in one video, two ways."""

import numpy as np

from case_jax.localization.detections import Detections

__all__ = ["published_soft_nms", "standard_soft_nms", "tiou"]


def tiou(
    start: float | np.ndarray,
    end: float | np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    *,
    extra: float = 0.0,
) -> np.ndarray:
    """Temporal intersection over union of segments with others.

    Args:
        start: start in seconds; one segment's, or (..., 1) of several.
        end: end in seconds, likewise.
        starts: (D,) other starts.
        ends: (D,) other ends.
        extra: added to every length (the published NMS counts lengths as end - start + 1).

    Returns:
        (..., D) float64 in [0, 1]; 0 where the union has no length.

    Example:
        >>> print(tiou(0.0, 4.0, np.array([2.0, 4.0]), np.array([4.0, 6.0])))
        [0.5 0. ]
    """
    overlap = np.maximum(0.0, np.minimum(end, ends) - np.maximum(start, starts) + extra)
    union = (end - start + extra) + (ends - starts + extra) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def published_soft_nms(detections: Detections, *, threshold: float, alpha: float) -> Detections:
    """Soft-NMS as in the published code.

    Greedily by score: detections whose tIoU with a kept one is ``threshold`` or more leave the pool, but
    stay in the result with score * exp(-tIoU^2 / alpha). Suppressed ones suppress nothing. Lengths in the
    tIoU count as end - start + 1 second. Of equal scores the earlier in ``detections`` goes first.

    Args:
        detections: of one class in one video.
        threshold: tIoU from which a score is lowered.
        alpha: width of the decay.

    Returns:
        As many `Detections`: the kept ones by falling score, then the suppressed ones in the order in which
        they were suppressed. The decay moves scores towards 0, so a negative one rises, as published.
    """
    if not detections.score.size:
        return detections
    ranked = detections.take(np.argsort(-detections.score, kind="stable"))
    conflicts = _conflicts(ranked, threshold)
    kept = _first_come(conflicts)
    suppressed = np.flatnonzero(~kept)
    keeper = np.argmax(conflicts[:, suppressed] & kept[:, None], axis=0)  # the first that suppresses it
    order = np.argsort(keeper, kind="stable")
    suppressed, keeper = suppressed[order], keeper[order]
    overlap = tiou(
        ranked.start[keeper], ranked.end[keeper], ranked.start[suppressed], ranked.end[suppressed], extra=1.0
    )
    lowered = ranked.score[suppressed] * np.exp(-np.square(overlap) / alpha)
    result = ranked.take(np.concatenate([np.flatnonzero(kept), suppressed]))
    return result._replace(score=np.concatenate([ranked.score[kept], lowered]))


def _conflicts(ranked: Detections, threshold: float, *, block: int = 256) -> np.ndarray:
    """(D, D) bool: [i, j] where j comes after i and their published tIoU reaches the threshold."""
    count = ranked.score.size
    conflicts = np.zeros((count, count), bool)
    for begin in range(0, count, block):  # so that only one block's tIoU is in memory
        rows, columns = slice(begin, begin + block), slice(begin, count)
        overlap = tiou(
            ranked.start[rows, None],
            ranked.end[rows, None],
            ranked.start[columns],
            ranked.end[columns],
            extra=1.0,
        )
        conflicts[rows, columns] = np.triu(overlap >= threshold, k=1)
    return conflicts


def _first_come(conflicts: np.ndarray) -> np.ndarray:
    """Who is kept when all come in order and a kept one turns away the later ones it conflicts with.

    All are decided at once, in a few rounds: whoever has no undecided or kept rival before is kept, and
    whoever has a kept one is not. The rounds are as many as the longest chain of conflicts, not as
    many as there are detections.

    Args:
        conflicts: (D, D) bool, true only above the diagonal.

    Returns:
        (D,) bool.
    """
    kept = np.zeros(len(conflicts), bool)
    undecided = ~kept
    while undecided.any():
        waiting = undecided & conflicts[undecided].any(axis=0)
        new = undecided & ~waiting
        kept |= new
        undecided = waiting & ~conflicts[new].any(axis=0)
    return kept


def standard_soft_nms(detections: Detections, *, threshold: float, alpha: float) -> Detections:
    """Soft-NMS as it is commonly understood (Bodla et al., ICCV 2017, Gaussian decay).

    The best of the *current* scores is kept; every other detection in the pool whose tIoU with it is
    ``threshold`` or more gets score * exp(-tIoU^2 / alpha) and stays in the pool, so that it is re-sorted
    and decays again. Bodla et al. have no threshold: that is ``threshold=0``. Of equal scores the earlier
    in ``detections`` goes first.

    Args:
        detections: of one class in one video.
        threshold: tIoU from which a score is lowered.
        alpha: width of the decay.

    Returns:
        As many `Detections`, in the order in which they were kept; their final scores fall as long as they
        are not negative (the decay moves scores towards 0).
    """
    start, end, score = detections.start.copy(), detections.end.copy(), detections.score.copy()
    pool = np.arange(score.size)
    kept: list[int] = []
    while pool.size:
        position = int(np.argmax(score[pool]))
        best = int(pool[position])
        kept.append(best)
        pool = np.delete(pool, position)
        overlap = tiou(start[best], end[best], start[pool], end[pool])
        decay = np.where(overlap >= threshold, np.exp(-np.square(overlap) / alpha), 1.0)
        score[pool] *= decay
    return detections._replace(score=score).take(np.array(kept, np.int64))
