"""The data that the script of `report.html` draws: videos with their scores, clusters and curves.

Scores are packed as one byte per sample (value / 255), so that they are exact to 0.002. The videos of a page
take at most `MAX_BYTES`. Of a larger test set, the page holds an even selection from the worst to the best.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from case_jax.data.dataset import Video, in_action
from case_jax.data.info import DatasetInfo
from case_jax.evaluation.clusters import summarise_clusters
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores
from case_jax.report.packing import as_bytes, pack

__all__ = ["MAX_BYTES", "MAX_CLASSES", "Cluster", "clusters", "curves", "videos"]

MAX_BYTES = 11_000_000  # size of all videos together
MAX_CLASSES = 20  # classes of a video with activation sequences; more only if more are annotated
_MAX_POINTS = 400  # points of a curve


class Cluster(NamedTuple):
    """One snippet cluster."""

    number: int  # from 0, its column of Q^S
    foreground: float  # Q^C[:, 0] of the last step, its probability of being foreground
    soft_share: float  # mean of P^S over the test samples
    in_action: float | None  # how much of this share lies in annotated actions; None if the share is 0

    def as_json(self) -> dict[str, Any]:
        """The cluster as the page's script reads it."""
        return {
            "number": self.number,
            "foreground": self.foreground,
            "share": self.soft_share,
            "in_action": self.in_action,
        }


def clusters(
    cluster_labels: np.ndarray, scores: VideoScores, of_videos: Sequence[Video], info: DatasetInfo
) -> list[Cluster]:
    """The clusters, from the surest foreground to the least sure.

    Args:
        cluster_labels: (K, 2) Q^C.
        scores: scores of V videos, with (V, T, K) ``clusters``.
        of_videos: these V videos, with annotations.
        info: tells how long a video is in seconds.

    Returns:
        K `Cluster`.
    """
    assignment = np.asarray(scores.clusters)
    middles = (np.arange(assignment.shape[1]) + 0.5) / assignment.shape[1]
    inside = np.stack([in_action(video.annotations, middles * video.seconds(info)) for video in of_videos])
    summary = summarise_clusters(assignment, inside)
    found = [
        Cluster(k, float(foreground), float(share), None if np.isnan(acting) else float(acting))
        for k, (foreground, share, acting) in enumerate(
            zip(cluster_labels[:, 0], summary.soft_share, summary.soft_in_action)
        )
    ]
    return sorted(found, key=lambda cluster: -cluster.foreground)


class _Chart(NamedTuple):
    """A chart of metrics in `history.jsonl`."""

    title: str
    unit: str
    series: Mapping[str, str]  # metric -> name of its curve


_LABEL_CHARTS = (
    _Chart(
        "Entropy of labels",
        "nats",
        {"entropy_snippets": "H(Q^S), snippets", "entropy_clusters": "H(Q^C), clusters"},
    ),
    _Chart(
        "Share of foreground in the labels of clusters and snippets",
        "",
        {"foreground_clusters": "clusters", "foreground_snippets": "snippets"},
    ),
)


def curves(metrics: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]) -> list[dict]:
    """Charts of a training: losses, average mAP and, with clustering, entropies and foreground shares.

    Args:
        metrics: rows of `metrics.jsonl`, which hold the average mAP.
        history: rows of `history.jsonl`, which hold everything else.

    Returns:
        The charts that have points: {"title", "unit", "series": [{"name", "points": [[step, value], ...]}]}.
    """
    quality = {"name": "average mAP", "points": [[row["step"], 100 * row["average"]] for row in metrics]}
    charts = [
        _of_history(_losses(history), history),
        {"title": "Average mAP on the test videos", "unit": "%", "series": [quality]},
        *(_of_history(chart, history) for chart in _LABEL_CHARTS),
    ]
    return [chart for chart in charts if any(s["points"] for s in chart["series"])]


def _losses(history: Sequence[Mapping[str, Any]]) -> _Chart:
    """All losses that were recorded: the total ("loss") and its terms ("loss_video", ...)."""
    names = [name for name in (history[0]["metrics"] if history else ()) if name.startswith("loss")]
    return _Chart("Losses", "", {name: name.removeprefix("loss_").replace("_", " ") for name in names})


