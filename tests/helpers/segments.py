"""Segments as rows, evaluation in plain loops over rows, and strategies that make every kind of tie.

A row of ground truth is (video, label, start, end), a row of detections has a score at the end.
"""

import numpy as np
from hypothesis import strategies as st

from case_jax.evaluation.matching import Segments

# Few places, lengths and scores: ties of every kind, duplicates, touching and zero-length segments.
SPAN = st.tuples(st.integers(0, 7), st.integers(0, 4)).map(lambda s: (s[0] / 2, (s[0] + s[1]) / 2))
TRUTH = st.tuples(st.sampled_from("uv"), st.sampled_from("ac"), SPAN).map(lambda r: (*r[:2], *r[2]))
FOUND = st.tuples(
    st.sampled_from("uvw"), st.sampled_from("abcd"), SPAN, st.sampled_from([0.2, 0.5, 0.9])
).map(lambda r: (*r[:2], *r[2], r[3]))
CROWD = st.tuples(SPAN, st.sampled_from([0.2, 0.9])).map(lambda r: ("u", "a", *r[0], r[1]))
TIOU = [0.1, 1 / 3, 0.5, 0.75, 1.0]


def as_segments(rows) -> Segments:
    """Segments of rows; scores are 0 where rows have none."""
    columns = list(zip(*rows)) or [()] * 4
    scores = columns[4] if len(columns) == 5 else np.zeros(len(rows))
    return Segments(
        np.array(columns[0], str),
        np.array(columns[1], str),
        *(np.array(column, np.float64) for column in (*columns[2:4], scores)),
    )


def take(segments: Segments, order) -> Segments:
    """The segments at some positions."""
    return Segments(*(column[order] for column in segments))


def ranked(found, name):
    """Detections of a class by falling score, then video, start and end."""
    rows = [row for row in found if row[1] == name]
    return sorted(rows, key=lambda row: (-row[4], row[0], row[2], row[3]))


def slow_tiou(a, b) -> float:
    """Temporal intersection over union of two (start, end)."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (a[1] - a[0]) + (b[1] - b[0]) - shared
    return shared / union if union > 0 else 0.0


def slow_hits(truth, found, name, threshold) -> list[bool]:
    """Whether each detection of a class, in rank order, is a true positive: one detection after the other."""
    free, hits = [row for row in truth if row[1] == name], []
    for video, _, start, end, _ in ranked(found, name):
        best, best_tiou = None, 0.0
        for candidate in free:
            overlap = slow_tiou((start, end), candidate[2:4])
            if candidate[0] == video and overlap >= threshold and overlap > best_tiou:
                best, best_tiou = candidate, overlap
        if best is not None:  # by identity: two equal ground truths are two
            free = [candidate for candidate in free if candidate is not best]
        hits.append(best is not None)
    return hits


def slow_ap(hits, instances) -> float:
    """The textbook (VOC 2011) area: envelope of precision, summed where recall changes."""
    precision, recall, found = [0.0], [0.0], 0
    for rank, hit in enumerate(hits, start=1):
        found += hit
        precision.append(found / rank)
        recall.append(found / instances)
    precision.append(0.0)
    recall.append(1.0)
    for i in reversed(range(len(precision) - 1)):
        precision[i] = max(precision[i], precision[i + 1])
    steps = [i for i in range(1, len(recall)) if recall[i] != recall[i - 1]]
    return sum((recall[i] - recall[i - 1]) * precision[i] for i in steps)


def slow_detection_map(truth, found, thresholds) -> np.ndarray:
    """(G, Q) average precision of the classes, in alphabetical order."""
    classes = sorted({row[1] for row in truth})
    counts = [sum(row[1] == name for row in truth) for name in classes]
    return np.array(
        [
            [slow_ap(slow_hits(truth, found, name, threshold), count) for threshold in thresholds]
            for name, count in zip(classes, counts)
        ]
    )
