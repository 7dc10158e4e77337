"""Localisation and mAP as they are commonly written, proposal by proposal: the peer of our numpy stage.

The rules are ours (the published thresholds, outer-inner scores and soft-NMS, and ActivityNet's mAP with its
documented ties), so that the results can be compared as well as the times.
"""

import numpy as np

from benchmarks.thumos_shape import ScoredVideo
from case_jax.config import CaseConfig

__all__ = ["localize_video", "mean_average_precision", "predict"]


def predict(videos: list[ScoredVideo], classes: tuple[str, ...], config: CaseConfig) -> dict:
    """Runs `localize_video` on many videos; returns {video: [{"label", "score", "segment"}]}, in seconds."""
    return {
        video.name: [
            {"label": classes[label], "score": score, "segment": [start, end]}
            for label, score, start, end in localize_video(video.fused, video.scores, video.duration, config)
        ]
        for video in videos
    }


def localize_video(
    fused: np.ndarray, video_scores: np.ndarray, duration: float, config: CaseConfig
) -> list[list[float]]:
    """Detections [class, score, start, end], in seconds, from (T, G) sequences and (G,) scores of a video."""
    kept = np.flatnonzero(video_scores >= config.class_threshold)
    if not len(kept):
        kept = [int(np.argmax(video_scores))]
    num_samples = len(fused)
    positions = np.arange(num_samples * config.upsampling) / config.upsampling
    below = np.minimum(positions.astype(int), num_samples - 2)
    found = []
    for label in kept:
        curve = np.asarray(fused[:, label], np.float64)
        curve = curve[below] + (positions - below) * (curve[below + 1] - curve[below])
        proposals = []
        for threshold in config.proposal_thresholds:
            above = np.flatnonzero(curve > threshold)
            if not len(above):
                continue
            for run in np.split(above, np.flatnonzero(np.diff(above) != 1) + 1):
                proposals.append([label, *_score_run(curve, run, duration, config)])
        found += _soft_nms(proposals, config.nms_threshold, config.nms_alpha)
    return found


def _score_run(curve, run, duration, config):
    first, last, length = run[0], run[-1], len(run)
    left = list(range(max(0, int(first - config.flank * length)), first))
    right = list(range(last + 1, min(int(last + config.flank * length), len(curve) - 1) + 1))
    inner = np.mean(curve[run])
    outer = np.mean(curve[left + right]) if left + right else 0.0
    seconds = duration / len(curve)
    return inner - outer + config.video_score_weight, first * seconds, (last + 1) * seconds


def _soft_nms(proposals, threshold, alpha):
    pool = sorted(proposals, key=lambda p: -p[1])
    kept, suppressed = [], []
    while pool:
        best, pool = pool[0], pool[1:]
        kept.append(best)
        remaining = []
        for other in pool:
            overlap = _tiou(best[2], best[3], other[2], other[3], extra=1.0)
            if overlap >= threshold:
                suppressed.append([other[0], other[1] * np.exp(-(overlap**2) / alpha), *other[2:]])
            else:
                remaining.append(other)
        pool = remaining
    return kept + suppressed


def _tiou(start, end, other_start, other_end, extra=0.0):
    shared = max(0.0, min(end, other_end) - max(start, other_start) + extra)
    union = (end - start + extra) + (other_end - other_start + extra) - shared
    return shared / union if union > 0 else 0.0


def mean_average_precision(ground_truth: dict, predictions: dict, thresholds) -> np.ndarray:
    """(Q,) mAP of {video: [{"label", "score", "segment"}]} against {video: [{"label", "segment"}]}."""
    labels = sorted({entry["label"] for entries in ground_truth.values() for entry in entries})
    precision = np.zeros((len(labels), len(thresholds)))
    for row, label in zip(precision, labels):
        truth = {
            video: [entry["segment"] for entry in entries if entry["label"] == label]
            for video, entries in ground_truth.items()
        }
        detections = [
            (entry["score"], video, *entry["segment"])
            for video, entries in predictions.items()
            for entry in entries
            if entry["label"] == label
        ]
        detections.sort(key=lambda d: (-d[0], *d[1:]))
        for column, threshold in enumerate(thresholds):
            row[column] = _average_precision(truth, detections, threshold)
    return precision.mean(axis=0)


def _average_precision(truth, detections, threshold):
    free = {video: [True] * len(segments) for video, segments in truth.items()}
    instances = sum(map(len, truth.values()))
    hits = []
    for _, video, start, end in detections:
        overlaps = [_tiou(start, end, *segment) for segment in truth.get(video, [])]
        hit = False
        for best in sorted(range(len(overlaps)), key=lambda i: -overlaps[i]):
            if overlaps[best] < threshold:
                break
            if free[video][best]:
                free[video][best], hit = False, True
                break
        hits.append(hit)
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    return sum(precision[i] for i in range(len(hits)) if hits[i]) / instances
