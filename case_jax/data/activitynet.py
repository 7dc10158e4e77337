"""ActivityNet v1.2 and v1.3, in the forms in which their annotations and features are found.

    DATA_DIR/
      <anything>.json              annotations, the official form or one object per video
      features/...                 see below; or directly in DATA_DIR
      split_train.txt, split_test.txt   optional: which videos, one name a line
      dataset.json                 optional: what differs from 25 frames per second and 16 frames per snippet

Features are one of
    features/<stream>/<video>.npy (or .csv)         one file per video and stream
    features/<part>/<stream>/<video>.npy (or .csv)  the same in parts, whatever their names
    features/<stream>.h5 (or .hdf5)                 one data set per video in one file per stream
    features/<video>.npy (or .csv)                  the streams side by side, each as wide as the others
    features.h5 (or .hdf5)                          the same, one data set per video

Videos may be named with or without the prefix "v_" anywhere. `dataset.json` may hold what it may hold in the
THUMOS14 layout, "annotations" (the file's name, if there are several) and "rescaled" (true if all videos were
rescaled to some number of snippets, so that time follows from the annotated durations).
"""

import dataclasses
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data.annotations import AnnotatedVideo, read_ground_truth
from case_jax.data.dataset import Dataset, Split, Video
from case_jax.data.feature_files import Widths, check_shapes, read_packed
from case_jax.data.files import read_json, read_names, write_features, write_text_atomically
from case_jax.data.formats import HDF5, Source, hdf5_keys, open_source
from case_jax.data.info import DatasetInfo, read_info
from case_jax.data.names import find_name
from case_jax.errors import InputError

__all__ = ["Found", "find_dataset", "find_sources", "load_activitynet", "write_activitynet"]

_DEFAULT = DatasetInfo(classes=(), train_subset="training", test_subset="validation")
_FILES = (".npy", ".csv")


class Found(NamedTuple):
    """A data set before its features are looked at."""

    info: DatasetInfo
    annotations_path: Path
    splits: dict[str, dict[str, AnnotatedVideo]]  # "train" and "test" -> annotated videos of it
    sources: dict[str, dict[str, Source]]  # video, by the features' names -> stream -> where it is
    repeated: tuple[str, ...]  # videos whose features are there more than once; the first ones are used


def load_activitynet(
    data_dir: str | os.PathLike, *, in_memory: bool = True, dtype: str = "float32"
) -> Dataset:
    """Reads a data set and checks what will be used of it.

    Videos without features or without annotations are left out and counted, in `Split.left_out`. Segments are
    kept as they are annotated, as ActivityNet's evaluator keeps them: one of no length can never be found.

    Args:
        data_dir: folder in a form above.
        in_memory: False to leave the features on disk, see `case_jax.data.thumos.load_dataset`.
        dtype: "float32" or "bfloat16", of features in memory.

    Returns:
        `Dataset`; its classes are all labels of both splits, alphabetically, unless dataset.json names them.

    Raises:
        InputError: for a file that is missing, unreadable or of the wrong form, a split without videos, a
            label that is no class, or features whose shapes do not fit together.
    """
    found = find_dataset(data_dir)
    info = found.info
    widths: Widths = {}

    def load_split(name: str, subset: str) -> Split:
        videos = found.splits[name]
        annotated = {v: entry for v, entry in videos.items() if entry.annotations}
        places = {v: find_name(v, found.sources) for v in annotated}
        kept = {v: place for v, place in places.items() if place is not None}
        if not kept:
            raise InputError(
                f"{data_dir}: has features of none of the {len(annotated):,} annotated videos of subset "
                f"{subset!r}; expected names as in {found.annotations_path}, such as {next(iter(videos))}"
            )
        files = [check_shapes(found.sources[place], widths) for place in kept.values()]
        for video in kept:
            _check_video(video, annotated[video], found)
        packed, features = read_packed(files, info.streams, dtype) if in_memory else (None, files)
        return Split(
            subset,
            tuple(
                Video(v, f, annotated[v].annotations, annotated[v].duration if info.rescaled else None)
                for v, f in zip(kept, features)
            ),
            packed,
            {
                "without features": len(annotated) - len(kept),
                "without annotations": len(videos) - len(annotated),
            },
        )

    return Dataset(info, load_split("train", info.train_subset), load_split("test", info.test_subset))


