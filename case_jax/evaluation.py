"""Whole videos to detections and mAP: sampling, the network on the device, then the numpy stage."""

from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import numpy as np

from case_jax.data.dataset import DatasetInfo, Split, Video
from case_jax.data.samplers import uniform_indices
from case_jax.inference import VideoScores, score_videos
from case_jax.localization.detection_map import DetectionMap, detection_map, make_segments
from case_jax.localization.detections import Detections, to_activitynet
from case_jax.localization.localize import localize_video
from case_jax.training import TrainState, gather_features

__all__ = ["detect", "evaluate_predictions", "predict", "score_split"]


def score_split(
    state: TrainState,
    videos: Sequence[Video],
    *,
    foreground: Literal["attention", "transformed", "mixed"] | None = None,
) -> VideoScores:
    """Scores videos of any length, each sampled uniformly to T snippets.

    Args:
        state: a trained state; its Q^C of the last step is used.
        videos: V videos.
        foreground: as `score_videos`; default "mixed" (P^M) with clustering-assisted testing, else
            "attention" (P^A).

    Returns:
        `VideoScores` of numpy arrays with V in place of B.
    """
    config = state.config
    if foreground is None:
        foreground = "mixed" if config.clustering_assisted_testing else "attention"
    batches = []
    for begin in range(0, len(videos), config.batch_size):
        chunk = videos[begin : begin + config.batch_size]
        # The last batch is filled up with its first video, so that only one shape is compiled.
        padded = [*chunk, *[chunk[0]] * (config.batch_size - len(chunk))]
        snippets = np.stack(
            [np.asarray(uniform_indices(v.num_snippets, config.num_snippets)) for v in padded]
        )
        scores = score_videos(
            state.params,
            state.cluster_labels if config.ccc else None,
            gather_features([v.features for v in padded], snippets, state.network.streams),
            network=state.network,
            top_k=config.top_k,
            foreground=foreground,
        )
        count = len(chunk)
        batches.append(jax.tree.map(lambda array, n=count: np.asarray(array)[:n], scores))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *batches)


def detect(state: TrainState, videos: Sequence[Video], info: DatasetInfo) -> dict[str, Detections]:
    """Detects actions in videos of any length.

    Args:
        state: a trained state.
        videos: untrimmed videos.
        info: for the time of a snippet.

    Returns:
        video name -> `Detections`, times in seconds.
    """
    scores = score_split(state, videos)
    return {
        video.name: localize_video(
            fused,
            video_scores,
            duration=video.num_snippets * info.seconds_per_snippet,
            config=state.config,
        )
        for video, fused, video_scores in zip(videos, scores.fused, scores.video)
    }


def predict(state: TrainState, videos: Sequence[Video], info: DatasetInfo) -> dict:
    """`detect`, as a prediction dictionary in the ActivityNet format."""
    return to_activitynet(detect(state, videos, info), info.classes)


def evaluate_predictions(
    predictions: Mapping, split: Split, tiou_thresholds: Sequence[float]
) -> DetectionMap:
    """Detection mAP of a prediction dictionary on the annotated videos of a split.

    Args:
        predictions: as `predict` returns it.
        split: videos with annotations.
        tiou_thresholds: in (0, 1].

    Returns:
        `DetectionMap`.
    """
    return detection_map(
        make_segments(split.ground_truth()),
        make_segments(predictions["results"]),
        tiou_thresholds,
    )
