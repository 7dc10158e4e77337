"""The streams of a video together: by name in one file or group, or side by side in one array."""

import collections
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from case_jax.data.formats import format_of, list_keys
from case_jax.data.info import Reading
from case_jax.data.sources import Source, open_source
from case_jax.errors import InputError

__all__ = ["divide_container", "divide_files", "videos_by_stream"]

_Videos = dict[str, dict[str, Source]]  # video -> stream -> where it is

# Stream -> its columns, or None if it is the whole array. None instead of all if streams have arrays by name.
_Columns = dict[str, tuple[int, int, int] | None] | None

_LOOKED_AT = 5  # videos, which tell how all of the same format are


class _Look(NamedTuple):
    """What one video has."""

    source: Source
    names: set[str]  # of its arrays
    total: int | None  # channels of its only array; None if it is not the only one, or need not be known


def divide_files(
    files: Mapping[str, Source], streams: Sequence[str], widths: Mapping[str, int] | None = None
) -> _Videos:
    """Finds the streams in files of one video each.

    A few files of each format tell how all of the format are: with one array per stream, under the stream's
    name, or with one array of the streams side by side. A file that is not like most is refused when it is
    opened, and so are all of a format of which none fits, as a table among arrays.

    Args:
        files: video -> its file.
        streams: which streams, in order.
        widths: stream -> D, if it is known; otherwise streams side by side are taken to be equally wide.

    Raises:
        InputError: if no file of any format can be read and has the channels it should have.
    """
    of_format: dict[str, list[Source]] = {}
    for source in files.values():
        of_format.setdefault(format_of(source.path).name, []).append(source)
    decided: dict[str, _Columns] = {}
    errors = []
    for form, sources in of_format.items():
        try:
            decided[form] = _decide(sources, streams, widths, lambda source: list_keys(source.path))
        except InputError as error:
            errors.append(error)
    if not decided:
        raise errors[0]
    of_others = next(iter(decided.values())) if widths is None else _side_by_side(streams, widths)
    return {
        video: _divide(source, streams, decided.get(format_of(source.path).name, of_others))
        for video, source in files.items()
    }


def divide_container(
    path: Path, reading: Reading, streams: Sequence[str], widths: Mapping[str, int] | None = None
) -> _Videos:
    """Finds the streams in a file of many videos.

    It has a group per video, which holds an array per stream; or an array per video, of the streams side by
    side. A video that is not like most is refused when it is opened.

    Args:
        path: the file.
        reading: how its arrays are to be taken.
        streams: which streams, in order.
        widths: as for `divide_files`.

    Raises:
        InputError: if the file cannot be read, or no video in it has the channels it should have.
    """
    videos = {key: Source(path, key, reading=reading) for key in list_keys(path)}
    if not videos:
        return {}
    columns = _decide([*videos.values()], streams, widths, lambda source: list_keys(path, source.key))
    return {video: _divide(source, streams, columns) for video, source in videos.items()}


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


def _divide(source: Source, streams: Sequence[str], columns: _Columns) -> dict[str, Source]:
    """Stream -> its part of a video's file or group."""
    if columns is not None:
        return {stream: source._replace(columns=part) for stream, part in columns.items()}
    group = "" if source.key is None else f"{source.key}/"
    return {stream: source._replace(key=f"{group}{stream}") for stream in streams}


def _decide(
    sources: Sequence[Source],
    streams: Sequence[str],
    widths: Mapping[str, int] | None,
    names_in: Callable[[Source], list[str]],
) -> _Columns:
    """How most of a few videos have their streams.

    Raises:
        InputError: if none of them fits.
    """
    errors: list[InputError] = []
    looks = list(itertools.islice(_look(sources, streams, names_in, errors), _LOOKED_AT))
    by_name = [look for look in looks if _has_all(look.names, streams)]
    if by_name:  # so that a video with only some of the streams' names lacks the others
        by_name = [look for look in looks if look.names & set(streams)]
    totals = collections.Counter(look.total for look in looks if look not in by_name)
    if len(streams) == 1:
        fits = totals
    else:
        fits = collections.Counter({n: count for n, count in totals.items() if _fits(n, streams, widths)})
    if by_name and len(by_name) >= max(fits.values(), default=0):
        return None
    if fits:
        ((total, _),) = fits.most_common(1)
        if total is None:
            return {streams[0]: None}
        return _side_by_side(streams, widths or dict.fromkeys(streams, total // len(streams)))
    odd = next((look for look in looks if look.total is not None), None)
    raise errors[0] if odd is None else InputError(f"{odd.source}: {_say_odd(odd.total, streams, widths)}")


def _look(
    sources: Sequence[Source],
    streams: Sequence[str],
    names_in: Callable[[Source], list[str]],
    errors: list[InputError],
) -> Iterator[_Look]:
    """Looks at videos that can be read, first at some from all over the list; adds to ``errors``."""
    some = range(0, len(sources), -(-len(sources) // _LOOKED_AT))
    others = (i for i in range(len(sources)) if i not in some)
    for i in itertools.chain(some, others):
        names: set[str] = set()
        total = None
        try:
            names = set(names_in(sources[i]))
            if len(streams) > 1 and not _has_all(names, streams):
                total = open_source(sources[i]).shape[1]
        except InputError as error:
            errors.append(error)
            if not names:
                continue
        yield _Look(sources[i], names, total)


def _has_all(names: set[str], streams: Sequence[str]) -> bool:
    """Whether arrays of these names are those of the streams; one array alone is one, whatever its name."""
    return set(streams) <= names and len(names) > 1


def _fits(total: int | None, streams: Sequence[str], widths: Mapping[str, int] | None) -> bool:
    """Whether an array of so many channels can have all streams side by side."""
    if total is None:
        return False
    return total % len(streams) == 0 if widths is None else total == sum(widths.values())


def _say_odd(total: int | None, streams: Sequence[str], widths: Mapping[str, int] | None) -> str:
    if widths is None:
        named = ", ".join(streams)
        expected = f"a multiple of {len(streams)}, for the streams {named} side by side"
    else:
        named = " and ".join(f"{stream} ({widths[stream]})" for stream in streams)
        expected = f"{sum(widths.values())}, those of {named} side by side"
    return f"has {total} channels; expected {expected}"


def _side_by_side(streams: Sequence[str], widths: Mapping[str, int]) -> _Columns:
    if len(streams) == 1:
        return {streams[0]: None}
    total = sum(widths.values())
    ends = dict(zip(streams, itertools.accumulate(widths[stream] for stream in streams)))
    return {stream: (end - widths[stream], end, total) for stream, end in ends.items()}
