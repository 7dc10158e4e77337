"""The THUMOS14 folder layout, and any data set laid out like it.

    DATA_DIR/
      features/train/<stream>/<video>.npy     (T_v, D) features, one file per video and stream
      features/test/<stream>/<video>.npy      or features/test/<video>.npz with one array per stream, or with
                                              the streams side by side in one array
      split_train.txt, split_test.txt         one video name a line
      gt.json                                 annotations in ActivityNet's form
      dataset.json                            optional; its defaults are THUMOS14's

Features may be in any format (`case_jax.data.formats`). `case_jax.data.info` lists the fields of
dataset.json.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data.annotations import AnnotatedVideo, choose_annotated, read_ground_truth
from case_jax.data.dataset import Dataset, Split, Video
from case_jax.data.feature_files import CheckShapes, FeatureFiles, num_cut, shape_checker
from case_jax.data.files import write_text_atomically
from case_jax.data.formats import find_array, list_arrays
from case_jax.data.info import AS_STORED, DatasetInfo, Reading, as_fields, info_path, read_info
from case_jax.data.labelled_features import LABELS
from case_jax.data.names import find_spelling, is_hidden, read_names, split_path
from case_jax.data.npy import write_features
from case_jax.data.packed import read_packed
from case_jax.data.problems import for_each
from case_jax.data.similar import did_you_mean, fold_label
from case_jax.data.sources import Source
from case_jax.data.together import divide_files
from case_jax.errors import InputError

__all__ = [
    "FoundThumos",
    "ThumosPaths",
    "find_thumos",
    "is_thumos_layout",
    "load_thumos",
    "write_dataset",
    "write_facts",
]


class ThumosPaths(NamedTuple):
    """Every path of the layout. A split is "train" or "test"."""

    data_dir: Path

    @property
    def ground_truth(self) -> Path:
        """The file of annotations."""
        return self.data_dir / "gt.json"

    def names(self, split: str) -> Path:
        """The file that lists a split's videos."""
        return split_path(self.data_dir, split)

    def features(self, split: str) -> Path:
        """The folder of a split's streams."""
        return self.data_dir / "features" / split

    def stream(self, split: str, stream: str) -> Path:
        """The folder of one stream's files."""
        return self.features(split) / stream

    def together(self, split: str, video: str) -> Path:
        """The file of all streams of a video, if it is there."""
        return find_array(self.features(split), video)

    def sources(
        self, split: str, video: str, streams: Sequence[str], reading: Reading = AS_STORED
    ) -> dict[str, Source]:
        """Stream -> where a video's features are, or would be if they were there.

        Raises:
            InputError: if one file has all streams, and cannot be read or divided.
        """
        paths = {stream: find_array(self.stream(split, stream), video) for stream in streams}
        if not any(map(os.path.exists, paths.values())):
            together = self.together(split, video)
            if os.path.isfile(together):
                return divide_files({video: Source(together, reading=reading)}, streams)[video]
        return {stream: Source(path, reading=reading) for stream, path in paths.items()}

    def list_features(self, split: str, stream: str) -> tuple[dict[str, Path], list[str]]:
        """The files of a split's features, of one stream or of all together, as `list_arrays` lists them."""
        folder = self.stream(split, stream)
        return list_arrays(folder if os.path.isdir(folder) else self.features(split))


class FoundThumos(NamedTuple):
    """A data set before its features are opened, and before its parts are compared."""

    paths: ThumosPaths
    info: DatasetInfo
    database: dict[str, AnnotatedVideo]  # of gt.json
    names: dict[str, list[str]]  # "train" and "test" -> the videos that the split's file lists

    def subset(self, split: str) -> str:
        """The annotations' name of a split."""
        return {"train": self.info.train_subset, "test": self.info.test_subset}[split]


def is_thumos_layout(data_dir: str | os.PathLike) -> bool:
    """Whether a folder is meant to be in this layout; otherwise it may be in ActivityNet's.

    It is if its annotations are in gt.json and it has a training split or training features under the names
    above. If a folder has no annotations, the split or features alone decide, unless it has labels.csv, which
    the reader of ActivityNet's layout reads. A missing folder counts as one of this layout, whose reader says
    that it is missing.
    """
    paths = ThumosPaths(Path(data_dir))
    if not os.path.isdir(data_dir):
        return True
    listed = {path.name for path in paths.data_dir.glob("*.json") if not is_hidden(path.name)}
    named = listed - {info_path(data_dir).name}
    has_parts = paths.names("train").exists() or paths.features("train").is_dir()
    if not named and (paths.data_dir / LABELS).is_file():
        return False
    return has_parts and (not named or paths.ground_truth.name in named)


def find_thumos(data_dir: str | os.PathLike) -> FoundThumos:
    """Reads the facts, the annotations and the splits.

    Args:
        data_dir: folder in the layout above.

    Returns:
        `FoundThumos`; whether its parts fit together is not checked.

    Raises:
        InputError: if one of the files is missing, unreadable or of the wrong form.
    """
    paths = ThumosPaths(Path(data_dir))
    if not os.path.isdir(data_dir):
        raise InputError(f"{data_dir}: no such folder; expected features/, split_*.txt and gt.json in it")
    info = read_info(data_dir, "thumos14")
    database = read_ground_truth(paths.ground_truth)
    names = {split: read_names(paths.names(split)) for split in ("train", "test")}
    for split, listed in names.items():  # a list may spell accents otherwise than the annotations
        names[split] = [find_spelling(name, database) or name for name in listed]
    return FoundThumos(paths, info, database, names)


