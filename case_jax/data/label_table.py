"""Labels of a user's own videos: a table with a row for each label, a text file of separated values."""

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from case_jax.data.ambiguous import AMBIGUOUS, is_ambiguous
from case_jax.data.dataset import Annotation
from case_jax.data.files import read_text
from case_jax.errors import InputError

__all__ = ["LabelledVideo", "Splits", "check_splits", "name_of", "read_labels", "split_videos"]

_EXPECTED = (
    "expected a table with the columns video and label, and if known start and end (seconds) and subset"
)
_COLUMNS = ("video", "label", "start", "end", "subset")
_SUBSETS = ("train", "test")
_TEST_EVERY = 5  # of the videos of a table without times


class LabelledVideo(NamedTuple):
    """The rows of one video."""

    labels: tuple[str, ...]  # each once, in the order of the table; none if the video shows no action
    annotations: tuple[Annotation, ...]  # of the rows with times
    subset: str | None  # "train", "test", or None if the table does not say
    ambiguous: tuple[Annotation, ...] = ()  # intervals labelled "Ambiguous", which is never a class

    @property
    def action_free(self) -> bool:
        """Whether the table says that the video shows no action."""
        return not self.labels and not self.ambiguous


class Splits(NamedTuple):
    """Which videos train and which test."""

    train: dict[str, LabelledVideo]
    test: dict[str, LabelledVideo]
    timed: bool  # whether the test videos have times; without, their labels are taken to last throughout


def read_labels(path: str | os.PathLike) -> dict[str, LabelledVideo]:
    """Reads a table of labels.

    The first line names the columns: ``video`` and ``label``, and if known ``start`` and ``end`` in seconds
    and ``subset`` ("train" or "test"); others are passed over. A video may have several rows, and a cell
    several labels, as in "jump;run". A video whose only row has an empty label shows no action. The label
    "Ambiguous" is never a class. Where a video has no other, nobody knows what it shows: the interval then
    lasts to infinity if it has no times. Columns are separated by commas or by tabs.

    Args:
        path: a UTF-8 text file.

    Returns:
        Video, as the table writes it -> its rows, in the order of the table.

    Raises:
        InputError: if the file is missing or not such a table; the message names the line.
    """
    text = read_text(path, expected=_EXPECTED.removeprefix("expected "))
    first, _, _ = text.partition("\n")
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter="\t" if "\t" in first else ",", strict=True))
    except csv.Error as error:
        raise InputError(f"{path}: is not a table ({error}); {_EXPECTED}") from None
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    for name in ("video", "label"):
        if name not in header:
            raise InputError(f"{path}: has no column {name!r} in its first line; {_EXPECTED}")
    for name in _COLUMNS:
        if header.count(name) > 1:
            raise InputError(f"{path}: has the column {name!r} twice; expected it once")
    found: dict[str, list[_Row]] = {}
    for number, cells in enumerate(rows[1:], start=2):
        if any(cell.strip() for cell in cells):
            row = _read_row(f"{path}: line {number}", header, cells)
            found.setdefault(row.video, []).append(row)
    if not found:
        raise InputError(f"{path}: has no rows; {_EXPECTED}")
    return {video: _gathered(f"{path}: video {video!r}", of_video) for video, of_video in found.items()}


class _Row(NamedTuple):
    video: str
    labels: tuple[str, ...]
    times: tuple[float, float] | None
    subset: str | None


def _read_row(where: str, header: list[str], cells: list[str]) -> _Row:
    if len(cells) > len(header):
        raise InputError(f"{where} has {len(cells)} cells; expected {len(header)}, as the first line")
    values = dict.fromkeys(_COLUMNS, "") | {n: c.strip() for n, c in zip(header, cells)}
    labels = tuple(dict.fromkeys(label.strip() for label in values["label"].split(";") if label.strip()))
    if not values["video"]:
        raise InputError(f"{where} names no video; expected one")
    subset = values["subset"].lower() or None
    if subset not in (None, *_SUBSETS):
        raise InputError(f"{where} has subset {values['subset']!r}; expected train or test")
    return _Row(values["video"], labels, _read_times(where, values["start"], values["end"]), subset)


def _read_times(where: str, start: str, end: str) -> tuple[float, float] | None:
    if not start and not end:
        return None
    try:
        times = float(start), float(end)
    except ValueError:
        times = math.nan, math.nan
    if not 0 <= times[0] < times[1] < math.inf:
        raise InputError(
            f"{where} has start {start!r} and end {end!r}; expected seconds, the end after the start, or "
            "neither"
        )
    return times


