"""The THUMOS14 folder layout, and any data set laid out like it.

    DATA_DIR/
      features/train/<stream>/<video>.npy     (T_v, D) features, one file per video and stream
      features/test/<stream>/<video>.npy
      split_train.txt, split_test.txt         one video name a line
      gt.json                                 ActivityNet form
      dataset.json                            optional; what is missing in it is THUMOS14's

`dataset.json` may hold "streams" (list of folder names), "frames_per_second", "frames_per_snippet",
"classes" (list) and "subsets" ({"train": ..., "test": ...}, the names used in gt.json).
"""

import json
import os
from pathlib import Path

import numpy as np

from case_jax.data.annotations import AnnotatedVideo, read_ground_truth
from case_jax.data.dataset import Dataset, Split, Video
from case_jax.data.feature_files import Widths, find_features, read_packed
from case_jax.data.files import (
    read_names,
    write_features,
    write_text_atomically,
)
from case_jax.data.info import read_info
from case_jax.errors import InputError

__all__ = ["is_thumos_layout", "load_thumos", "write_dataset"]


def load_thumos(data_dir: str | os.PathLike, *, in_memory: bool = True, dtype: str = "float32") -> Dataset:
    """Reads a whole data set into host memory and checks all of it.

    Args:
        data_dir: folder in the layout above.
        in_memory: False to leave the features on disk. Each is then opened once, to check its shape, and
            values are checked as they are read.
        dtype: "float32" or "bfloat16", of features in memory.

    Returns:
        `Dataset`. Videos may have any number of snippets, one or more.

    Raises:
        InputError: for a missing or unreadable file; a width that differs between videos or a length that
            differs between the streams of a video; values that are not finite; a label that is no class; a
            video without annotations, or in no or another subset of gt.json.
    """
    data_dir = Path(data_dir)
    if not os.path.isdir(data_dir):
        raise InputError(f"{data_dir}: no such folder; expected features/, split_*.txt and gt.json in it")
    info = read_info(data_dir)
    ground_truth_path = data_dir / "gt.json"
    ground_truth = read_ground_truth(ground_truth_path)
    widths: Widths = {}

    def load_split(folder: str, subset: str) -> Split:
        names_path = data_dir / f"split_{folder}.txt"
        names = read_names(names_path)
        files, annotations = [], []
        for name in names:
            entry = _entry_of(name, names_path, ground_truth, ground_truth_path, subset)
            _check_labels(name, entry, info.classes, ground_truth_path)
            files.append(find_features(data_dir / "features" / folder, name, info.streams, widths))
            annotations.append(entry.annotations)
        packed, features = read_packed(files, info.streams, dtype) if in_memory else (None, files)
        return Split(subset, tuple(map(Video, names, features, annotations)), packed)

    return Dataset(info, load_split("train", info.train_subset), load_split("test", info.test_subset))


def is_thumos_layout(data_dir: str | os.PathLike) -> bool:
    """Whether a folder is meant to be in this layout; if not, it may be in ActivityNet's.

    It is if its annotations are named gt.json and it has splits or parts named as above. Without any
    annotations, splits or parts tell.
    """
    data_dir = Path(data_dir)
    if not os.path.isdir(data_dir):
        return True
    named = {path.name for path in data_dir.glob("*.json")} - {"dataset.json"}
    parts = (data_dir / "split_train.txt").exists() or (data_dir / "features" / "train").is_dir()
    return parts and (not named or "gt.json" in named)


def write_dataset(dataset: Dataset, data_dir: str | os.PathLike) -> None:
    """Writes a data set in this layout, so that it can be looked at or fed to other code.

    Args:
        dataset: what to write.
        data_dir: folder, made if needed; files of the same names are replaced.

    Raises:
        InputError: if it cannot be written.
    """
    data_dir, info = Path(data_dir), dataset.info
    database: dict[str, dict] = {}
    for folder, split in (("train", dataset.train), ("test", dataset.test)):
        for stream in info.streams:
            for video in split.videos:
                write_features(
                    data_dir / "features" / folder / stream / f"{video.name}.npy",
                    np.asarray(video.features[stream]),
                )
        database |= split.database(split.subset, info)
        names = "".join(f"{video.name}\n" for video in split.videos)
        write_text_atomically(data_dir / f"split_{folder}.txt", names)
    write_text_atomically(data_dir / "gt.json", json.dumps({"database": database}))
    facts = {
        "streams": info.streams,
        "frames_per_second": info.frames_per_second,
        "frames_per_snippet": info.frames_per_snippet,
        "classes": info.classes,
        "subsets": {"train": info.train_subset, "test": info.test_subset},
    }
    write_text_atomically(data_dir / "dataset.json", json.dumps(facts, indent=1))


def _entry_of(
    name: str,
    names_path: Path,
    ground_truth: dict[str, AnnotatedVideo],
    ground_truth_path: Path,
    subset: str,
) -> AnnotatedVideo:
    entry = ground_truth.get(name)
    if entry is None:
        raise InputError(f"{ground_truth_path}: has no video {name!r}; expected all of {names_path}")
    if entry.subset != subset:
        raise InputError(
            f"{ground_truth_path}: video {name!r} is of subset {entry.subset!r}; expected {subset!r} "
            f"because {names_path} lists it"
        )
    if not entry.annotations:
        raise InputError(
            f"{ground_truth_path}: video {name!r} has no annotation; expected one or more, or the video "
            f"left out of {names_path}"
        )
    return entry


def _check_labels(
    name: str, entry: AnnotatedVideo, classes: tuple[str, ...], ground_truth_path: Path
) -> None:
    for annotation in entry.annotations:
        if annotation.label not in classes:
            raise InputError(
                f"{ground_truth_path}: video {name!r} has label {annotation.label!r}; expected one of the "
                f"{len(classes)} classes ({classes[0]} .. {classes[-1]}); dataset.json can name others"
            )
