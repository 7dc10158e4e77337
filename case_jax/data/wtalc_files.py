"""The annotation files of the W-TALC line, one by one: what they hold for each video.

Names and labels may be text or bytes, lists may be arrays, and a file may be a pickle of Python 2 or 3.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from case_jax.data.ambiguous import is_ambiguous
from case_jax.data.dataset import Annotation
from case_jax.data.files import MAX_SECONDS, as_number
from case_jax.data.object_arrays import as_list, read_items
from case_jax.errors import InputError

__all__ = ["WtalcRows", "WtalcSegments", "read_classes", "read_splits", "read_video_names"]

# The files' names for the videos that train and those that test: ActivityNet's, THUMOS14's, and our own.
_SUBSETS = (("training", "validation"), ("validation", "test"), ("train", "test"))
_LONGEST_NAME = 240  # bytes, so that a file's ending fits


def read_video_names(folder: Path) -> list[str]:
    """The names in videoname.npy, one per video; one may be there twice.

    Raises:
        InputError: if the file is missing or unreadable, or a name cannot be a file's.
    """
    path = _path(folder, "videoname")
    names = _texts(path)
    for name in names:
        plain = name == name.strip() not in ("", ".", "..") and not any(c in name for c in "/\\")
        if not plain or len(name.encode()) > _LONGEST_NAME:
            raise InputError(f"{path}: holds {name!r:.100}; expected video names, not paths")
    return names


def read_classes(folder: Path) -> tuple[str, ...]:
    """The classes in classlist.npy.

    Raises:
        InputError: if the file is missing or unreadable, or a name is there twice.
    """
    path = _path(folder, "classlist")
    classes = tuple(name for name in _texts(path) if not is_ambiguous(name))
    if not all(classes) or len(set(classes)) != len(classes) or not classes:
        raise InputError(f"{path}: holds {classes!r:.200}; expected different class names")
    return classes


def read_splits(
    folder: Path, count: int, *, train_subset: str | None, test_subset: str | None
) -> list[str | None]:
    """Reads subset.npy.

    Args:
        folder: of the annotations.
        count: how many videos there are.
        train_subset: the files' name of the videos that train; None: the usual one.
        test_subset: likewise.

    Returns:
        Each video's split: "train", "test", or None if it is of another subset.

    Raises:
        InputError: if the file is missing or unreadable, or has no such subset.
    """
    subsets = _texts(_path(folder, "subset"), count)
    there = set(subsets)
    usual = next((pair for pair in _SUBSETS if there.issuperset(pair)), (None, None))
    chosen = {"train": train_subset or usual[0], "test": test_subset or usual[1]}
    for split, subset in chosen.items():
        if subset not in there:
            wrong = "is not told" if subset is None else f"{subset!r} is not there"
            listed = ", ".join(sorted(there)) or "nothing"
            raise InputError(
                f"{_path(folder, 'subset')}: which subset is to {split} {wrong}; expected "
                f"--{split}_subset, one of {listed}"
            )
    if chosen["train"] == chosen["test"]:
        raise InputError(f"--test_subset: is {chosen['test']!r}, which trains; expected another subset")
    of_subset = {subset: split for split, subset in chosen.items()}
    return [of_subset.get(subset) for subset in subsets]


class WtalcSegments(NamedTuple):
    """The segments of one video."""

    actions: tuple[Annotation, ...]
    ambiguous: tuple[Annotation, ...]  # labelled "Ambiguous"
    num_bad: int  # without a usable start and end; they are left out


class WtalcRows(NamedTuple):
    """What is known of each video, as it was read; None for a file that is not there."""

    folder: Path
    classes: frozenset[str]
    columns: Mapping[str, list | None]

    @classmethod
    def read(cls, folder: Path, count: int, classes: Collection[str]) -> "WtalcRows":
        """Reads labels_all, labels, segments and duration; which of them have to be there, the error says.

        Args:
            folder: of the annotations.
            count: how many videos there are.
            classes: what labels may be.

        Raises:
            InputError: if a file is unreadable or has another number of rows, or too few are there. The
                methods raise it for a row of another form.
        """
        columns: dict[str, list | None] = {}
        for name in ("labels_all", "labels", "segments", "duration"):
            path = _path(folder, name)
            columns[name] = read_items(path) if os.path.lexists(path) else None
            _check_count(path, columns[name] or [], None if columns[name] is None else count)
        if columns["segments"] is None or (columns["labels_all"] is None and columns["labels"] is None):
            missing = "segments" if columns["segments"] is None else "labels_all"
            raise InputError(
                f"{_path(folder, missing)}: no such file; expected segments.npy, and labels_all.npy or "
                "labels.npy"
            )
        return cls(folder, frozenset(classes), columns)

    @property
    def has_labels_all(self) -> bool:
        """Whether videos have labels of their own."""
        return self.columns["labels_all"] is not None

    @property
    def has_both(self) -> bool:
        """Whether videos and segments have labels of their own."""
        return self.columns["labels_all"] is not None and self.columns["labels"] is not None

    def _labels(self, name: str, row: int) -> list[str]:
        path, column = _path(self.folder, name), self.columns[name]
        if column is None:
            return []
        item = column[row]
        labels = [item] if isinstance(item, str | bytes) else _list(path, item, "labels")
        found = [_text(path, label) for label in labels]
        for label in found:
            if label not in self.classes and not is_ambiguous(label):
                raise InputError(f"{path}: row {row} has {label!r}; expected classes of classlist.npy")
        return found

    def of_video(self, row: int) -> tuple[str, ...]:
        """The labels of a video as a whole."""
        labels = dict.fromkeys(self._labels("labels_all", row))
        return tuple(label for label in labels if not is_ambiguous(label))

    def segments(self, row: int) -> WtalcSegments:
        """The segments of a video."""
        path, column = _path(self.folder, "segments"), self.columns["segments"]
        times = [_segment(pair) for pair in _list(path, (column or [])[row], "[start, end]")]
        labels = self._labels("labels", row)
        if self.columns["labels"] is None:
            # Where only the video has labels, segments have the one that it has; of several, none is known.
            of_video = self.of_video(row)
            labels = [*of_video] * len(times) if len(of_video) == 1 else []
            times = times if labels else []
        if len(labels) != len(times):
            raise InputError(
                f"{path}: row {row} has {len(times)} segments; expected {len(labels)} as in labels.npy"
            )
        found = [Annotation(label, *time) for label, time in zip(labels, times) if time is not None]
        return WtalcSegments(
            tuple(segment for segment in found if not is_ambiguous(segment.label)),
            tuple(segment for segment in found if is_ambiguous(segment.label)),
            times.count(None),
        )

    def duration(self, row: int) -> float | None:
        """A video's seconds, if they are told."""
        path, column = _path(self.folder, "duration"), self.columns["duration"]
        if column is None:
            return None
        value = column[row]
        if not isinstance(value, str | bytes | int | float):
            value = _only(path, _list(path, value, "seconds"))
        seconds = _number(value)
        return seconds if seconds is not None and 0 < seconds <= MAX_SECONDS else None


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _text(path: Path, value: Any) -> str:
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        text = None
    if not isinstance(text, str) or not text.isprintable():
        raise InputError(f"{path}: holds {value!r:.80}; expected text")
    return str(text)  # numpy's text is a kind of its own


