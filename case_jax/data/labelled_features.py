"""Labels in a table in place of annotations in JSON: `labels.csv` beside features.

The table is that of `case_jax.data.label_table`. Its labels of whole videos are all that training needs.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from case_jax.data.annotations import AnnotatedVideo
from case_jax.data.dataset import Annotation
from case_jax.data.info import DatasetInfo
from case_jax.data.label_table import LabelledVideo, name_of, read_labels, split_videos
from case_jax.data.names import find_name, read_names, split_path
from case_jax.data.sources import Source
from case_jax.errors import InputError

__all__ = ["LABELS", "end_within", "read_table"]

LABELS = "labels.csv"


def read_table(
    path: str | os.PathLike, info: DatasetInfo, sources: Mapping[str, Mapping[str, Source]]
) -> dict[str, AnnotatedVideo]:
    """Reads a table of labels as if it were a file of annotations.

    Which videos train and which test is told by the table's column ``subset``; without one by split_train.txt
    and split_test.txt beside the table, or by folders ``train`` and ``test`` of the features; or else by the
    rule of `split_videos`.

    Args:
        path: the table.
        info: names the subsets of the two splits.
        sources: video -> stream -> where its features are. The table may name a video by its file.

    Returns:
        Video name -> entry. A label without times lasts to the end of the video, which is infinity here:
        `end_within` puts the length that the features tell in its place.

    Raises:
        InputError: if it is not such a table, names a video twice, or its videos cannot be divided into
            training and test.
    """
    videos: dict[str, LabelledVideo] = {}
    for listed, video in read_labels(path).items():
        name = name_of(listed, sources) or listed
        if name in videos:
            raise InputError(f"{path}: names video {name!r} in two ways; expected one")
        videos[name] = video
    if not any(video.subset for video in videos.values()):
        told = _by_files(Path(path).parent, videos) or _by_folders(Path(path).parent, sources)
        if told:
            videos = {n: video._replace(subset=told[n]) for n, video in videos.items() if n in told}
    splits = split_videos(path, videos)
    subsets = ((info.train_subset, splits.train), (info.test_subset, splits.test))
    return {
        name: AnnotatedVideo(
            subset,
            video.annotations or tuple(Annotation(label, 0.0, math.inf) for label in video.labels),
            ambiguous=video.ambiguous,
        )
        for subset, split in subsets
        for name, video in split.items()
    }


def _by_files(folder: Path, videos: Iterable[str]) -> dict[str, str]:
    """Video -> "train" or "test" by the files of the splits. What a single file lacks is of the other."""
    listed = {
        split: set(read_names(split_path(folder, split)))
        for split in ("train", "test")
        if split_path(folder, split).exists()
    }
    told = {v: split for split, names in listed.items() for v in videos if find_name(v, names) is not None}
    if len(listed) == 1:
        [other] = {"train", "test"} - listed.keys()
        told |= {video: other for video in videos if video not in told}
    return told


def _by_folders(folder: Path, sources: Mapping[str, Mapping[str, Source]]) -> dict[str, str]:
    """Video -> "train" or "test", if the features of every video lie in a folder of that name."""
    found = {}
    for name, of_video in sources.items():
        parts = next(iter(of_video.values())).path.relative_to(folder).parts
        found[name] = next((part for part in parts if part in ("train", "test")), "")
    return found if all(found.values()) else {}


def end_within(annotations: Sequence[Annotation], seconds: float) -> tuple[Annotation, ...]:
    """Annotations whose infinite ends, if there are any, are the end of the video.

    Args:
        annotations: with times in seconds.
        seconds: how long the video is.

    Example:
        >>> end_within([Annotation("run", 0.0, math.inf), Annotation("jump", 1.0, 9.0)], 8.0)
        (Annotation(label='run', start=0.0, end=8.0), Annotation(label='jump', start=1.0, end=9.0))
    """
    return tuple(a if math.isfinite(a.end) else a._replace(end=seconds) for a in annotations)
