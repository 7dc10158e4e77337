"""A data set of a user's own videos: labels and extracted features become the layout that training reads."""

import os
from collections.abc import Mapping

from case_jax.data.dataset import Annotation, as_entries
from case_jax.data.extraction import ExtractedVideo, Extraction
from case_jax.data.info import DatasetInfo
from case_jax.data.label_table import LabelledVideo, Splits
from case_jax.data.labelled_features import end_within
from case_jax.data.thumos import write_facts
from case_jax.errors import InputError

__all__ = ["write_own_videos"]


def write_own_videos(
    data_dir: str | os.PathLike,
    splits: Splits,
    extraction: Extraction,
    videos: Mapping[str, ExtractedVideo],
    *,
    table: str | os.PathLike,
) -> DatasetInfo:
    """Writes annotations, splits and dataset.json around features that are there.

    Args:
        data_dir: the data set's folder; features/train and features/test are in it.
        splits: the labels of its videos.
        extraction: how the features were made.
        videos: name -> what is known of it, at least of all videos in ``splits``.
        table: the table of labels, for messages.

    Returns:
        What dataset.json says.

    Raises:
        InputError: if videos whose every frame was taken differ in their frames per second, if a segment lies
            beyond the end of its video, or a file cannot be written.
    """
    classes = sorted({label for video in splits.train.values() for label in video.labels})
    info = DatasetInfo(
        classes=tuple(classes),
        streams=extraction.streams,
        frames_per_second=_common_fps(extraction, {n: videos[n] for n in (*splits.train, *splits.test)}),
        frames_per_snippet=float(extraction.stride),
    )
    database = {}
    for subset, labelled in ((info.train_subset, splits.train), (info.test_subset, splits.test)):
        for name, video in labelled.items():
            seconds = videos[name].seconds
            database[name] = {
                "subset": subset,
                "duration": round(seconds, 3),
                "annotations": as_entries(_annotations(f"{table}: video {name!r}", video, seconds)),
            }
    write_facts(data_dir, info, database, {"train": list(splits.train), "test": list(splits.test)})
    return info


def _common_fps(extraction: Extraction, videos: Mapping[str, ExtractedVideo]) -> float:
    if extraction.fps is not None:
        return extraction.fps
    (first, one), *others = videos.items()
    for name, video in others:
        if abs(video.fps - one.fps) > 1e-3 * one.fps:
            raise InputError(
                f"--fps: is native, and {first!r} has {one.fps:g} frames/s, {name!r} {video.fps:g}; expected "
                "videos of one rate, or --fps=25"
            )
    return one.fps


def _annotations(where: str, video: LabelledVideo, seconds: float) -> list[Annotation]:
    for label, start, end in (*video.annotations, *video.ambiguous):
        if start >= seconds:
            raise InputError(
                f"{where} has {label!r} from {start:g} to {end:g}, and lasts {seconds:.1f} s; expected times "
                "in seconds, within the video"
            )
    # Where no time is known, a label holds for the whole video.
    actions = video.annotations or tuple(Annotation(label, 0.0, seconds) for label in video.labels)
    return [*actions, *end_within(video.ambiguous, seconds)]
