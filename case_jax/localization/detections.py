"""Detections as arrays, and the ActivityNet prediction format on disk."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from case_jax.data.files import MAX_SECONDS, as_number, as_segment, read_json, write_text_atomically
from case_jax.errors import InputError

__all__ = [
    "Detection",
    "Detections",
    "check_entries",
    "concatenate",
    "from_activitynet",
    "read_predictions",
    "to_activitynet",
    "write_predictions",
]


class Detection(NamedTuple):
    """One detected action."""

    label: str  # name of the class
    start: float  # seconds
    end: float  # seconds, exclusive
    score: float  # higher is surer; not a probability: it may exceed 1 or be negative


class Detections(NamedTuple):
    """D detections in one video."""

    label: np.ndarray  # (D,) int64 index into the class list
    start: np.ndarray  # (D,) float64 seconds
    end: np.ndarray  # (D,) float64 seconds, exclusive
    score: np.ndarray  # (D,) float64

    def take(self, rows: np.ndarray) -> "Detections":
        """The detections at (R,) int positions, or where a (D,) bool mask is true."""
        return Detections(self.label[rows], self.start[rows], self.end[rows], self.score[rows])


def concatenate(parts: Sequence[Detections]) -> Detections:
    """Joins detections in order; an empty sequence gives no detections."""
    if not parts:
        return Detections(np.zeros(0, np.int64), *np.zeros((3, 0)))
    return Detections(*(np.concatenate(column) for column in zip(*parts)))


def to_activitynet(
    videos: Mapping[str, Detections], classes: Sequence[str], *, version: str = "case_jax"
) -> dict:
    """The ActivityNet prediction format, as a dictionary ready for JSON.

    Args:
        videos: video name -> `Detections`.
        classes: class names that ``label`` indexes.
        version: the file's "version" field.

    Returns:
        {"version", "results": {video: [{"label", "score", "segment": [start, end]}]}, "external_data"}.
    """
    results = {
        name: [
            {
                "label": classes[label],
                "score": float(score),
                "segment": [float(start), float(end)],
            }
            for label, start, end, score in zip(*detections)
        ]
        for name, detections in videos.items()
    }
    return {"version": version, "results": results, "external_data": {}}


def write_predictions(path: str | os.PathLike, predictions: Mapping) -> None:
    """Writes a prediction dictionary as JSON: to a temporary file first, which is then renamed.

    Args:
        path: of the file; its folder is made if it is missing.
        predictions: as `to_activitynet` returns them.

    Raises:
        InputError: if the file cannot be written.
        ValueError: if a number is not finite.
    """
    write_text_atomically(path, json.dumps(predictions, allow_nan=False))


def read_predictions(path: str | os.PathLike, *, labelled: bool = True) -> dict[str, list[dict]]:
    """Reads and checks an ActivityNet prediction file.

    Args:
        path: a JSON file with {"results": {video: [{"label", "score", "segment"}, ...]}}.
        labelled: whether every entry needs a label. Proposals need none; without one, theirs is "".

    Returns:
        video name -> list of {"label": str, "score": float, "segment": (start, end)}, in file order; segments
        are in seconds.

    Raises:
        InputError: if the file cannot be read, or a field is missing, of the wrong type, not finite or beyond
            `MAX_SECONDS`, or a segment ends before it starts.
    """
    content = read_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict):
        raise InputError(
            f"{path}: has no 'results' object; expected the ActivityNet prediction format "
            '{"results": {video: [{"label", "score", "segment": [start, end]}]}}'
        )
    return {name: check_entries(path, name, entries, labelled=labelled) for name, entries in results.items()}


def from_activitynet(
    results: Mapping[str, Sequence[Mapping]], classes: Sequence[str]
) -> dict[str, Detections]:
    """Turns checked prediction entries into arrays.

    Args:
        results: as returned by `read_predictions`.
        classes: class names; the index of a name becomes its ``label``.

    Returns:
        video name -> `Detections`.

    Raises:
        KeyError: if a label is not among ``classes``.
    """
    index = {name: i for i, name in enumerate(classes)}
    return {
        video: Detections(
            np.array([index[e["label"]] for e in entries], np.int64),
            np.array([e["segment"][0] for e in entries], np.float64),
            np.array([e["segment"][1] for e in entries], np.float64),
            np.array([e["score"] for e in entries], np.float64),
        )
        for video, entries in results.items()
    }


def check_entries(path: str | os.PathLike, video: str, entries: Any, *, labelled: bool = True) -> list[dict]:
    """Checks what a file holds as the detections of one video.

    Args:
        path: the file that messages name.
        video: name of the video.
        entries: any JSON value.
        labelled: whether every entry needs a label; without one, it is "".

    Returns:
        The list of detections, as `read_predictions` has it for a video.

    Raises:
        InputError: as `read_predictions`.
    """
    if not isinstance(entries, list):
        raise InputError(f"{path}: video {video!r} does not hold a list; expected a list of detections")
    checked = []
    for position, entry in enumerate(entries):
        where = f"{path}: video {video!r}, detection {position}"
        try:
            label = entry["label"] if labelled else entry.get("label", "")
            score = as_number(entry["score"])
            start, end = as_segment(entry["segment"])
        except (AttributeError, KeyError, TypeError, ValueError):
            named = '"label": text, ' if labelled else ""
            raise InputError(
                f'{where}: is {_shorten(entry)}; expected {{{named}"score": number, "segment": [start, end]}}'
            ) from None
        if not isinstance(label, str) or (labelled and not label.strip()):
            raise InputError(f"{where}: label is {_shorten(label)}; expected text")
        if not all(map(math.isfinite, (score, start, end))):
            raise InputError(
                f"{where}: score or segment is not finite ({score}, {start}, {end}); expected numbers"
            )
        if max(abs(start), abs(end)) > MAX_SECONDS:
            raise InputError(f"{where}: segment [{start}, {end}] is beyond any video; expected seconds")
        if end < start:
            raise InputError(
                f"{where}: segment [{start}, {end}] ends before it starts; expected start <= end"
            )
        checked.append({"label": label, "score": score, "segment": (start, end)})
    return checked


def _shorten(value) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
