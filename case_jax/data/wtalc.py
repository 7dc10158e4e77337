"""The files in which W-TALC and its successors share data sets, and their way into the THUMOS14 layout.

    FOLDER/
      <name>-I3D-JOINTFeatures.npy     V arrays (T_v, 2048): rgb and flow side by side
      <name>-Annotations/
        videoname.npy, subset.npy      one each per video
        classlist.npy                  the classes
        labels_all.npy                 the labels of each video
        segments.npy, labels.npy       [start, end] in seconds and the label of each action of each video
        duration.npy                   seconds

They began with Paul et al., "W-TALC" (ECCV 2018), and went on with 3C-Net, CO2-Net, DELU and others.
``labels_all`` has errors that its authors know and keep: it was taken from THUMOS14's class-level
annotations, and is empty for some videos that have segments (issues 11 and 13 of sujoyp/wtalc-pytorch). So
the labels of segments win, unless told otherwise.
"""

import collections
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from case_jax.data.dataset import Annotation, as_entries
from case_jax.data.files import one_line, write_atomically
from case_jax.data.info import DatasetInfo
from case_jax.data.names import is_hidden
from case_jax.data.npy import npy_bytes
from case_jax.data.object_arrays import StoredArray, read_items
from case_jax.data.thumos import ThumosPaths, write_facts
from case_jax.data.wtalc_files import WtalcRows, read_classes, read_splits, read_video_names
from case_jax.errors import InputError

__all__ = [
    "OFTEN_LEFT_OUT",
    "Difference",
    "Labels",
    "WtalcAnnotations",
    "WtalcFiles",
    "WtalcVideo",
    "convert_wtalc",
    "find_wtalc",
    "read_wtalc",
]

Labels = Literal["segments", "labels_all"]

# Test videos of THUMOS14 whose annotations are wrong, empty or ambiguous. STPN and later work leave them out.
OFTEN_LEFT_OUT = ("video_test_0000270", "video_test_0001292", "video_test_0001496")

_FEATURES, _ANNOTATIONS = "-JOINTFeatures.npy", "-Annotations"


class WtalcFiles(NamedTuple):
    """Where the parts of a data set are."""

    features: Path
    annotations: Path  # folder


class WtalcVideo(NamedTuple):
    """One video."""

    row: int  # its place in all files
    name: str
    annotations: tuple[Annotation, ...]  # the segments with their labels, ambiguous ones included
    throughout: tuple[str, ...]  # labels of the video that no segment has
    duration: float | None  # seconds, if known


class Difference(NamedTuple):
    """A video whose labels in ``labels_all`` are not those of its segments."""

    name: str
    of_video: tuple[str, ...]
    of_segments: tuple[str, ...]


class WtalcAnnotations(NamedTuple):
    """All that the folder of annotations tells.

    Attributes:
        folder: the folder.
        classes: in the order of the files.
        videos: "train" and "test" -> videos, in the order of the files.
        left_out: "train" and "test" -> reason -> how many videos.
        num_videos: V, of all subsets.
        num_others: videos of other subsets.
        num_bad_segments: segments without a usable start and end, which are left out.
        num_compared: videos that have both segments and ``labels_all``.
        differences: those of them in which the two differ.
    """

    folder: Path
    classes: tuple[str, ...]
    videos: dict[str, list[WtalcVideo]]
    left_out: dict[str, collections.Counter[str]]
    num_videos: int
    num_others: int
    num_bad_segments: int
    num_compared: int
    differences: tuple[Difference, ...]


def find_wtalc(
    folder: str | os.PathLike,
    *,
    features: str | os.PathLike | None = None,
    annotations: str | os.PathLike | None = None,
) -> WtalcFiles:
    """Finds the file of features and the folder of annotations by the ends of their names.

    Args:
        folder: holds one of each.
        features: the file of features, if it is known.
        annotations: the folder of annotations, if it is known.

    Returns:
        `WtalcFiles`.

    Raises:
        InputError: if the folder has none or several of what is not known.
    """
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; expected one with <name>{_FEATURES}")

    def find(known: str | os.PathLike | None, end: str, flag: str) -> Path:
        if known is not None:
            return Path(known)
        found = [path for path in sorted(Path(folder).glob(f"*{end}")) if not is_hidden(path.name)]
        if len(found) != 1:
            named = f" ({', '.join(path.name for path in found)})" if found else ""
            raise InputError(f"{folder}: has {len(found)} <name>{end}{named}; expected one, or {flag}")
        return found[0]

    return WtalcFiles(
        find(features, _FEATURES, "--features"), find(annotations, _ANNOTATIONS, "--annotations")
    )