def _of_history(chart: _Chart, history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The chart as JSON, with the metrics that were recorded."""
    recorded = history[0]["metrics"] if history else {}
    series = [
        {"name": name, "points": _thinned([[row["step"], row["metrics"][metric]] for row in history])}
        for metric, name in chart.series.items()
        if metric in recorded
    ]
    return {"title": chart.title, "unit": chart.unit, "series": series}


def _thinned(points: list[list[float]]) -> list[list[float]]:
    """Replaces neighbours by their mean, so that at most `_MAX_POINTS` points are left."""
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
    """What the timeline browser shows of each video, or of an even selection of the videos.

    Args:
        of_videos: V test videos.
        scores: scores of these videos.
        detections: video name -> `Detections`, times in seconds.
        quality: video name -> mean AP within the video, in [0, 1].
        info: has the names of classes, and tells how long a video is in seconds.
        max_bytes: largest size of the result as JSON.

    Returns:
        One dictionary per video: "name", "seconds", "quality", the segments of "truth" ([class, start, end])
        and "found" ([class, start, end, score], the surest first), "classes", and "tracks". The tracks are
        base64 of bytes in rows of T samples: P^A, then (with clusters) P^T, P^M and the number of the most
        probable cluster (two rows, the higher byte first), then the calibrated activation sequence of each
        of "classes".
    """
    scores = jax.tree.map(np.asarray, scores)
    packed = [
        _video(row, video, scores, detections[video.name], quality.get(video.name), info)
        for row, video in enumerate(of_videos)
    ]
    return _evenly(packed, max_bytes)


def _evenly(packed: list[dict], max_bytes: int) -> list[dict]:
    """As many entries as fit, evenly from the worst quality to the best, in their order; at least one."""
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
    """The entry of the video whose scores are at ``row``."""
    index = {name: i for i, name in enumerate(info.classes)}
    truth: list[list[Any]] = [[index[a.label], round(a.start, 3), round(a.end, 3)] for a in video.annotations]
    segments = _surest_first(found)
    classes = _classes([label for label, *_ in truth], [label for label, *_ in segments], scores.video[row])
    return {
        "name": video.name,
        "seconds": round(video.seconds(info), 3),
        "quality": None if quality is None else round(quality, 4),
        "truth": truth,
        "found": segments,
        "classes": classes,
        "tracks": _tracks(scores, row, classes),
    }


def _surest_first(found: Detections) -> list[list[Any]]:
    """Detections as [class, start, end, score], by falling score, then by start."""
    order = np.lexsort((found.start, -found.score))
    columns = zip(*(column[order].tolist() for column in found))
    return [[label, round(start, 3), round(end, 3), round(score, 4)] for label, start, end, score in columns]


def _classes(annotated: Sequence[int], found: Sequence[int], video_scores: npt.ArrayLike) -> list[int]:
    """The classes whose activations are shown: annotated ones, detected ones, then the most probable ones."""
    wanted = list(dict.fromkeys(annotated))
    others = dict.fromkeys([*found, *np.argsort(-np.asarray(video_scores)).tolist()])
    return (wanted + [c for c in others if c not in wanted])[: max(MAX_CLASSES, len(wanted))]


def _tracks(scores: VideoScores, row: int, classes: Sequence[int]) -> str:
    """Base64 of the rows of bytes that `videos` describes."""
    tracks = [scores.attention[row]]
    if scores.transformed_foreground is not None and scores.mixed_foreground is not None:
        tracks += [scores.transformed_foreground[row], scores.mixed_foreground[row]]
    rows = [as_bytes(track) for track in tracks]
    if scores.clusters is not None:
        likely = np.argmax(scores.clusters[row], axis=-1)
        rows += [(likely // 256).astype(np.uint8), (likely % 256).astype(np.uint8)]
    rows += [as_bytes(scores.fused[row, :, label]) for label in classes]
    return pack(rows)
