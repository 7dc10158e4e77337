"""Scores of videos to their final detections: kept classes, upsampling, proposals, soft-NMS."""

from collections.abc import Sequence

import numpy as np

from case_jax.config import CaseConfig
from case_jax.localization.detections import Detections, concatenate
from case_jax.localization.nms import published_soft_nms, standard_soft_nms
from case_jax.localization.proposals import kept_classes, proposals, upsample

__all__ = ["localize_video", "localize_videos"]


def localize_video(
    fused: np.ndarray, video_scores: np.ndarray, *, duration: float, config: CaseConfig
) -> Detections:
    """Detects actions in one video.

    Args:
        fused: (T, G) fused class activation sequences, evenly spaced over the video.
        video_scores: (G,) video-level scores.
        duration: how many seconds of video the T samples cover (T_v * seconds per snippet).
        config: hyper-parameters; the "Proposals" group is used.

    Returns:
        `Detections`, class by class in the order that soft-NMS gives.
    """
    fused, video_scores = np.asarray(fused), np.asarray(video_scores)
    classes = kept_classes(video_scores, config.class_threshold)
    if config.video_score == "kept":
        video_scores = np.ones_like(video_scores)
    sequence = upsample(fused[:, classes], config.upsampling)
    found = proposals(
        sequence,
        video_scores,
        classes=classes,
        seconds_per_position=duration / sequence.shape[0],
        thresholds=config.proposal_thresholds,
        flank=config.flank,
        video_score_weight=config.video_score_weight,
    )
    soft_nms = {"published": published_soft_nms, "standard": standard_soft_nms}[config.nms]
    return concatenate(
        [
            soft_nms(
                found.take(found.label == label),
                threshold=config.nms_threshold,
                alpha=config.nms_alpha,
            )
            for label in classes
        ]
    )


def localize_videos(
    fused: np.ndarray, video_scores: np.ndarray, durations: Sequence[float], config: CaseConfig
) -> list[Detections]:
    """`localize_video` of each of V videos: (V, T, G) and (V, G) scores, (V,) durations in seconds."""
    return [
        localize_video(sequence, scores, duration=float(duration), config=config)
        for sequence, scores, duration in zip(fused, video_scores, durations)
    ]
