"""Labels in a table in place of annotations in JSON: `labels.csv` beside features.

The table is that of `case_jax.data.label_table`. Its labels of whole videos are all that training needs.
"""

import math
import os
from collections.abc import Iterable, Sequence

from case_jax.data.annotations import AnnotatedVideo
from case_jax.data.dataset import Annotation
from case_jax.data.info import DatasetInfo
from case_jax.data.label_table import LabelledVideo, name_of, read_labels, split_videos
from case_jax.errors import InputError

__all__ = ["LABELS", "end_within", "read_table"]

LABELS = "labels.csv"


def read_table(path: str | os.PathLike, info: DatasetInfo, known: Iterable[str]) -> dict[str, AnnotatedVideo]:
    """Reads a table of labels as if it were a file of annotations.

    Args:
        path: the table.
        info: names the subsets of the two splits.
        known: the names of the features' videos. The table may name a video by its file.

    Returns:
        Video name -> entry. A label without times lasts to the end of the video, which is infinity here:
        `end_within` puts the length that the features tell in its place.

    Raises:
        InputError: if it is not such a table, names a video twice, or its videos cannot be divided into
            training and test.
    """
    known = set(known)
    videos: dict[str, LabelledVideo] = {}
    for listed, video in read_labels(path).items():
        name = name_of(listed, known) or listed
        if name in videos:
            raise InputError(f"{path}: names video {name!r} in two ways; expected one")
        videos[name] = video
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
