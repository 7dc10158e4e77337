"""What detections would be worth if one thing about them were perfect.

Each oracle looks at the ground truth, mends one thing and leaves everything else as it was found. The mAP it
reaches says how much that thing can bring at most, and so where work on a detector pays:

| oracle | what it does |
| --- | --- |
| video labels | deletes detections of classes that their video does not show |
| boundaries | gives each detection the bounds of the action that it overlaps most |
| proposals | puts each action in place of all detections that overlap it, with the highest of their scores |
| scores | ranks the detection that fits best of each action before all others |

An oracle of one thing does not mend another: detections that "boundaries" moves to the same action are double
detections afterwards, and "scores" invents no detection where an action has none.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from case_jax.evaluation.matching import Segments, overlapping_pairs, rank
from case_jax.evaluation.mean_average_precision import DetectionMap

__all__ = ["AS_FOUND", "ORACLES", "oracle_maps", "perfect"]

AS_FOUND = "as found"  # title of the detections themselves


def oracle_maps(
    truth: Segments,
    found: Segments,
    score: Callable[[Segments], DetectionMap],
    *,
    as_found: DetectionMap | None = None,
) -> dict[str, DetectionMap]:
    """The mAP of detections as they were found, and with each thing perfect.

    Args:
        truth: the annotated actions, in seconds; at least one.
        found: detections with scores in any order, in seconds.
        score: a protocol's mAP of detections, such as `detection_map` with this ground truth.
        as_found: what ``score`` says of ``found``, if that is known already.

    Returns:
        Title -> mAP: first "as found", then "perfect video labels" and so on, in the order of `ORACLES`.

    Raises:
        ValueError: if there is no action, or a score or a bound is NaN or infinite.

    Example:
        >>> from case_jax.evaluation.matching import make_segments
        >>> from case_jax.evaluation.mean_average_precision import detection_map
        >>> jump = {"label": "Jump", "segment": (0.0, 10.0)}
        >>> truth = make_segments({"v": [jump]})
        >>> found = make_segments({"v": [{"label": "Jump", "segment": (0.0, 4.0), "score": 0.9}]})
        >>> maps = oracle_maps(truth, found, lambda segments: detection_map(truth, segments, [0.5]))
        >>> {title: result.average for title, result in maps.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'as found': 0.0, 'perfect video labels': 0.0, 'perfect boundaries': 1.0, 'perfect proposals': 1.0,
         'perfect scores': 0.0}
    """
    prepared = _prepare(truth, found)
    maps = {AS_FOUND: score(found) if as_found is None else as_found}
    return maps | {f"perfect {name}": score(oracle(*prepared)) for name, oracle in ORACLES.items()}


def perfect(name: str, truth: Segments, found: Segments) -> Segments:
    """Detections of which one thing is perfect.

    Args:
        name: what; one of `ORACLES`.
        truth: the annotated actions, in seconds; at least one.
        found: detections with scores in any order, in seconds. Those of classes without an action are left
            out, since mAP does not count them.

    Returns:
        The detections with the one thing mended. Their scores tell an order, and are not probabilities.

    Raises:
        KeyError: if there is no oracle of this name.
        ValueError: if there is no action, or a score or a bound is NaN or infinite.
    """
    return ORACLES[name](*_prepare(truth, found))


def _prepare(truth: Segments, found: Segments) -> tuple[Segments, Segments, "_Pairs"]:
    """What all oracles start from: the actions, the ranked detections and their pairs."""
    if not truth.label.size:
        raise ValueError("an oracle needs at least one annotated action")
    classes, truth_label = np.unique(truth.label, return_inverse=True)
    ranked, label = rank(found, classes)
    pairs = _Pairs(*overlapping_pairs(truth, truth_label, ranked, label))
    # A number for each score that keeps the order and ties: the lowest is 1, whatever the scores were.
    levels = np.unique(ranked.score, return_inverse=True)[1] + 1.0
    return truth, ranked._replace(score=levels), pairs


class _Pairs(NamedTuple):
    """Pairs of a detection and an action of its class and video that overlap."""

    detection: np.ndarray  # (P,) int64, ascending
    action: np.ndarray  # (P,) int64
    tiou: np.ndarray  # (P,) float64 above 0, falling for each detection


def _perfect_labels(truth: Segments, found: Segments, pairs: _Pairs) -> Segments:
    del pairs
    shown = set(zip(truth.video.tolist(), truth.label.tolist()))
    kept = [pair in shown for pair in zip(found.video.tolist(), found.label.tolist())]
    return _only(found, np.array(kept, bool))


def _perfect_boundaries(truth: Segments, found: Segments, pairs: _Pairs) -> Segments:
    detection, first = np.unique(pairs.detection, return_index=True)  # the first pair has the highest tIoU
    start, end = found.start.copy(), found.end.copy()
    start[detection] = truth.start[pairs.action[first]]
    end[detection] = truth.end[pairs.action[first]]
    return found._replace(start=start, end=end)


def _perfect_proposals(truth: Segments, found: Segments, pairs: _Pairs) -> Segments:
    """An action that nothing overlaps has no score: it comes last."""
    score = np.zeros(truth.label.size)
    np.maximum.at(score, pairs.action, found.score[pairs.detection])
    elsewhere = np.ones(found.label.size, bool)
    elsewhere[pairs.detection] = False
    columns = zip(truth._replace(score=score), _only(found, elsewhere))
    return Segments(*(np.concatenate(column) for column in columns))


def _perfect_scores(truth: Segments, found: Segments, pairs: _Pairs) -> Segments:
    """The detections that fit best come first, the best fit before the others."""
    del truth
    detection, tiou = _best_fits(pairs)
    score = found.score.copy()
    score[detection] = found.score.max(initial=0.0) + 1 + tiou
    return found._replace(score=score)


def _best_fits(pairs: _Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Pairs actions and detections one to one, the highest tIoU of all first.

    Of equal tIoUs, the earlier action and then the surer detection is taken.

    Returns:
        (B,) int64 detections and their (B,) float64 tIoU.
    """
    order = np.lexsort((pairs.detection, pairs.action, -pairs.tiou))
    detection, action, tiou = (column[order] for column in pairs)
    best: list[tuple[np.ndarray, np.ndarray]] = [(detection[:0], tiou[:0])]
    while detection.size:
        # A pair that comes first for its detection and for its action is taken before any that touches it.
        taken = np.intersect1d(
            np.unique(detection, return_index=True)[1], np.unique(action, return_index=True)[1]
        )
        best.append((detection[taken], tiou[taken]))
        free = ~np.isin(detection, detection[taken]) & ~np.isin(action, action[taken])
        detection, action, tiou = detection[free], action[free], tiou[free]
    return np.concatenate([d for d, _ in best]), np.concatenate([t for _, t in best])


def _only(segments: Segments, kept: np.ndarray) -> Segments:
    """The segments for which (D,) ``kept`` is true."""
    return Segments(*(column[kept] for column in segments))


# The one list of oracles: what is perfect -> (actions, ranked detections, their pairs) -> detections.
ORACLES: Mapping[str, Callable[[Segments, Segments, _Pairs], Segments]] = {
    "video labels": _perfect_labels,
    "boundaries": _perfect_boundaries,
    "proposals": _perfect_proposals,
    "scores": _perfect_scores,
}