def write_activitynet(dataset: Dataset, data_dir: str | os.PathLike) -> None:
    """Writes a data set in ActivityNet's official form, one .npy file per video and stream.

    Args:
        dataset: what to write.
        data_dir: folder, made if needed; files of the same names are replaced.

    Raises:
        InputError: if it cannot be written.
    """
    data_dir, info = Path(data_dir), dataset.info
    database: dict[str, dict] = {}
    for subset, split in ((_DEFAULT.train_subset, dataset.train), (_DEFAULT.test_subset, dataset.test)):
        for video in split.videos:
            for stream in info.streams:
                path = data_dir / "features" / stream / f"v_{video.name}.npy"
                write_features(path, np.asarray(video.features[stream]))
        database |= split.database(subset, info)
    content = {"version": "case_jax", "taxonomy": [], "database": database}
    write_text_atomically(data_dir / "activity_net.json", json.dumps(content))
    if (info.frames_per_second, info.frames_per_snippet) != (25.0, 16.0) or info.streams != _DEFAULT.streams:
        facts = {
            "streams": info.streams,
            "frames_per_second": info.frames_per_second,
            "frames_per_snippet": info.frames_per_snippet,
        }
        write_text_atomically(data_dir / "dataset.json", json.dumps(facts, indent=1))


def find_dataset(data_dir: str | os.PathLike) -> Found:
    """Reads the annotations and lists the features.

    Raises:
        InputError: as `load_activitynet`, but for the shapes of features.
    """
    data_dir = Path(data_dir)
    if not os.path.isdir(data_dir):
        raise InputError(f"{data_dir}: no such folder; expected annotations and features in it")
    info = read_info(data_dir, _DEFAULT, more=("annotations", "rescaled"))
    path = _annotations_path(data_dir)
    database = read_ground_truth(path)
    splits = {
        "train": _of_split(data_dir, "train", info.train_subset, database, path),
        "test": _of_split(data_dir, "test", info.test_subset, database, path),
    }
    if not info.classes:
        labels = {a.label for split in splits.values() for v in split.values() for a in v.annotations}
        info = _replace_classes(info, tuple(sorted(labels)), path)
    twice = sorted(set(splits["train"]) & set(splits["test"]))
    if twice:
        raise InputError(f"{data_dir}: video {twice[0]!r} is in both splits; expected it in one")
    sources, repeated = find_sources(data_dir, info.streams, rescaled=info.rescaled)
    return Found(info, path, splits, sources, repeated)


def find_sources(
    data_dir: str | os.PathLike,
    streams: Sequence[str],
    *,
    rescaled: bool = False,
    complete: bool = False,
    widths: Mapping[str, int] | None = None,
) -> tuple[dict[str, dict[str, Source]], tuple[str, ...]]:
    """Where the features of all videos are.

    Args:
        data_dir: folder in a form above.
        streams: which streams.
        rescaled: whether all videos were rescaled to some number of snippets.
        complete: whether all videos are to have all streams. If not, those that lack one are left out; if so,
            they come with a `Source` that is not there.
        widths: stream -> D, if it is known; otherwise streams side by side are taken to be equally wide.

    Returns:
        video -> stream -> `Source`, of videos that have all streams; and names that came up more than once.

    Raises:
        InputError: if no features are found, a name is not UTF-8, or files of several streams side by side
            are not as wide as they should be.
    """
    data_dir = Path(data_dir)
    if not os.path.isdir(data_dir):
        raise InputError(f"{data_dir}: no such folder; expected features of videos in it")
    root = data_dir / "features" if (data_dir / "features").is_dir() else data_dir
    repeated: list[str] = []
    sources: dict[str, dict[str, Source]] = {}
    for part in _parts(data_dir, root, streams, repeated, rescaled, complete, widths):
        for video, of_video in part.items():
            if find_name(video, sources) is not None:
                repeated.append(video)
            else:
                sources[video] = of_video
    if not sources:
        names = " and ".join(f"{stream}/<video>.npy" for stream in streams)
        raise InputError(f"{root}: holds no features; expected {names}, <video>.npy, .csv or HDF5 files")
    for video, of_video in sources.items():
        if not _is_utf8(video):  # no file of detections could name it
            path = next(iter(of_video.values()))
            raise InputError(f"{path}: the name is not UTF-8 text; expected one that can be written")
    return sources, tuple(repeated)


