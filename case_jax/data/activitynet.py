"""ActivityNet v1.2 and v1.3, in the forms in which their annotations and features are found.

    DATA_DIR/
      <anything>.json              annotations, the official form or one object per video; or
      labels.csv                   a table of labels: video,label and, where known, start,end,subset
      features/...                 any form of `case_jax.data.feature_folders`; or directly in DATA_DIR
      split_train.txt, split_test.txt   optional: the videos of each split, one name a line
      dataset.json                 optional: what differs from 25 frames per second and 16 frames per snippet

Videos may be named with or without the prefix "v_" anywhere. `case_jax.data.info` lists the fields of
dataset.json.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data.activitynet_splits import find_annotations, videos_of_split
from case_jax.data.annotations import AnnotatedVideo, choose_annotated, read_ground_truth
from case_jax.data.dataset import Dataset, Split, Video
from case_jax.data.feature_files import CheckShapes, num_cut, shape_checker
from case_jax.data.feature_folders import find_sources
from case_jax.data.files import write_text_atomically
from case_jax.data.info import (
    ACTIVITYNET,
    DatasetInfo,
    as_fields,
    info_from,
    info_path,
    known_fields,
    read_fields,
)
from case_jax.data.labelled_features import end_within, read_table
from case_jax.data.names import find_name
from case_jax.data.npy import write_features
from case_jax.data.packed import read_packed
from case_jax.data.problems import for_each
from case_jax.data.similar import did_you_mean, fold_label
from case_jax.data.sources import Source
from case_jax.errors import InputError

__all__ = ["Found", "find_dataset", "load_activitynet", "write_activitynet"]


class Found(NamedTuple):
    """A data set before its features are opened."""

    info: DatasetInfo
    annotations_path: Path
    splits: dict[str, dict[str, AnnotatedVideo]]  # "train" and "test" -> the split's videos
    sources: dict[str, dict[str, Source]]  # video, by the features' names -> stream -> where it is
    repeated: tuple[str, ...]  # videos whose features are there more than once; the first ones are used

    def subset(self, split: str) -> str:
        """The annotations' name of a split."""
        return {"train": self.info.train_subset, "test": self.info.test_subset}[split]

    def sources_of(self, video: str) -> dict[str, Source] | None:
        """Stream -> where a video's features are, under any of its names; None if there are none."""
        name = find_name(video, self.sources)
        return None if name is None else self.sources[name]


def find_dataset(data_dir: str | os.PathLike) -> Found:
    """Reads the facts and annotations, and lists the features.

    Args:
        data_dir: folder in the layout above.

    Returns:
        `Found`. Its classes are all labels of both splits, alphabetically, unless dataset.json names them.

    Raises:
        InputError: as `load_activitynet`, but for the features' shapes and values.
    """
    data_dir = Path(data_dir)
    if not os.path.isdir(data_dir):
        raise InputError(f"{data_dir}: no such folder; expected annotations and features in it")
    fields = read_fields(data_dir, "activitynet")
    info = info_from(fields, "activitynet")
    path = find_annotations(data_dir, fields.get("annotations"))
    found = None
    if path.suffix == ".csv":  # it may name videos by their files, so that it needs the features' names
        found = find_sources(data_dir, info.streams, reading=info.reading)
        database = read_table(path, info, found.sources)
    else:
        database = read_ground_truth(path)
    splits = {
        "train": videos_of_split(data_dir, "train", info.train_subset, database, path),
        "test": videos_of_split(data_dir, "test", info.test_subset, database, path),
    }
    if not info.classes:
        info = dataclasses.replace(info, classes=_all_labels(splits, path))
    twice = sorted(set(splits["train"]) & set(splits["test"]))
    if twice:
        raise InputError(f"{data_dir}: video {twice[0]!r} is in both splits; expected it in one")
    found = found or find_sources(data_dir, info.streams, reading=info.reading)
    return Found(info, path, splits, found.sources, found.repeated)


def _all_labels(splits: Mapping[str, Mapping[str, AnnotatedVideo]], path: Path) -> tuple[str, ...]:
    videos = [video for split in splits.values() for video in split.values()]
    labels = {annotation.label for video in videos for annotation in video.annotations}
    if not labels:
        raise InputError(f"{path}: annotates no action in the videos of either split; expected some")
    return tuple(sorted(labels))


