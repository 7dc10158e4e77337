"""Where the features of many videos lie in a folder, in each of the forms in which they are handed around.

Features are one of
    features/<stream>/<video>.npy          one file per video and stream
    features/<part>/<stream>/<video>.npy   the same in parts, whatever the parts' names
    features/<stream>.h5                   one data set per video, in one file per stream
    features/<video>.npy                   the streams side by side in one array, in one file per video
    features.h5                            the same, one data set per video
where the folder "features" may be left out. The endings stand for those of any format of one array per file
(.npy), and of any format of many arrays by name (.h5): see `case_jax.data.formats`.
"""

import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from case_jax.data.formats import (
    CONTAINER_FORMATS,
    Source,
    describe_formats,
    find_container,
    list_arrays,
    list_keys,
    open_source,
)
from case_jax.data.names import find_name
from case_jax.errors import InputError

__all__ = ["FoundFeatures", "find_sources"]

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
    rescaled: bool
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
    rescaled: bool = False,
    complete: bool = False,
    widths: Mapping[str, int] | None = None,
) -> FoundFeatures:
    """Finds the features of all videos, in the first of the forms above that is there.

    Args:
        data_dir: folder in one of the forms above.
        streams: which streams.
        rescaled: whether all videos were rescaled to a number of snippets.
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
    found = _merge(_find_parts(_Search(data_dir, root, streams, rescaled, complete, widths)))
    if not found.sources:
        names = " and ".join(f"{stream}/<video>.npy" for stream in streams)
        raise InputError(f"{root}: holds no features; expected {names}, <video>{describe_formats()} files")
    for video, of_video in found.sources.items():
        if not _is_utf8(video):  # no file of detections could name it
            path = next(iter(of_video.values()))
            raise InputError(f"{path}: the name is not UTF-8 text; expected one that can be written")
    return found


def _find_parts(search: _Search) -> list[_Part]:
    for find in (_find_stream_folders, _find_stream_containers):
        parts = find(search)
        if parts:
            return parts
    return _find_side_by_side(search)


def _merge(parts: Sequence[_Part]) -> FoundFeatures:
    sources: _Videos = {}
    repeated: list[str] = []
    for part in parts:
        repeated += part.repeated
        for video, of_video in part.videos.items():
            if find_name(video, sources) is not None:
                repeated.append(video)
            else:
                sources[video] = of_video
    return FoundFeatures(sources, tuple(repeated))


def _find_stream_folders(search: _Search) -> list[_Part]:
    """One folder per stream, in ``root`` or in each of the parts in it."""
    root, streams = search.root, search.streams
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise InputError(f"{root}: cannot be read ({error.strerror}); expected features in it") from None
    inside = [root / name for name in names if os.path.isdir(root / name) and name not in streams]
    found = []
    for folder in (root, *inside):
        if not search.enough([os.path.isdir(folder / stream) for stream in streams]):
            continue
        repeated: list[str] = []
        per_stream = {}
        for stream in streams:
            per_stream[stream], twice = _arrays_in(folder / stream, search.rescaled)
            repeated += twice
        folders = {stream: folder / stream for stream in streams}
        found.append(_Part(_join_streams(per_stream, folders, search.complete), repeated))
    return found


def _find_stream_containers(search: _Search) -> list[_Part]:
    """One file of many arrays per stream."""
    root = search.root
    paths = {stream: find_container(root, stream) for stream in search.streams}
    if not search.enough([path is not None for path in paths.values()]):
        return []
    ending = CONTAINER_FORMATS[0].endings[0]
    named = {stream: path or root / f"{stream}{ending}" for stream, path in paths.items()}
    per_stream = {stream: _keys_in(path) for stream, path in named.items()}
    return [_Part(_join_streams(per_stream, named, search.complete), [])]


def _find_side_by_side(search: _Search) -> list[_Part]:
    """The streams side by side in one array per video."""
    repeated: list[str] = []
    together = find_container(search.data_dir, "features") or find_container(search.root, "features")
    if together:
        arrays = _keys_in(together)
    else:
        arrays, repeated = _arrays_in(search.root, search.rescaled)
    return [_Part(_divide(arrays, search.streams, search.widths), repeated)] if arrays else []


def _arrays_in(folder: Path, rescaled: bool) -> tuple[dict[str, Source], list[str]]:
    """Video -> the file of its array; and the videos that are there in several formats."""
    paths, repeated = list_arrays(folder)
    return {video: Source(path, rescaled=rescaled) for video, path in paths.items()}, repeated


def _keys_in(path: Path) -> dict[str, Source]:
    """Video -> its array in a file of many."""
    return {key: Source(path, key) for key in list_keys(path)}


def _join_streams(
    per_stream: Mapping[str, Mapping[str, Source]], places: Mapping[str, Path], complete: bool
) -> _Videos:
    """Joins the streams of each video; one stream may name videos with, another without the prefix "v_".

    Args:
        per_stream: stream -> video -> where it is.
        places: stream -> the folder of its files, or the file of its arrays.
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
                    stream: _beside(source, places[stream]) if name is None else per_stream[stream][name]
                    for stream, name in names.items()
                }
    return found


def _beside(source: Source, place: Path) -> Source:
    """Where a stream would be in ``place`` if it had the video that another stream has at ``source``."""
    return Source(place / source.path.name) if source.key is None else Source(place, source.key)


def _divide(
    arrays: Mapping[str, Source], streams: Sequence[str], widths: Mapping[str, int] | None
) -> _Videos:
    """Divides arrays of streams side by side; streams are equally wide unless widths are known."""
    if len(streams) == 1:
        return {video: {streams[0]: source} for video, source in arrays.items()}
    first = next(iter(arrays.values()))
    total = open_source(first).shape[1]
    widths = _equal_widths(first, total, streams) if widths is None else widths
    if total != sum(widths.values()):
        known = " and ".join(f"{stream} ({width})" for stream, width in widths.items())
        raise InputError(
            f"{first}: has {total} channels; expected {sum(widths.values())}, those of {known} side by side"
        )
    ends = dict(zip(streams, itertools.accumulate(widths[stream] for stream in streams)))
    columns = {stream: (end - widths[stream], end, total) for stream, end in ends.items()}
    return {
        video: {stream: source._replace(columns=part) for stream, part in columns.items()}
        for video, source in arrays.items()
    }


def _equal_widths(first: Source, total: int, streams: Sequence[str]) -> dict[str, int]:
    width, rest = divmod(total, len(streams))
    if rest:
        raise InputError(
            f"{first}: has {total} channels; expected a multiple of {len(streams)}, for the streams "
            f"{', '.join(streams)} side by side"
        )
    return dict.fromkeys(streams, width)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
