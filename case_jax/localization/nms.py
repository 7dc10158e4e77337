"""Soft non-maximum suppression of the detections of one class in one video, two ways."""

import numpy as np

from case_jax.localization.detections import Detections

__all__ = ["published_soft_nms", "standard_soft_nms", "tiou"]


def tiou(start: float, end: float, starts: np.ndarray, ends: np.ndarray, *, extra: float = 0.0) -> np.ndarray:
    """Temporal intersection over union of one segment with others.

    Args:
        start: its start, seconds.
        end: its end, seconds.
        starts: (D,) other starts.
        ends: (D,) other ends.
        extra: added to every length (the published NMS counts lengths as end - start + 1).

    Returns:
        (D,) float64 in [0, 1]; 0 where the union has no length.

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
    order = np.argsort(-detections.score, kind="stable")
    kept, suppressed, suppressed_scores = [], [np.zeros(0, np.int64)], [np.zeros(0)]
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        overlap = tiou(
            detections.start[best],
            detections.end[best],
            detections.start[order],
            detections.end[order],
            extra=1.0,
        )
        leaves = overlap >= threshold
        suppressed.append(order[leaves])
        decay = np.exp(-np.square(overlap[leaves]) / alpha)
        suppressed_scores.append(detections.score[order[leaves]] * decay)
        order = order[~leaves]
    kept = np.array(kept, np.int64)
    result = detections.take(np.concatenate([kept, *suppressed]))
    return result._replace(score=np.concatenate([detections.score[kept], *suppressed_scores]))


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
    kept = []
    while pool.size:
        position = int(np.argmax(score[pool]))
        best = pool[position]
        kept.append(best)
        pool = np.delete(pool, position)
        overlap = tiou(start[best], end[best], start[pool], end[pool])
        decay = np.where(overlap >= threshold, np.exp(-np.square(overlap) / alpha), 1.0)
        score[pool] *= decay
    kept = np.array(kept, np.int64)
    return detections._replace(score=score).take(kept)