def _texts(path: Path, count: int | None = None) -> list[str]:
    """A file of one text each, or of lists of one text each."""
    texts = []
    for item in read_items(path):
        single = item if isinstance(item, str | bytes) else _list(path, item, "text")
        texts.append(_text(path, single if isinstance(single, str | bytes) else _only(path, single)))
    _check_count(path, texts, count)
    return texts


def _only(path: Path, values: list) -> Any:
    if len(values) != 1:
        raise InputError(f"{path}: holds a list of {len(values)} values; expected one for each video")
    return values[0]


def _list(path: Path, value: Any, of: str) -> list:
    try:
        return as_list(value)
    except ValueError:
        raise InputError(f"{path}: holds {value!r:.80}; expected lists of {of}") from None


def _check_count(path: Path, items: list, count: int | None) -> None:
    if count is not None and len(items) != count:
        raise InputError(f"{path}: has {len(items):,} rows; expected {count:,} as videoname.npy")


def _number(value: Any) -> float | None:
    try:
        return as_number(value.decode() if isinstance(value, bytes) else value)
    except ValueError:
        return None


def _segment(pair: Any) -> tuple[float, float] | None:
    try:
        start, end = (_number(value) for value in as_list(pair))
    except ValueError:
        return None
    if start is None or end is None:
        return None
    return (start, end) if -MAX_SECONDS <= start <= end <= MAX_SECONDS else None
