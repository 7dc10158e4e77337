"""The streams of a video together: by name in one file or group, or side by side in one array."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from case_jax.data.formats import FORMATS, format_of, list_keys
from case_jax.data.info import Reading
from case_jax.data.sources import Source, open_source
from case_jax.errors import InputError

__all__ = ["divide_container", "divide_files", "videos_by_stream"]

_Videos = dict[str, dict[str, Source]]  # video -> stream -> where it is

_LOOKED_AT = 5  # groups of a file of many videos, which tell how all groups are

_T = TypeVar("_T")


def divide_files(
    files: Mapping[str, Source], streams: Sequence[str], widths: Mapping[str, int] | None = None
) -> _Videos:
    """Finds the streams in files of one video each.

    The first file of each format that can be read tells how all of the format are: with one array per stream,
    under the stream's name, or with one array of the streams side by side.

    Args:
        files: video -> its file.
        streams: which streams, in order.
        widths: stream -> D, if it is known; otherwise streams side by side are taken to be equally wide.

    Raises:
        InputError: if no file of a format can be read, or streams side by side do not have the channels they
            should have.
    """
    found: _Videos = {}
    for form in FORMATS:
        of_form = {video: source for video, source in files.items() if format_of(source.path) is form}
        if not of_form:
            continue
        keys = [] if form.keys is None else _of_first(of_form.values(), lambda source: list_keys(source.path))
        if set(streams) < set(keys) or (set(streams) == set(keys) and len(keys) > 1):
            found |= {
                video: {stream: source._replace(key=stream) for stream in streams}
                for video, source in of_form.items()
            }
        else:
            found |= _side_by_side(of_form, streams, widths)
    return {video: found[video] for video in files}


def divide_container(
    path: Path, reading: Reading, streams: Sequence[str], widths: Mapping[str, int] | None = None
) -> _Videos:
    """Finds the streams in a file of many videos.

    It has a group per video, which holds an array per stream; or an array per video, of the streams side by
    side.

    Args:
        path: the file.
        reading: how its arrays are to be taken.
        streams: which streams, in order.
        widths: as for `divide_files`.

    Raises:
        InputError: as `divide_files`.
    """
    keys = list_keys(path)
    inside = [set(list_keys(path, key)) for key in keys[:_LOOKED_AT]]
    if any(set(streams) <= names and len(names) > 1 for names in inside):
        return {key: {s: Source(path, f"{key}/{s}", reading=reading) for s in streams} for key in keys}
    return _side_by_side({key: Source(path, key, reading=reading) for key in keys}, streams, widths)


def videos_by_stream(path: Path, reading: Reading, streams: Sequence[str]) -> dict[str, dict[str, Source]]:
    """Stream -> video -> where it is, in a file with a group per stream that holds an array per video.

    Returns:
        Nothing if the file is not of this form.

    Raises:
        InputError: if the file cannot be read.
    """
    if not set(streams) <= set(list_keys(path)):
        return {}
    inside = {stream: list_keys(path, stream) for stream in streams}
    if not all(inside.values()):
        return {}
    return {
        stream: {video: Source(path, f"{stream}/{video}", reading=reading) for video in videos}
        for stream, videos in inside.items()
    }


def _of_first(sources: Iterable[Source], read: Callable[[Source], _T]) -> _T:
    """What is read of the first file that can be read; the others may be refused one by one later."""
    errors = []
    for source in sources:
        try:
            return read(source)
        except InputError as error:
            errors.append(error)
    raise errors[0]


def _side_by_side(
    arrays: Mapping[str, Source], streams: Sequence[str], widths: Mapping[str, int] | None
) -> _Videos:
    """Divides arrays of streams side by side; streams are equally wide unless widths are known."""
    if len(streams) == 1:
        return {video: {streams[0]: source} for video, source in arrays.items()}
    first, total = _of_first(arrays.values(), lambda source: (source, open_source(source).shape[1]))
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