def read_wtalc(
    folder: str | os.PathLike,
    *,
    train_subset: str | None = None,
    test_subset: str | None = None,
    labels: Labels = "segments",
    action_free: bool = False,
    exclude: Collection[str] = (),
) -> WtalcAnnotations:
    """Reads the annotations. Names and labels may be text or bytes, and any file a pickle of Python 2 or 3.

    A training video without segments gets the labels of ``labels_all``, throughout. A test video has to have
    segments, as in W-TALC's own evaluation.

    Args:
        folder: ``<name>-Annotations``.
        train_subset: the files' name of the videos that train; default as in THUMOS14 ("validation") or
            ActivityNet ("training").
        test_subset: likewise ("test", "validation").
        labels: where training videos that have both take their labels from: their segments or
            ``labels_all``. Test videos keep their segments.
        action_free: whether videos with neither segments nor labels are taken for videos without any action.
            Otherwise they are left out.
        exclude: names of videos to leave out.

    Returns:
        `WtalcAnnotations`.

    Raises:
        InputError: if a file is missing, unreadable or of the wrong form, files disagree on the number of
            videos, a label is no class, a video to exclude is not there, or a split has no video.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; expected <name>{_ANNOTATIONS}")
    names, classes = read_video_names(folder), read_classes(folder)
    splits = read_splits(folder, len(names), train_subset=train_subset, test_subset=test_subset)
    rows = WtalcRows.read(folder, len(names), classes)
    for name in exclude:
        if name not in names:
            raise InputError(f"{folder}: has no video {name!r}; expected only videos in --exclude")

    videos: dict[str, list[WtalcVideo]] = {"train": [], "test": []}
    left_out: dict[str, collections.Counter[str]] = {split: collections.Counter() for split in videos}
    differences, num_compared, num_bad = [], 0, 0
    seen: set[str] = set()
    for row, (name, split) in enumerate(zip(names, splits)):
        if split is None:
            continue
        if name in seen or name in exclude:
            left_out[split]["listed before" if name in seen else "excluded"] += 1
            continue
        seen.add(name)
        of_video, found = rows.of_video(row), rows.segments(row)
        of_segments = tuple(dict.fromkeys(action.label for action in found.actions))
        num_bad += found.num_bad
        if found.actions and rows.has_both:
            num_compared += 1
            if set(of_video) != set(of_segments):
                differences.append(Difference(name, of_video, of_segments))
        timed, throughout = found.actions, () if found.actions else of_video
        if split == "train" and labels == "labels_all" and rows.has_labels_all:
            timed = tuple(action for action in found.actions if action.label in of_video)
            throughout = tuple(label for label in of_video if label not in of_segments)
        free = action_free and not (of_video or any(found))
        if not (timed or throughout or free):
            left_out[split]["without any label"] += 1
        elif split == "test" and not (timed or free):
            left_out[split]["with labels but without segments"] += 1
        else:
            annotations = (*timed, *found.ambiguous)
            videos[split].append(WtalcVideo(row, name, annotations, throughout, rows.duration(row)))
    for split, kept in videos.items():
        if not kept:
            why = ", ".join(f"{count:,} {reason}" for reason, count in left_out[split].items()) or "none"
            raise InputError(f"{folder}: no video is left to {split} (left out: {why}); expected some")
    return WtalcAnnotations(
        folder,
        classes,
        videos,
        left_out,
        len(names),
        splits.count(None),
        num_bad,
        num_compared,
        tuple(differences),
    )


def convert_wtalc(
    features: str | os.PathLike,
    annotations: WtalcAnnotations,
    data_dir: str | os.PathLike,
    *,
    frames_per_second: float = 25.0,
    frames_per_snippet: float = 16.0,
    rgb_channels: int | None = None,
    done: Callable[[], None] = lambda: None,
) -> WtalcAnnotations:
    """Writes a data set in the THUMOS14 layout; files that are there with the same content stay untouched.

    Memory holds one video at a time, in a few copies, whatever the size of the file: for 200 videos of up to
    4 MB, 474 MB together, this took 20 MB.

    Args:
        features: ``<name>-I3D-JOINTFeatures.npy``: V arrays (T_v, D), or one (V, T, D) array.
        annotations: from `read_wtalc`.
        data_dir: folder, made if needed.
        frames_per_second: of the videos from which the features were extracted.
        frames_per_snippet: frames from the start of a snippet to the start of the next.
        rgb_channels: how many of the D channels, from the first on, are rgb's; the others are flow's. Default
            half of D.
        done: called after each video.

    Returns:
        The annotations of the videos that were written; the others are counted in ``left_out``: those without
        features, and those with features that are not finite or all zero.

    Raises:
        InputError: if the features are unreadable, of another number of videos or of differing widths, or a
            file cannot be written.
    """
    items = read_items(features)
    if len(items) != annotations.num_videos:
        raise InputError(
            f"{features}: has {len(items):,} videos; expected {annotations.num_videos:,} as in "
            f"{annotations.folder}"
        )
    paths = ThumosPaths(Path(data_dir))
    info = DatasetInfo(
        annotations.classes,
        frames_per_second=frames_per_second,
        frames_per_snippet=frames_per_snippet,
    )
    width: int | None = None
    database: dict[str, dict] = {}
    kept: dict[str, list[WtalcVideo]] = {split: [] for split in annotations.videos}
    left_out = {split: counts.copy() for split, counts in annotations.left_out.items()}
    for split, subset in (("train", info.train_subset), ("test", info.test_subset)):
        for video in annotations.videos[split]:
            where = f"{features}: video {video.name!r}"
            array, wrong = _read_video(where, items[video.row])
            if wrong is not None:
                left_out[split][wrong] += 1
            else:
                width = width or array.shape[1]
                rgb = _rgb_channels(where, array, width, rgb_channels)
                for stream, part in zip(info.streams, (array[:, :rgb], array[:, rgb:])):
                    _write_if_other(paths.stream(split, stream) / f"{video.name}.npy", part)
                seconds = video.duration or len(array) * info.seconds_per_snippet
                whole = (Annotation(label, 0.0, seconds) for label in video.throughout)
                database[video.name] = {
                    "subset": subset,
                    "duration": seconds,
                    "annotations": as_entries([*video.annotations, *whole]),
                }
                kept[split].append(video)
            done()
        if not kept[split]:
            raise InputError(
                f"{features}: has usable features of no video to {split}; expected those of "
                f"{annotations.folder}"
            )
    write_facts(data_dir, info, database, {split: [v.name for v in of] for split, of in kept.items()})
    return annotations._replace(videos=kept, left_out=left_out)


def _read_video(where: str, item: Any) -> tuple[np.ndarray, str | None]:
    """(T_v, D) float32, or why the video is left out."""
    if item is None or (isinstance(item, list | tuple) and not item):
        return np.empty((0, 0), np.float32), "without features"
    try:
        rows = item if isinstance(item, list | tuple) else [item]
        arrays = [row.read() if isinstance(row, StoredArray) else np.asarray(row) for row in rows]
        array = np.stack(arrays) if rows is item else arrays[0]
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{where} cannot be read ({one_line(error)}); expected numbers") from None
    if not array.size:
        return array, "without snippets"
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{where} has {array.dtype} features of shape {array.shape}; expected numbers of shape "
            "(snippets, channels)"
        )
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which is left out
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        return array, "with features that are not finite"
    return array, None if array.any() else "with features that are all zero"


def _rgb_channels(where: str, array: np.ndarray, width: int, rgb_channels: int | None) -> int:
    if array.shape[1] != width:
        raise InputError(f"{where} has {array.shape[1]} channels; expected {width} as in other videos")
    if rgb_channels is None and width % 2:
        raise InputError(f"{where} has {width} channels; expected an even number, or --rgb_channels")
    rgb = width // 2 if rgb_channels is None else rgb_channels
    if not 0 < rgb < width:
        raise InputError(f"--rgb_channels: is {rgb}; expected fewer than the {width} of {where}")
    return rgb


def _write_if_other(path: Path, array: np.ndarray) -> None:
    content = npy_bytes(array)
    try:
        there = path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        there = False
    if not there:
        write_atomically(path, content)
