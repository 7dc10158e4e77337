"""Where the features of many videos lie in a folder, in each of the forms in which they are handed around.

Features are one of
    features/<stream>/<video>.npy          one file per video and stream
    features/<part>/<stream>/<video>.npy   the same in parts, whatever the parts' names
    features/<stream>.h5                   one data set per video, in one file per stream
    features/<video>.npz                   one array per stream, in one file per video
    features/<video>.npy                   the streams side by side in one array, in one file per video
    features/<part>/<video>.npz            one file per video in parts; without an array per stream, only in
                                           parts that are named as a split, such as "train"
    features.h5                            the same, one data set per video; or a group per video that holds a
                                           data set per stream; or a group per stream, a data set per video
where the folder "features" may be left out. The endings stand for those of any format (.npy), of any format
of several arrays by name (.npz), and of any format of many videos (.h5): see `case_jax.data.formats`. Hidden
files are passed over.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from case_jax.data.formats import CONTAINER_FORMATS, describe_formats, find_container, list_arrays, list_keys
from case_jax.data.info import AS_STORED, Reading
from case_jax.data.labelled_features import LABELS
from case_jax.data.names import find_name, is_hidden
from case_jax.data.sources import Source
from case_jax.data.together import divide_container, divide_files, videos_by_stream
from case_jax.errors import InputError

__all__ = ["FoundFeatures", "find_sources"]

_CONTAINER_ENDINGS = tuple(ending for form in CONTAINER_FORMATS for ending in form.endings)

# Other folders of files without an array per stream may be those of one stream under another name.
_PARTS = ("train", "training", "val", "validation", "test", "testing")

_T = TypeVar("_T")

_Videos = dict[str, dict[str, Source]]  # video -> stream -> where it is


class FoundFeatures(NamedTuple):
    """The features of many videos."""

    sources: dict[str, dict[str, Source]]  # video -> stream -> where it is
    repeated: tuple[str, ...]  # videos that are there more than once; the first ones are used


class _Search(NamedTuple):
    """What is looked for, and where."""

    data_dir: Path
    root: Path  # the folder "features" of data_dir, or data_dir itself
    streams: Sequence[str]
    reading: Reading
    complete: bool
    widths: Mapping[str, int] | None

    def enough(self, present: Sequence[bool]) -> bool:
        """Whether some streams suffice: all of them, unless missing ones are to be told."""
        return any(present) if self.complete else all(present)


class _Part(NamedTuple):
    """The features of one part of a data set."""

    videos: _Videos
    repeated: list[str]


def find_sources(
    data_dir: str | os.PathLike,
    streams: Sequence[str],
    *,
    reading: Reading = AS_STORED,
    complete: bool = False,
    widths: Mapping[str, int] | None = None,
) -> FoundFeatures:
    """Finds the features of all videos, in the first of the forms above that is there.

    Args:
        data_dir: folder in one of the forms above.
        streams: which streams.
        reading: how the arrays in the files are to be taken.
        complete: whether every video has to have all streams. If so, a video that lacks a stream comes with a
            `Source` that is not there; if not, it is left out.
        widths: stream -> D, if it is known; otherwise streams side by side are taken to be equally wide.

    Returns:
        `FoundFeatures`, of one video or more.

    Raises:
        InputError: if no features are found, a name is not UTF-8, or files of several streams side by side
            do not have the channels they should have.
    """
    data_dir = Path(data_dir)
    if not os.path.isdir(data_dir):
        raise InputError(f"{data_dir}: no such folder; expected features of videos in it")
    root = data_dir / "features" if (data_dir / "features").is_dir() else data_dir
    videos, repeated = _merge(_find_parts(_Search(data_dir, root, streams, reading, complete, widths)))
    if not videos:
        names = " and ".join(f"{stream}/<video>.npy" for stream in streams)
        raise InputError(f"{root}: holds no features; expected {names}, <video>{describe_formats()} files")
    for video, of_video in videos.items():
        if not _is_utf8(video):  # no file of detections could name it
            path = next(iter(of_video.values()))
            raise InputError(f"{path}: the name is not UTF-8 text; expected one that can be written")
    return FoundFeatures(videos, tuple(repeated))


def _find_parts(search: _Search) -> list[_Part]:
    for find in (_find_stream_folders, _find_stream_containers):
        parts = find(search)
        if parts:
            return parts
    return _find_together(search)


def _merge(parts: Iterable[tuple[Mapping[str, _T], Sequence[str]]]) -> tuple[dict[str, _T], list[str]]:
    """Joins parts, each with the names that are there more than once in it; so does the result."""
    merged: dict[str, _T] = {}
    repeated: list[str] = []
    for videos, twice in parts:
        repeated += twice
        for video, place in videos.items():
            if find_name(video, merged) is not None:
                repeated.append(video)
            else:
                merged[video] = place
    return merged, repeated


def _find_stream_folders(search: _Search) -> list[_Part]:
    """One folder per stream, in ``root`` or in each of the parts in it."""
    streams = search.streams
    found = []
    for folder in (search.root, *_folders_inside(search)):
        if not search.enough([os.path.isdir(folder / stream) for stream in streams]):
            continue
        repeated: list[str] = []
        per_stream = {}
        for stream in streams:
            per_stream[stream], twice = _arrays_in(folder / stream, search.reading)
            repeated += twice

        def missing(stream: str, other: Source, folder: Path = folder) -> Source:
            return Source(folder / stream / other.path.name)

        found.append(_Part(_join_streams(per_stream, missing, search.complete), repeated))
    return found


def _folders_inside(search: _Search) -> list[Path]:
    """The folders in ``root`` that may be parts."""
    root = search.root
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise InputError(f"{root}: cannot be read ({error.strerror}); expected features in it") from None
    inside = [name for name in names if name not in search.streams and not is_hidden(name)]
    return [root / name for name in inside if os.path.isdir(root / name)]


def _find_stream_containers(search: _Search) -> list[_Part]:
    """One file of many arrays per stream."""
    root = search.root
    paths = {stream: find_container(root, stream) for stream in search.streams}
    if not search.enough([path is not None for path in paths.values()]):
        return []
    named = {stream: path or root / f"{stream}{_CONTAINER_ENDINGS[0]}" for stream, path in paths.items()}
    per_stream = {
        stream: {key: Source(path, key, reading=search.reading) for key in list_keys(path)}
        for stream, path in named.items()
    }

    def missing(stream: str, other: Source) -> Source:
        return Source(named[stream], other.key)

    return [_Part(_join_streams(per_stream, missing, search.complete), [])]


def _find_together(search: _Search) -> list[_Part]:
    """The streams together, in one file per video or one of all videos."""
    path = find_container(search.data_dir, "features") or find_container(search.root, "features")
    if path is None:
        return _find_files(search)
    per_stream = videos_by_stream(path, search.reading, search.streams)
    if not per_stream:
        return [_Part(divide_container(path, search.reading, search.streams, search.widths), [])]

    def missing(stream: str, other: Source) -> Source:
        assert other.key is not None
        return Source(path, f"{stream}/{other.key.partition('/')[2]}")

    return [_Part(_join_streams(per_stream, missing, search.complete), [])]


def _find_files(search: _Search) -> list[_Part]:
    """One file per video in ``root``; only if none there fits, also in the parts in it."""
    others = {LABELS, *(stream + ending for stream in search.streams for ending in _CONTAINER_ENDINGS)}
    refused = None
    inside = sorted(_folders_inside(search), key=lambda folder: not _is_for_videos(search, folder))
    for folders in dict.fromkeys([(search.root,), (search.root, *inside)]):  # once, if there are none inside
        arrays, repeated = _merge(_arrays_in(folder, search.reading) for folder in folders)
        arrays = {video: source for video, source in arrays.items() if source.path.name not in others}
        try:
            found = divide_files(arrays, search.streams, search.widths) if arrays else {}
        except InputError as error:
            if any(_is_for_videos(search, source.path.parent) for source in arrays.values()):
                refused = refused or error
            continue
        found = {video: of for video, of in found.items() if _is_one_video(search, of)}
        if found:
            return [_Part(found, [video for video in repeated if find_name(video, found) is not None])]
    if refused:
        raise refused
    return []


def _is_one_video(search: _Search, of_video: Mapping[str, Source]) -> bool:
    """Whether a file is sure to have a video's streams, rather than one stream under another name."""
    source = next(iter(of_video.values()))
    return source.key is not None or _is_for_videos(search, source.path.parent)