def _parts(
    data_dir: Path,
    root: Path,
    streams: Sequence[str],
    repeated: list[str],
    rescaled: bool,
    complete: bool,
    widths: Mapping[str, int] | None,
) -> Iterator[dict[str, dict[str, Source]]]:
    """The features of each part of a data set, in the first of the forms that is there."""

    def files_in(folder: Path) -> dict[str, Source]:
        found: dict[str, Source] = {}
        for suffix in _FILES:
            for path in sorted(folder.glob(f"*{suffix}")):
                if path.stem in found:
                    repeated.append(path.stem)
                found.setdefault(path.stem, Source(path, rescaled=rescaled))
        return found

    enough = any if complete else all  # streams that a folder needs to be one with features
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise InputError(f"{root}: cannot be read ({error.strerror}); expected features in it") from None
    inside = [root / name for name in names if os.path.isdir(root / name) and name not in streams]
    folders = [root, *inside]
    folders = [folder for folder in folders if enough(os.path.isdir(folder / s) for s in streams)]
    if folders:
        for folder in folders:
            in_folder = {stream: files_in(folder / stream) for stream in streams}

            def place(stream: str, name: str, folder: Path = folder) -> Source:
                return Source(folder / stream / name)

            yield _complete(in_folder, place, complete)
        return
    per_stream = {stream: _hdf5_named(root, stream) for stream in streams}
    if enough(per_stream.values()):
        paths = {stream: path or root / f"{stream}{HDF5[0]}" for stream, path in per_stream.items()}
        in_files = {stream: _sets_in(path) for stream, path in paths.items()}
        yield _complete(in_files, lambda stream, name: Source(paths[stream], name), complete)
        return
    together = _hdf5_named(data_dir, "features") or _hdf5_named(root, "features")
    side_by_side = _sets_in(together) if together else files_in(root)
    if side_by_side:
        yield _divide(side_by_side, streams, widths)


def _complete(
    per_stream: Mapping[str, Mapping[str, Source]], place: Callable[[str, str], Source], complete: bool
) -> dict[str, dict[str, Source]]:
    """Videos that all streams have; a stream may name them with and another without the prefix.

    If all must be ``complete``, those that only some streams have are among them, with the ``place`` of what
    is missing: a function of the stream and of the name that another stream's file or data set has.
    """
    found: dict[str, dict[str, Source]] = {}
    first = next(iter(per_stream))
    for having, videos in per_stream.items():
        for video, source in videos.items():
            if having != first and find_name(video, found) is not None:
                continue
            names = {stream: find_name(video, per_stream[stream]) for stream in per_stream}
            if complete or None not in names.values():
                beside = source.key or source.path.name
                found[video] = {
                    stream: place(stream, beside) if name is None else per_stream[stream][name]
                    for stream, name in names.items()
                }
    return found