def _gathered(where: str, rows: list[_Row]) -> LabelledVideo:
    subsets = {row.subset for row in rows}
    if len(subsets) > 1:
        raise InputError(f"{where} is of several subsets; expected one")
    if not all(row.labels for row in rows) and len(rows) > 1:
        raise InputError(
            f"{where} has a row without a label, which says that it shows no action, and others; expected "
            "that row alone, or labels in all of them"
        )
    if rows[0].times and not rows[0].labels:
        raise InputError(f"{where} has start and end but no label; expected one, or several as in a;b")
    actions = [row._replace(labels=tuple(n for n in row.labels if not is_ambiguous(n))) for row in rows]
    unclear = [row.times for row, of_row in zip(rows, actions) if row.labels != of_row.labels]
    actions = [row for row in actions if row.labels]
    timed = [row for row in actions if row.times]
    if timed and len(timed) < len(actions):
        raise InputError(f"{where} has rows with times and rows without; expected all or none of them")
    # Beside labels, an ambiguous interval without times says nothing.
    intervals = [times or (0.0, math.inf) for times in unclear if times or not actions]
    return LabelledVideo(
        tuple(dict.fromkeys(label for row in actions for label in row.labels)),
        tuple(Annotation(label, *row.times) for row in timed for label in row.labels if row.times),
        subsets.pop(),
        tuple(Annotation(AMBIGUOUS, *times) for times in intervals),
    )


def name_of(listed: str, known: Iterable[str]) -> str | None:
    """The name under which a video of a table is known: as it is written, or without folders and ending.

    Example:
        >>> name_of("clips/jump 1.mp4", {"jump 1"}), name_of("a.b", {"a.b"}), name_of("c", {"d"})
        ('jump 1', 'a.b', None)
    """
    path = Path(listed)
    return next((name for name in (listed, path.name, path.stem) if name in known), None)


def split_videos(path: str | os.PathLike, videos: Mapping[str, LabelledVideo]) -> Splits:
    """Divides the videos of a table into those that train and those that test.

    Where the table has the column ``subset``, it decides. Otherwise videos with times test and the others
    train. Where no video has times, every fifth one tests. Of the videos without any action every fifth one
    tests in any case. Fifth ones are counted in the order of the names.

    Args:
        path: the table, for messages.
        videos: what `read_labels` read, under the videos' names.

    Returns:
        `Splits`, each in the order of the names.

    Raises:
        InputError: if no video trains or none tests, if a test video has a label that no training video has,
            or only some of the test videos have times.
    """
    path = Path(path)
    tests = _tests(path, videos)
    train = {name: videos[name] for name in sorted(videos) if not tests(name)}
    test = {name: videos[name] for name in sorted(videos) if tests(name)}
    return check_splits(path, Splits(train, test, any(video.annotations for video in test.values())))


def check_splits(path: str | os.PathLike, splits: Splits) -> Splits:
    """Rejects splits that no model can be trained and tested on.

    Args:
        path: the table, for messages.
        splits: some of its videos.

    Returns:
        The same splits.

    Raises:
        InputError: as `split_videos`.
    """
    train, test, _ = splits
    if not any(video.labels for video in train.values()):
        raise InputError(
            f"{path}: no video is left to train on; expected some without start and end, or a column subset"
        )
    if not any(video.labels for video in test.values()):
        raise InputError(f"{path}: no video tests; expected subset test, or start and end, for some of them")
    known = {label for video in train.values() for label in video.labels}
    for name, video in test.items():
        for label in video.labels:
            if label not in known:
                raise InputError(
                    f"{path}: video {name!r} tests {label!r}; expected a training video with that label"
                )
    with_action = {name: video for name, video in test.items() if video.labels}
    without = [name for name, video in with_action.items() if not video.annotations]
    if 0 < len(without) < len(with_action):
        raise InputError(
            f"{path}: test video {without[0]!r} has no times; expected start and end, as others have"
        )
    return splits


def _tests(path: Path, videos: Mapping[str, LabelledVideo]) -> Callable[[str], bool]:
    told = [name for name, video in videos.items() if video.subset]
    if told:
        untold = [name for name in videos if name not in set(told)]
        if untold:
            raise InputError(
                f"{path}: video {untold[0]!r} has no subset; expected train or test, as others have"
            )
        return lambda name: videos[name].subset == "test"
    timed = {name for name, video in videos.items() if video.annotations}
    free = sorted(name for name, video in videos.items() if video.action_free)
    others = sorted(videos.keys() - set(free))
    tests = timed.union(free[_TEST_EVERY - 1 :: _TEST_EVERY])
    if not timed:
        tests.update(others[_TEST_EVERY - 1 :: _TEST_EVERY])
    return lambda name: name in tests
