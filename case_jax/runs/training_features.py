"""`training_features.json`: which features a run has trained on, so that it goes on over the same ones."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from case_jax.data.dataset import Video
from case_jax.data.feature_files import FeatureFiles, video_length
from case_jax.data.files import read_json, write_text_atomically
from case_jax.data.fingerprints import mark_of_arrays, spread
from case_jax.data.formats import format_of
from case_jax.data.packed import DTYPES
from case_jax.errors import InputError

if TYPE_CHECKING:
    from case_jax.runs.run import Run

__all__ = ["TrainingFeatures", "check_features", "note_features", "training_features_path"]

# Of videos on disk, so many are marked: files have to be opened for it, and some be read whole.
_MARKED_ON_DISK = 2_000
_MARKED_IF_READ_WHOLE = 64


def training_features_path(workdir: str | os.PathLike) -> Path:
    """The file's path in a workdir."""
    return Path(workdir) / "training_features.json"


class TrainingFeatures(NamedTuple):
    """A mark of the features of every training video.

    Marks depend neither on where the data set is nor on the format of its files, and hardly cost anything:
    they are made of the length and a few snippets.
    """

    marks: Mapping[str, tuple[int, str | None]]  # video -> T_v, and a digest if there is one

    @classmethod
    def of(cls, videos: Sequence[Video], dtype: str) -> TrainingFeatures:
        """Marks training videos.

        Args:
            videos: with features in memory or on disk.
            dtype: "float32" or "bfloat16", in which training has features.

        Raises:
            InputError: if a file cannot be read.
        """
        count = min(map(_most_marked, videos))
        chosen = spread(len(videos), count) if count < len(videos) else range(len(videos))
        lengths = [video_length(video.features) for video in videos]
        digests = {i: mark_of_arrays(videos[i].features, lengths[i], DTYPES[dtype]) for i in chosen}
        return cls({video.name: (lengths[i], digests.get(i)) for i, video in enumerate(videos)})

    @classmethod
    def read(cls, workdir: str | os.PathLike) -> TrainingFeatures | None:
        """The marks in a workdir; None if it has none.

        Raises:
            InputError: if the file is something else.
        """
        path = training_features_path(workdir)
        if not path.exists():
            return None
        content = read_json(path)
        try:
            return cls({name: _as_mark(mark) for name, mark in content["videos"].items()})
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(
                f"{path}: does not hold marks of training features; expected the file that training wrote"
            ) from None

    def write(self, workdir: str | os.PathLike) -> None:
        """Writes the marks to a workdir.

        Raises:
            InputError: if the file cannot be written.
        """
        rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(mark)}" for name, mark in self.marks.items())
        write_text_atomically(training_features_path(workdir), f'{{"videos": {{\n{rows}\n}}}}\n')

    def difference(self, other: TrainingFeatures) -> str | None:
        """What is different about ``other``, in words; None if training may go on over it."""
        added, lost = other.marks.keys() - self.marks.keys(), self.marks.keys() - other.marks.keys()
        if added or lost:
            change = "are not there now" if lost else "were added"
            some = lost or added
            return f"{len(self.marks):,} training videos, and {len(some):,} {change}, such as {min(some)!r}"
        changed = [name for name, mark in self.marks.items() if _differ(mark, other.marks[name])]
        if changed:
            count = f"{len(changed):,} of {len(self.marks):,}"
            return f"other features of {count} training videos, such as {changed[0]!r}"
        if list(self.marks) != list(other.marks):
            return "the same training videos in another order"
        return None


def _most_marked(video: Video) -> int:
    """Of how many videos like this one digests are made."""
    if not isinstance(video.features, FeatureFiles):
        return sys.maxsize
    mapped = all(format_of(source.path).mapped for source in video.features.sources.values())
    return _MARKED_ON_DISK if mapped else _MARKED_IF_READ_WHOLE


def _differ(one: tuple[int, str | None], other: tuple[int, str | None]) -> bool:
    return one[0] != other[0] or (None not in (one[1], other[1]) and one[1] != other[1])


def _as_mark(value: Any) -> tuple[int, str | None]:
    match value:
        case [int(length), str() | None as digest]:
            return length, digest
    raise ValueError


def check_features(runs: Sequence[Run]) -> None:
    """Rejects runs that would go on over other features, before anything is written.

    Args:
        runs: runs on the same data set, about to begin.

    Raises:
        InputError: if one of them has trained on other features, or a file cannot be read.
    """
    trained = [run for run in runs if run.workdir.metrics() or run.workdir.interrupted.exists()]
    if any(training_features_path(run.workdir.path).exists() for run in trained):
        features = _features_of(runs)
        for run in trained:
            _refuse_others(run, features)


def note_features(runs: Sequence[Run], *, going_on: bool) -> None:
    """Notes in the workdirs which features are trained on; refuses to go on over others than before.

    Args:
        runs: runs on the same data set, about to train.
        going_on: whether they have trained before.

    Raises:
        InputError: if one of them has trained on other features, or a file cannot be read or written.
    """
    features = _features_of(runs)
    noted = [going_on and _refuse_others(run, features) for run in runs]
    for run, known in zip(runs, noted):
        if not known:
            features.write(run.workdir.path)


def _features_of(runs: Sequence[Run]) -> TrainingFeatures:
    return TrainingFeatures.of(runs[0].dataset.train.videos, runs[0].settings.config.feature_dtype)


def _refuse_others(run: Run, features: TrainingFeatures) -> bool:
    """Whether the workdir knows its features; an `InputError` if they are others."""
    before = TrainingFeatures.read(run.workdir.path)
    if before is not None and (difference := before.difference(features)):
        raise InputError(
            f"{run.workdir.path}: was trained on {difference}; expected the same features, or an empty "
            "--workdir"
        )
    return before is not None
