"""Detections of many videos that are written one by one, so that an interrupted command can go on."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from case_jax.data.files import read_json, writing
from case_jax.data.fingerprints import FilesMark
from case_jax.errors import InputError
from case_jax.localization.detections import (
    check_entries,
    read_predictions,
    to_activitynet,
    write_predictions,
)

__all__ = ["ResumableDetections"]

_MARKS = "features_of"  # in external_data of the output, beside the identity: video -> digest of its features


class _Done(NamedTuple):
    """One video that is done."""

    entries: list[dict]
    features: str | int  # the digest of its features; where none was kept, the last time when they were valid


class ResumableDetections:
    """Which videos are done: in the output of an earlier command, or in `<output>.partial`.

    The first line of the partial file is the identity of the work: everything that detections follow from,
    besides the features' contents. Each further line is a video, with a mark of the features that it was made
    of. The file is made with the first video that is done. The output keeps the identity and the marks in
    "external_data". Files without marks, of earlier versions, hold for features that are older than they are.
    """

    def __init__(self, output: Path, identity: Mapping[str, Any], say: Callable[[str], object]):
        """Reads what an earlier command left.

        Args:
            output: the JSON file that will hold all detections, in ActivityNet form.
            identity: of the work, ready for JSON; results of any other work are not used.
            say: is told if the partial file belongs to other work.

        Raises:
            InputError: if the partial file cannot be read.
        """
        self._output, self._identity = output, identity
        self._partial = output.with_name(f"{output.name}.partial")
        self._size = 0  # bytes of the partial file that are of use
        self._done: dict[str, _Done] = {}
        self._read_output()
        self._read_partial(say)

    def __contains__(self, video: str) -> bool:
        """Whether there are detections of a video, if only of other features."""
        return video in self._done

    def entries(self, video: str, features: FilesMark) -> list[dict] | None:
        """A video's detections; None if it is not done, or was done with other features.

        Args:
            video: the video's name.
            features: as they are now.
        """
        done = self._done.get(video)
        if done is None:
            return None
        if isinstance(done.features, str):
            return done.entries if features.digest == done.features else None
        return done.entries if features.changed <= done.features else None

    def add(self, video: str, features: FilesMark, entries: Sequence[Mapping]) -> None:
        """Writes a video down; readers see the whole line or nothing.

        Args:
            video: the video's name.
            features: what it was made of.
            entries: its detections in ActivityNet form.

        Raises:
            InputError: if the partial file cannot be written.
        """
        row = {"video": video, "features": features.digest, "detections": entries}
        rows = [row] if self._size else [self._identity, row]
        lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
        with writing(self._partial):
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            with open(self._partial, "ab") as file:
                file.truncate(self._size)  # cuts off a torn line, or everything that belongs to other work
                file.write(lines)
        self._size += len(lines)

    def write(self, results: Mapping[str, Sequence[Mapping]], features: Mapping[str, FilesMark]) -> None:
        """Writes the output.

        Args:
            results: video -> its detections in ActivityNet form.
            features: video -> what they were made of, at least of the videos in ``results``.

        Raises:
            InputError: if it cannot be written.
        """
        marks = {video: features[video].digest for video in results}
        external = {**self._identity, _MARKS: marks}
        write_predictions(
            self._output, {**to_activitynet({}, ()), "results": results, "external_data": external}
        )

    def forget(self) -> None:
        """Removes the partial file."""
        self._partial.unlink(missing_ok=True)

    def _read_output(self) -> None:
        if not os.path.isfile(self._output):
            return
        try:
            content = read_json(self._output)
            external = content.get("external_data") if isinstance(content, dict) else None
            if not isinstance(external, dict):
                return
            marks = external.pop(_MARKS, {})
            if external != self._identity or not isinstance(marks, dict):
                return
            results = read_predictions(self._output)
        except InputError:  # the damaged file will be replaced
            return
        until = os.stat(self._output).st_mtime_ns
        self._done |= {name: _Done(entries, marks.get(name, until)) for name, entries in results.items()}

    def _read_partial(self, say: Callable[[str], object]) -> None:
        try:
            content = self._partial.read_bytes()
        except (FileNotFoundError, NotADirectoryError):  # writing will name a path that cannot be written
            return
        except OSError as error:
            raise InputError(f"{self._partial}: cannot be read ({error.strerror})") from None
        first, *lines = content.split(b"\n")
        if not lines:  # the first line is torn
            return
        if _parse(first) != self._identity:
            say(f"{self._partial}: is of another checkpoint or other settings; starting anew")
            return
        self._size = len(first) + 1
        for line in lines[:-1]:  # what follows the last line break is torn
            try:
                video, features, entries = _as_row(_parse(line))
                self._done[video] = _Done(check_entries(self._partial, video, entries), features)
            except (InputError, ValueError):  # this line and what follows will be replaced
                return
            self._size += len(line) + 1


def _parse(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _as_row(content: Any) -> tuple[str, str | int, Any]:
    """The video, its features' mark as `_Done` has it, and its detections; ValueError for anything else."""
    match content:
        case {"video": str(video), "features": str(digest), "detections": entries, **others} if not others:
            return video, digest, entries
        case {"video": str(video), "changed": int(changed), "detections": entries, **others} if not others:
            return video, changed, entries
    raise ValueError("not a video's row")
