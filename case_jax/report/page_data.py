"""What the script of `report.html` draws: the videos and their scores, packed small, and the curves.

Scores are packed as bytes, one per sample (value / 255), so they are exact to 0.002. A page holds the scores
of at most `MAX_BYTES`; of larger test sets it holds an even choice, from the worst video to the best.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from case_jax.data.dataset import Video, in_action
from case_jax.data.info import DatasetInfo
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores

__all__ = ["MAX_BYTES", "MAX_CLASSES", "Cluster", "clusters", "curves", "videos"]

MAX_BYTES = 11_000_000  # of all videos together
MAX_CLASSES = 20  # whose activation sequences are kept of a video, more only if more are annotated
_MAX_POINTS = 400  # of a curve


class Cluster(NamedTuple):
    """One snippet cluster."""

    number: int  # from 0, as the columns of Q^S
    foreground: float  # Q^C[:, 0] of the last step, the probability of foreground
    share: float  # of the test samples, mean of P^S
    in_action: float | None  # how much of this share lies in annotated actions; None for an empty cluster


def clusters(
    cluster_labels: np.ndarray, scores: VideoScores, of_videos: Sequence[Video], info: DatasetInfo
) -> list[Cluster]:
    """The clusters, from the one most sure to be foreground to the one least sure.

    Args:
        cluster_labels: (K, 2) Q^C.
        scores: of V videos; with clusters.
        of_videos: these videos.
        info: for seconds.
    """
    assignment = np.asarray(scores.clusters, np.float64)
    middles = (np.arange(assignment.shape[1]) + 0.5) / assignment.shape[1]
    inside = np.stack([in_action(video.annotations, middles * video.seconds(info)) for video in of_videos])
    mass = assignment.sum(axis=(0, 1))
    acting = np.einsum("vtk,vt->k", assignment, inside.astype(np.float64))
    found = [
        Cluster(k, float(p), float(m / mass.sum()), float(a / m) if m > 0 else None)
        for k, (p, m, a) in enumerate(zip(cluster_labels[:, 0], mass, acting))
    ]
    return sorted(found, key=lambda cluster: -cluster.foreground)


def curves(metrics: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]) -> list[dict]:
    """Charts of a training: losses, average mAP and, with clustering, entropies and foreground clusters.

    Args:
        metrics: rows of `metrics.jsonl`.
        history: rows of `history.jsonl`; losses and entropies are drawn from it.

    Returns:
        Charts that have points: {"title", "unit", "series": [{"name", "points": [[step, value], ...]}]}.
    """
    recorded = history[0]["metrics"] if history else {}

    def of_history(names: Sequence[str], prefix: str) -> list[dict]:
        return [
            {
                "name": name.removeprefix(prefix).replace("_", " "),
                "points": _thinned([[row["step"], row["metrics"][name]] for row in history]),
            }
            for name in names
            if name in recorded
        ]

    losses = [name for name in recorded if name.startswith("loss")]
    charts: list[dict[str, Any]] = [
        {"title": "Losses", "unit": "", "series": of_history(losses, "loss_")},
        {
            "title": "Average mAP on the test videos",
            "unit": "%",
            "series": [
                {"name": "average mAP", "points": [[row["step"], 100 * row["average"]] for row in metrics]}
            ],
        },
        {
            "title": "Entropy of labels",
            "unit": "nats",
            "series": of_history(["entropy_snippets", "entropy_clusters"], "entropy_"),
        },
        {
            "title": "Share of foreground in the labels of clusters and snippets",
            "unit": "",
            "series": of_history(["foreground_clusters", "foreground_snippets"], "foreground_"),
        },
    ]
    for series in charts[2]["series"]:
        series["name"] = {"snippets": "H(Q^S), snippets", "clusters": "H(Q^C), clusters"}[series["name"]]
    return [chart for chart in charts if any(s["points"] for s in chart["series"])]


def _thinned(points: list[list[float]]) -> list[list[float]]:
    """At most so many points: means of neighbours."""
    size = -(-len(points) // _MAX_POINTS)
    if size <= 1:
        return points
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [[group[-1][0], sum(value for _, value in group) / len(group)] for group in groups]


def videos(
    of_videos: Sequence[Video],
    scores: VideoScores,
    detections: Mapping[str, Detections],
    quality: Mapping[str, float],
    info: DatasetInfo,
    *,
    max_bytes: int = MAX_BYTES,
) -> list[dict]:
    """What the timeline browser shows of each video, or of an even choice of them.

    Args:
        of_videos: V test videos.
        scores: of these.
        detections: video name -> `Detections`.
        quality: video name -> its own mean AP, in [0, 1].
        info: for classes and seconds.
        max_bytes: of what is returned, as JSON.

    Returns:
        Dictionaries with the name, seconds and quality of a video, the segments of "truth" ([class, start,
        end]) and "found" ([class, start, end, score], the surest first), the classes whose activations are
        there, and "tracks": base64 of bytes, a row of T for each of P^A, then (with clusters) P^T, P^M and
        the number of the most likely cluster (two rows, the higher byte first), then for each class its
        calibrated activation sequence.
    """
    scores = jax.tree.map(np.asarray, scores)
    packed = [
        _video(row, video, scores, detections[video.name], quality.get(video.name), info)
        for row, video in enumerate(of_videos)
    ]
    sizes = [len(json.dumps(entry)) for entry in packed]
    if sum(sizes) <= max_bytes:
        return packed
    worst_first = sorted(range(len(packed)), key=lambda i: packed[i]["quality"] or 0.0)
    count = max(1, int(max_bytes / (sum(sizes) / len(sizes))))
    while True:
        picked = {worst_first[i] for i in np.linspace(0, len(packed) - 1, count).astype(int)}
        if count == 1 or sum(sizes[i] for i in picked) <= max_bytes:
            return [packed[i] for i in sorted(picked)]
        count = max(1, int(0.95 * count))


def _video(
    row: int,
    video: Video,
    scores: VideoScores,
    found: Detections,
    quality: float | None,
    info: DatasetInfo,
) -> dict:
    index = {name: i for i, name in enumerate(info.classes)}
    truth = [[index[a.label], round(a.start, 3), round(a.end, 3)] for a in video.annotations]
    surest = np.lexsort((found.start, -found.score))
    columns = zip(*(column[surest].tolist() for column in found))
    segments = [
        [label, round(start, 3), round(end, 3), round(score, 4)] for label, start, end, score in columns
    ]
    annotated = list(dict.fromkeys(label for label, *_ in truth))
    others = dict.fromkeys([label for label, *_ in segments] + np.argsort(-scores.video[row]).tolist())
    classes = (annotated + [c for c in others if c not in annotated])[: max(MAX_CLASSES, len(annotated))]
    tracks = [scores.attention[row]]
    if scores.transformed_foreground is not None and scores.mixed_foreground is not None:
        tracks += [scores.transformed_foreground[row], scores.mixed_foreground[row]]
    rows = [_as_bytes(track) for track in tracks]
    if scores.clusters is not None:
        likely = np.argmax(scores.clusters[row], axis=-1)
        rows += [(likely // 256).astype(np.uint8), (likely % 256).astype(np.uint8)]
    rows += [_as_bytes(scores.fused[row, :, label]) for label in classes]
    return {
        "name": video.name,
        "seconds": round(video.seconds(info), 3),
        "quality": None if quality is None else round(quality, 4),
        "truth": truth,
        "found": segments,
        "classes": classes,
        "tracks": base64.b64encode(np.concatenate(rows).tobytes()).decode(),
    }


def _as_bytes(values: npt.ArrayLike) -> np.ndarray:
    return np.rint(255 * np.clip(np.asarray(values, np.float64), 0, 1)).astype(np.uint8)