def _is_for_videos(search: _Search, folder: Path) -> bool:
    return folder == search.root or folder.name in _PARTS


def _arrays_in(folder: Path, reading: Reading) -> tuple[dict[str, Source], list[str]]:
    """Video -> the file of its array; and the videos that are there in several formats."""
    paths, repeated = list_arrays(folder)
    return {video: Source(path, reading=reading) for video, path in paths.items()}, repeated


def _join_streams(
    per_stream: Mapping[str, Mapping[str, Source]],
    missing: Callable[[str, Source], Source],
    complete: bool,
) -> _Videos:
    """Joins the streams of each video; one stream may name videos with, another without the prefix "v_".

    Args:
        per_stream: stream -> video -> where it is.
        missing: takes a stream, and where another stream of a video is; returns where the stream would be.
        complete: False to keep the videos that all streams have; True to keep all, those that a stream lacks
            with the place in which it was expected.
    """
    found: _Videos = {}
    first = next(iter(per_stream))
    for having, videos in per_stream.items():
        for video, source in videos.items():
            if having != first and find_name(video, found) is not None:
                continue
            names = {stream: find_name(video, per_stream[stream]) for stream in per_stream}
            if complete or None not in names.values():
                found[video] = {
                    stream: missing(stream, source) if name is None else per_stream[stream][name]
                    for stream, name in names.items()
                }
    return found


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
