"""Soft non-maximum suppression of one class in one video: the published and the standard one."""

import numpy as np

from case_jax.localization.detections import Detections
from case_jax.localization.tiou import tiou

__all__ = ["published_soft_nms", "standard_soft_nms"]


def published_soft_nms(detections: Detections, *, threshold: float, alpha: float) -> Detections:
    """Soft-NMS as in the published code.

    Detections are taken greedily by score. Each detection that is kept takes out of the pool all detections
    whose tIoU with it is ``threshold`` or more. These stay in the result with score * exp(-tIoU^2 / alpha),
    but suppress no others. Lengths in the tIoU count as end - start + 1 second. Of equal scores, the
    detection that is earlier in ``detections`` goes first.

    Args:
        detections: D detections of one class in one video.
        threshold: tIoU from which a score is lowered, in [0, 1].
        alpha: width of the decay, above 0.

    Returns:
        D `Detections`: the kept ones by falling score, then the suppressed ones in the order in which they
        were suppressed. The decay moves scores towards 0, so that a negative score rises, as published.
    """
    if not detections.score.size:
        return detections
    ranked = detections.take(np.argsort(-detections.score, kind="stable"))
    conflicts = _conflicts(ranked, threshold)
    kept = _first_come(conflicts)
    suppressed = np.flatnonzero(~kept)
    keeper = np.argmax(conflicts[:, suppressed] & kept[:, None], axis=0)  # the first one that suppresses each
    order = np.argsort(keeper, kind="stable")
    suppressed, keeper = suppressed[order], keeper[order]
    overlap = tiou(
        ranked.start[keeper], ranked.end[keeper], ranked.start[suppressed], ranked.end[suppressed], extra=1.0
    )
    lowered = ranked.score[suppressed] * np.exp(-np.square(overlap) / alpha)
    result = ranked.take(np.concatenate([np.flatnonzero(kept), suppressed]))
    return result._replace(score=np.concatenate([ranked.score[kept], lowered]))


def _conflicts(ranked: Detections, threshold: float, *, block: int = 256) -> np.ndarray:
    """(D, D) bool: whether j comes after i and their published tIoU reaches the threshold, at [i, j]."""
    count = ranked.score.size
    conflicts = np.zeros((count, count), bool)
    for begin in range(0, count, block):  # in blocks, so that memory holds the tIoU of only one block
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
    """Which detections are kept if they come in order and each kept one rejects its later conflicts.

    All detections are decided at once, in a few rounds. In each round, a detection without an undecided
    conflict before it is kept, and a detection that conflicts with a kept one is rejected. There are as many
    rounds as the longest chain of conflicts, which is far fewer than there are detections.

    Args:
        conflicts: (D, D) bool, true only above the diagonal.

    Returns:
        (D,) bool, whether each detection is kept.
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

    The detection with the best *current* score is kept. Every other detection in the pool whose tIoU with it
    is ``threshold`` or more gets score * exp(-tIoU^2 / alpha) and stays in the pool, so that it is sorted
    again and may decay again. Bodla et al. have no threshold, which is ``threshold=0``. Of equal scores, the
    detection that is earlier in ``detections`` goes first.

    Args:
        detections: D detections of one class in one video.
        threshold: tIoU from which a score is lowered, in [0, 1].
        alpha: width of the decay, above 0.

    Returns:
        D `Detections`, in the order in which they were kept. Their final scores fall, except that a negative
        score may rise (the decay moves scores towards 0).
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
