"""Ground truth in ActivityNet's form, and the text files of intervals that evaluation leaves out.

    {"database": {video: {"subset": text, "duration": seconds, "annotations": [{"label": text,
                                                                              "segment": [start, end]}]}}}

Files of other code have no "database" but one object per video; such files may leave out the subset.
Annotations labelled "Ambiguous" are kept apart: they are never actions of a class.
"""

import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from case_jax.data.ambiguous import AMBIGUOUS, is_ambiguous
from case_jax.data.dataset import AMBIGUOUS_ONLY, NO_ANNOTATIONS, Annotation
from case_jax.data.files import MAX_SECONDS, as_number, as_segment, read_json, read_text
from case_jax.errors import InputError

__all__ = ["AnnotatedVideo", "choose_annotated", "read_ground_truth", "read_intervals", "subset_of"]


class AnnotatedVideo(NamedTuple):
    """One video of a ground-truth file."""

    subset: str  # "" if a file without "database" leaves it out
    annotations: tuple[Annotation, ...]  # the actions, without ambiguous intervals
    duration: float | None = None  # seconds
    ambiguous: tuple[Annotation, ...] = ()  # intervals labelled "Ambiguous": neither action nor background
    listed: bool = True  # whether the file has a list of annotations for the video, if only an empty one

    @property
    def action_free(self) -> bool:
        """Whether the file says that the video shows no action at all.

        An empty list of annotations says so; no list says nothing. A video whose only annotations are
        ambiguous may show actions.
        """
        return self.listed and not self.annotations and not self.ambiguous


def choose_annotated(
    videos: Mapping[str, AnnotatedVideo], *, action_free: bool
) -> tuple[dict[str, AnnotatedVideo], dict[str, int]]:
    """The videos of a split that are used.

    Args:
        videos: video name -> entry.
        action_free: whether videos without any action are used.

    Returns:
        The videos that are used, in the same order; and reason -> how many are left out. Videos with
        ambiguous actions only always are: whether they show an action is not known.
    """
    used, left_out = {}, {NO_ANNOTATIONS: 0, AMBIGUOUS_ONLY: 0}
    for name, entry in videos.items():
        if entry.annotations or (action_free and entry.action_free):
            used[name] = entry
        else:
            left_out[AMBIGUOUS_ONLY if entry.ambiguous else NO_ANNOTATIONS] += 1
    return used, left_out


def read_ground_truth(path: str | os.PathLike) -> dict[str, AnnotatedVideo]:
    """Reads and checks a ground-truth file; bounds of segments may be numbers or numbers in text.

    Args:
        path: a JSON file in ActivityNet's form.

    Returns:
        Video name -> `AnnotatedVideo`, in file order.

    Raises:
        InputError: if the file cannot be read, or a field is missing, mistyped or not finite, or a segment
            ends before it starts or lies beyond `MAX_SECONDS`.
    """
    database, flat = _database_in(path, read_json(path))
    return {name: _check_video(path, name, entry, flat) for name, entry in database.items()}


def _database_in(path: str | os.PathLike, content: Any) -> tuple[dict[str, Any], bool]:
    """The object with one entry per video, and whether the file is that object itself ("flat")."""
    if isinstance(content, dict):
        database = content.get("database")
        if isinstance(database, dict):
            return database, False
        flat = all(isinstance(entry, dict) and "annotations" in entry for entry in content.values())
        if database is None and content and flat:
            return content, True
    raise InputError(
        f"{path}: has no 'database' object; expected the ActivityNet form "
        '{"database": {video: {"subset", "annotations"}}}'
    )


def _check_video(path: str | os.PathLike, name: str, entry: Any, flat: bool) -> AnnotatedVideo:
    where = f"{path}: video {name!r}"
    if flat and isinstance(entry, dict):
        entry = {"subset": "", **entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("subset"), str):
        raise InputError(f"{where}: has no subset; expected an object with text 'subset'")
    annotations = entry.get("annotations", [])
    if not isinstance(annotations, list):
        raise InputError(f"{where}: 'annotations' is not a list; expected a list of label and segment")
    checked = [_check_annotation(f"{where}, annotation {i}", a) for i, a in enumerate(annotations)]
    return AnnotatedVideo(
        entry["subset"],
        tuple(a for a in checked if not is_ambiguous(a.label)),
        _check_duration(where, entry.get("duration", entry.get("duration_second"))),
        tuple(a for a in checked if is_ambiguous(a.label)),
        listed="annotations" in entry,
    )


def _check_duration(where: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        duration = as_number(value)
        if not 0 <= duration <= MAX_SECONDS:
            raise ValueError
    except ValueError:
        raise InputError(f"{where}: duration is {value!r}; expected seconds") from None
    return duration


def _check_annotation(where: str, entry: Any) -> Annotation:
    try:
        label = entry["label"]
        start, end = as_segment(entry["segment"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f'{where}: is {entry!r}; expected {{"label": text, "segment": [start, end]}} in seconds'
        ) from None
    if not isinstance(label, str) or not label.strip():
        raise InputError(f"{where}: label is {label!r}; expected text")
    if not (math.isfinite(start) and math.isfinite(end)):
        raise InputError(f"{where}: segment [{start}, {end}] is not finite; expected seconds")
    if max(abs(start), abs(end)) > MAX_SECONDS:
        raise InputError(f"{where}: segment [{start}, {end}] is beyond any video; expected seconds")
    if end < start:
        raise InputError(f"{where}: segment [{start}, {end}] ends before it starts; expected start <= end")
    return Annotation(label, start, end)


def subset_of(
    ground_truth: dict[str, AnnotatedVideo], subset: str, *, path: str | os.PathLike
) -> dict[str, tuple[Annotation, ...]]:
    """The annotations of one subset's videos.

    Args:
        ground_truth: from `read_ground_truth`.
        subset: the subset's name.
        path: the file that was read, for messages.

    Returns:
        Video name -> annotations, in file order.

    Raises:
        InputError: if no video is in the subset, or none of its videos is annotated.
    """
    chosen = {n: v.annotations for n, v in ground_truth.items() if v.subset == subset}
    if not chosen:
        known = ", ".join(sorted({repr(v.subset) for v in ground_truth.values()})) or "none"
        raise InputError(f"{path}: has no video of subset {subset!r}; expected one of its subsets: {known}")
    if not any(chosen.values()):
        if any(v.ambiguous for v in ground_truth.values() if v.subset == subset):
            raise InputError(f"{path}: subset {subset!r} has only {AMBIGUOUS!r} annotations; expected others")
        raise InputError(f"{path}: no video of subset {subset!r} has an annotation; expected some")
    return chosen


def read_intervals(path: str | os.PathLike, label: str = AMBIGUOUS) -> dict[str, list[dict]]:
    """Reads intervals as THUMOS14 writes its ambiguous ones: "video start end" in seconds, one a line.

    Args:
        path: a text file.
        label: the label that all intervals get.

    Returns:
        Video name -> [{"label", "segment": (start, end)}] in seconds, in file order.

    Raises:
        InputError: if the file cannot be read, or a line is something else.
    """
    expected = "a video name, start and end in seconds on each line"
    intervals: dict[str, list[dict]] = {}
    for number, line in enumerate(read_text(path, expected=expected).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            video, start, end = line.split()
            segment = (float(start), float(end))
            if not 0 <= segment[0] <= segment[1] <= MAX_SECONDS or "\0" in video:
                raise ValueError
        except ValueError:
            raise InputError(f"{path}: line {number} is {line.strip()!r}; expected {expected}") from None
        intervals.setdefault(video, []).append({"label": label, "segment": segment})
    return intervals