def load_thumos(
    data_dir: str | os.PathLike,
    *,
    in_memory: bool = True,
    dtype: str = "float32",
    action_free: bool = True,
    strict: bool = False,
) -> Dataset:
    """Reads a data set in this layout and checks all of it.

    Args:
        data_dir: folder in the layout above.
        in_memory: False to leave the features on disk. Each file is then opened once, to check its shape, and
            values are checked when they are read.
        dtype: "float32" or "bfloat16", of features in memory.
        action_free: whether videos without any action, whose list of annotations is empty, are taken.
            Otherwise they are counted in `Split.left_out`, as videos with ambiguous actions only always are.
        strict: whether a video's streams have to be equally long. Otherwise those that differ by one snippet
            are cut to the shorter, and counted in `Split.num_cut`.

    Returns:
        `Dataset`. Videos may have any number of snippets, one or more.

    Raises:
        InputError: for a missing or unreadable file; a width that differs between videos or lengths of
            a video's streams that do not fit; a value that is not finite; a label that is not a class; a
            split without annotated videos; or a listed video that gt.json lacks or has in another subset.
    """
    found = find_thumos(data_dir)
    check = shape_checker(strict=strict)
    train, test = (
        _load_split(found, split, check, in_memory, dtype, action_free) for split in ("train", "test")
    )
    return Dataset(found.info, train, test)


def _load_split(
    found: FoundThumos, split: str, check: CheckShapes, in_memory: bool, dtype: str, action_free: bool
) -> Split:
    streams = found.info.streams
    names = found.names[split]
    listed = dict(zip(names, for_each(lambda name: _check_entry(found, split, name), names)))
    _check_annotated(found, split, listed)
    used, left_out = choose_annotated(listed, action_free=action_free)

    def open_video(name: str) -> FeatureFiles:
        _check_labels(found, name, used[name])
        return check(found.paths.sources(split, name, streams, found.info.reading))

    files = for_each(open_video, used)
    packed, features = read_packed(files, streams, dtype) if in_memory else (None, files)
    annotations = [entry.annotations for entry in used.values()]
    return Split(
        found.subset(split), tuple(map(Video, used, features, annotations)), packed, left_out, num_cut(files)
    )


def _check_entry(found: FoundThumos, split: str, name: str) -> AnnotatedVideo:
    """The annotations of a listed video."""
    path, listed = found.paths.ground_truth, found.paths.names(split)
    entry = found.database.get(name)
    if entry is None:
        near = did_you_mean(name, found.database)
        raise InputError(f"{path}: has no video {name!r}{near}; expected all of {listed}")
    if entry.subset != found.subset(split):
        raise InputError(
            f"{path}: video {name!r} is of subset {entry.subset!r}; expected {found.subset(split)!r} "
            f"because {listed} lists it"
        )
    return entry


def _check_annotated(found: FoundThumos, split: str, listed: Mapping[str, AnnotatedVideo]) -> None:
    """Rejects a split of which nothing could be learnt or measured."""
    if not any(entry.annotations for entry in listed.values()):
        raise InputError(
            f"{found.paths.ground_truth}: has no annotation of any video of {found.paths.names(split)}; "
            "expected some"
        )


def _check_labels(found: FoundThumos, name: str, entry: AnnotatedVideo) -> None:
    classes = found.info.classes
    for annotation in entry.annotations:
        if annotation.label not in classes:
            raise InputError(
                f"{found.paths.ground_truth}: video {name!r} has label "
                f"{annotation.label!r}{did_you_mean(annotation.label, classes, fold_label)}; expected one of "
                f"the {len(classes)} classes ({classes[0]} .. {classes[-1]}); dataset.json can name others"
            )


def write_dataset(dataset: Dataset, data_dir: str | os.PathLike) -> None:
    """Writes a data set in this layout, so that it can be looked at or fed to other code.

    Args:
        dataset: the data set.
        data_dir: folder, made if needed; files of the same names are replaced.

    Raises:
        InputError: if a file cannot be written.
    """
    paths, info = ThumosPaths(Path(data_dir)), dataset.info
    database: dict[str, dict] = {}
    for name, split in (("train", dataset.train), ("test", dataset.test)):
        for stream in info.streams:
            for video in split.videos:
                path = paths.stream(name, stream) / f"{video.name}.npy"
                write_features(path, np.asarray(video.features[stream]))
        database |= split.database(split.subset, info)
    names = {"train": dataset.train, "test": dataset.test}
    listed = {split: [video.name for video in videos.videos] for split, videos in names.items()}
    write_facts(data_dir, info, database, listed)


def write_facts(
    data_dir: str | os.PathLike,
    info: DatasetInfo,
    database: Mapping[str, Mapping],
    names: Mapping[str, Sequence[str]],
) -> None:
    """Writes all of this layout except the features.

    Args:
        data_dir: folder, made if needed; files of the same names are replaced.
        info: what goes to dataset.json.
        database: of gt.json: video -> {"subset", "duration", "annotations"}.
        names: "train" and "test" -> the videos of each split.

    Raises:
        InputError: if a file cannot be written.
    """
    paths = ThumosPaths(Path(data_dir))
    for split, listed in names.items():
        write_text_atomically(paths.names(split), "".join(f"{name}\n" for name in listed))
    write_text_atomically(paths.ground_truth, json.dumps({"database": database}))
    write_text_atomically(info_path(data_dir), json.dumps(as_fields(info, "thumos14"), indent=1))