def _divide(
    files: Mapping[str, Source], streams: Sequence[str], widths: Mapping[str, int] | None
) -> dict[str, dict[str, Source]]:
    """Streams that stand side by side in one array, each as wide as the others unless widths are known."""
    if len(streams) == 1:
        return {video: {streams[0]: source} for video, source in files.items()}
    first = next(iter(files.values()))
    total = open_source(first).shape[1]
    if widths is None:
        width, rest = divmod(total, len(streams))
        if rest:
            raise InputError(
                f"{first}: has {total} channels; expected a multiple of {len(streams)}, for the streams "
                f"{', '.join(streams)} side by side"
            )
        widths = dict.fromkeys(streams, width)
    elif total != sum(widths.values()):
        known = " and ".join(f"{stream} ({width})" for stream, width in widths.items())
        raise InputError(
            f"{first}: has {total} channels; expected {sum(widths.values())}, those of {known} side by side"
        )
    ends = dict(zip(streams, itertools.accumulate(widths[stream] for stream in streams)))
    columns = {stream: (end - widths[stream], end, total) for stream, end in ends.items()}
    return {
        video: {stream: source._replace(columns=part) for stream, part in columns.items()}
        for video, source in files.items()
    }


def _sets_in(path: Path) -> dict[str, Source]:
    return {key: Source(path, key) for key in hdf5_keys(path)}


def _hdf5_named(folder: Path, name: str) -> Path | None:
    return next((folder / f"{name}{s}" for s in HDF5 if os.path.isfile(folder / f"{name}{s}")), None)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _annotations_path(data_dir: Path) -> Path:
    settings = data_dir / "dataset.json"
    named = read_json(settings).get("annotations") if settings.exists() else None
    if named is not None:
        if not isinstance(named, str) or Path(named).name != named or named in ("", ".."):
            raise InputError(f"{settings}: 'annotations' is {named!r}; expected the name of a file beside it")
        return data_dir / named
    found = sorted(path for path in data_dir.glob("*.json") if path.name != "dataset.json")
    if len(found) != 1:
        names = f" ({', '.join(path.name for path in found[:4])})" if found else ""
        raise InputError(
            f"{data_dir}: holds {len(found)} .json files{names}; expected one with annotations, or its name "
            "as 'annotations' in dataset.json"
        )
    return found[0]


def _of_split(
    data_dir: Path, name: str, subset: str, database: Mapping[str, AnnotatedVideo], path: Path
) -> dict[str, AnnotatedVideo]:
    """The videos of a split: those of the subset, or those that the split's file names."""
    names_path = data_dir / f"split_{name}.txt"
    if not names_path.exists():
        videos = {video: entry for video, entry in database.items() if entry.subset == subset}
        if not videos:
            subsets = ", ".join(sorted({repr(v.subset) for v in database.values()})) or "none"
            raise InputError(
                f"{path}: has no video of subset {subset!r}, only of {subsets}; expected some, or "
                f"{names_path.name} beside it"
            )
        return videos
    videos = {}
    for video in read_names(names_path):
        known = find_name(video, database)
        if known is None:
            raise InputError(f"{path}: has no video {video!r}; expected all of {names_path}")
        if database[known].subset not in ("", subset):
            raise InputError(
                f"{path}: video {known!r} is of subset {database[known].subset!r}; expected {subset!r} "
                f"because {names_path} lists it"
            )
        if known in videos:
            raise InputError(
                f"{names_path}: names {known!r} with and without the prefix v_; expected it once"
            )
        videos[known] = database[known]
    return videos


def _check_video(video: str, entry: AnnotatedVideo, found: Found) -> None:
    for annotation in entry.annotations:
        if annotation.label not in found.info.classes:
            raise InputError(
                f"{found.annotations_path}: video {video!r} has label {annotation.label!r}; expected one of "
                f"the {len(found.info.classes)} classes in dataset.json"
            )
    if found.info.rescaled and not entry.duration:
        raise InputError(
            f"{found.annotations_path}: video {video!r} has no duration; expected one, since features are "
            "rescaled"
        )


def _replace_classes(info: DatasetInfo, classes: tuple[str, ...], path: Path) -> DatasetInfo:
    if not classes:
        raise InputError(f"{path}: annotates no action in the videos of either split; expected some")
    return dataclasses.replace(info, classes=classes)