def load_activitynet(
    data_dir: str | os.PathLike,
    *,
    in_memory: bool = True,
    dtype: str = "float32",
    action_free: bool = True,
    strict: bool = False,
) -> Dataset:
    """Reads a data set in this layout and checks all of it that is used.

    Videos without features are left out and counted in `Split.left_out`. Segments are kept as they are
    annotated, as ActivityNet's evaluator keeps them: one of no length can never be found.

    Args:
        data_dir: folder in the layout above.
        in_memory: False to leave the features on disk. Each file is then opened once, to check its shape, and
            values are checked when they are read.
        dtype: "float32" or "bfloat16", of features in memory.
        action_free: whether videos without any action, whose list of annotations is empty, are taken.
            Otherwise they are left out and counted, too, as videos with ambiguous actions only always are.
        strict: whether a video's streams have to be equally long. Otherwise those that differ by one snippet
            are cut to the shorter, and counted in `Split.num_cut`.

    Returns:
        `Dataset`; its classes are all labels of both splits, alphabetically, unless dataset.json names them.

    Raises:
        InputError: for a file that is missing, unreadable or of the wrong form, a split without videos, a
            label that is not a class, or features whose shapes do not fit together.
    """
    found = find_dataset(data_dir)
    check = shape_checker(strict=strict)
    train, test = (
        _load_split(data_dir, found, split, check, in_memory, dtype, action_free)
        for split in ("train", "test")
    )
    return Dataset(found.info, train, test)


def _load_split(
    data_dir: str | os.PathLike,
    found: Found,
    split: str,
    check: CheckShapes,
    in_memory: bool,
    dtype: str,
    action_free: bool,
) -> Split:
    videos, info = found.splits[split], found.info
    annotated, left_out = choose_annotated(videos, action_free=action_free)
    places = {name: found.sources_of(name) for name in annotated}
    kept = {name: sources for name, sources in places.items() if sources is not None}
    if not any(annotated[name].annotations for name in kept):
        num_annotated = sum(bool(entry.annotations) for entry in annotated.values())
        raise InputError(
            f"{data_dir}: has features of none of the {num_annotated:,} annotated videos of subset "
            f"{found.subset(split)!r}; expected names as in {found.annotations_path}, such as "
            f"{next(iter(videos))}"
        )
    files = for_each(check, kept.values())
    for_each(lambda name: _check_annotations(name, annotated[name], found), kept)
    packed, features = read_packed(files, info.streams, dtype) if in_memory else (None, files)
    loaded = []
    for name, of_video in zip(kept, features):
        duration = annotated[name].duration if info.rescaled else None
        video = Video(name, of_video, annotated[name].annotations, duration)
        loaded.append(video._replace(annotations=end_within(video.annotations, video.seconds(info))))
    left_out = {"without features": len(annotated) - len(kept), **left_out}
    return Split(found.subset(split), tuple(loaded), packed, left_out, num_cut(files))


def _check_annotations(video: str, entry: AnnotatedVideo, found: Found) -> None:
    where = f"{found.annotations_path}: video {video!r}"
    for annotation in entry.annotations:
        if annotation.label not in found.info.classes:
            raise InputError(
                f"{where} has label {annotation.label!r}"
                f"{did_you_mean(annotation.label, found.info.classes, fold_label)}; expected one of the "
                f"{len(found.info.classes)} classes in dataset.json"
            )
    if found.info.rescaled and not entry.duration:
        raise InputError(f"{where} has no duration; expected one, since features are rescaled")


def write_activitynet(dataset: Dataset, data_dir: str | os.PathLike) -> None:
    """Writes a data set in ActivityNet's official form, one .npy file per video and stream.

    Args:
        dataset: the data set.
        data_dir: folder, made if needed; files of the same names are replaced.

    Raises:
        InputError: if a file cannot be written.
    """
    data_dir, info = Path(data_dir), dataset.info
    database: dict[str, dict] = {}
    for subset, split in ((ACTIVITYNET.train_subset, dataset.train), (ACTIVITYNET.test_subset, dataset.test)):
        for video in split.videos:
            for stream in info.streams:
                path = data_dir / "features" / stream / f"v_{video.name}.npy"
                write_features(path, np.asarray(video.features[stream]))
        database |= split.database(subset, info)
    content = {"version": "case_jax", "taxonomy": [], "database": database}
    write_text_atomically(data_dir / "activity_net.json", json.dumps(content))
    facts = _facts_beside_annotations(info)
    if facts != _facts_beside_annotations(ACTIVITYNET):
        write_text_atomically(info_path(data_dir), json.dumps(facts, indent=1))


def _facts_beside_annotations(info: DatasetInfo) -> dict[str, object]:
    """The fields of dataset.json that the annotations do not tell anyway."""
    known = known_fields("activitynet")
    fields = as_fields(info, "activitynet")
    return {name: value for name, value in fields.items() if not known[name].in_annotations}
