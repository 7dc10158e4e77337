"""Looks at a data set before anyone trains on it: what is odd, and what training and evaluation do then."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data.activitynet import find_dataset
from case_jax.data.annotations import AnnotatedVideo
from case_jax.data.formats import Source, list_arrays, open_source
from case_jax.data.info import DatasetInfo
from case_jax.data.names import find_name
from case_jax.data.thumos import FoundThumos, find_thumos, is_thumos_layout
from case_jax.errors import InputError

__all__ = ["Diagnosis", "Finding", "diagnose"]

_SPLITS = ("train", "test")


class Finding(NamedTuple):
    """One kind of oddity that was looked for."""

    what: str
    counts: dict[str, int]  # "train" and "test" -> how many were found
    example: str  # the first one; "" if there is none
    then: str  # what training and evaluation do about it
    fatal: bool = False  # whether training refuses a data set that has any

    @property
    def total(self) -> int:
        """How many were found in both splits."""
        return sum(self.counts.values())


class Diagnosis(NamedTuple):
    """A data set's facts and oddities."""

    facts: tuple[str, ...]  # sentences
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> bool:
        """Whether training would refuse the data set."""
        return any(finding.fatal and finding.total for finding in self.findings)


def diagnose(
    data_dir: str | os.PathLike,
    *,
    values: bool = True,
    progress: Callable[[Iterator], Iterator] = iter,
) -> Diagnosis:
    """Examines a data set in the layout of THUMOS14 or of ActivityNet.

    Args:
        data_dir: the data set's folder.
        values: whether to read all features, to find values that are not finite; otherwise only shapes and a
            few snippets are read.
        progress: wraps the iteration over the videos that have features, to show how far it is.

    Returns:
        `Diagnosis`.

    Raises:
        InputError: if annotations or splits cannot be read at all, or there are no features.
    """
    if not os.path.isdir(data_dir):
        raise InputError(f"{data_dir}: no such folder; expected a data set in it")
    subject = (_find_thumos if is_thumos_layout(data_dir) else _find_activitynet)(Path(data_dir))
    used, video_findings = _examine_videos(subject)
    features = _FeatureExamination(subject.info)
    for video in progress(iter(used)):
        features.examine(video, values=values)
    findings = [
        *subject.findings,
        *video_findings,
        *subject.file_findings,
        *features.findings(),
        *_examine_annotations(subject.info, used),
    ]
    if values:
        findings.append(features.not_finite.finding())
    if subject.info.rescaled:
        findings.append(_find_missing_durations(used))
    return Diagnosis(_facts(subject, used, features.widths), tuple(findings))


class _Counter:
    """Counts one kind of oddity, and remembers the first."""

    def __init__(self, what: str, then: str, *, fatal: bool = False):
        self.what, self.then, self.fatal = what, then, fatal
        self.counts = dict.fromkeys(_SPLITS, 0)
        self.example = ""

    def add(self, split: str, example: str) -> None:
        """Counts one."""
        self.example = self.example or example
        self.counts[split] += 1

    def finding(self) -> Finding:
        """All that were counted."""
        return Finding(self.what, self.counts, self.example, self.then, self.fatal)


# What the layouts' loaders find.


class _Subject(NamedTuple):
    """A data set, whichever layout it is in."""

    info: DatasetInfo
    annotations_path: Path
    subsets: dict[str, str]  # "train" and "test" -> the annotations' name of the split
    splits: dict[str, dict[str, AnnotatedVideo]]  # "train" and "test" -> videos
    sources: Callable[
        [str, str], dict[str, Source] | None
    ]  # split, video -> stream -> file; None if one lacks
    skips_incomplete: bool  # whether videos without annotations or features are left out, not refused
    findings: tuple[Finding, ...]  # about the lists of videos
    file_findings: tuple[Finding, ...]  # about the files of features


class _UsedVideo(NamedTuple):
    """A video that has annotations and features."""

    split: str
    name: str
    entry: AnnotatedVideo
    sources: dict[str, Source]


def _list_counters() -> tuple[_Counter, _Counter]:
    then = "refused: take them out of the split"
    return (
        _Counter("videos that are not annotated at all", then, fatal=True),
        _Counter("videos of another subset", then, fatal=True),
    )


def _file_counters() -> tuple[_Counter, _Counter]:
    return (
        _Counter("features of no annotated video", "ignored"),
        _Counter("features that are there twice", "the first ones found are used"),
    )


def _find_thumos(data_dir: Path) -> _Subject:
    found = find_thumos(data_dir)
    not_annotated, other_subset = _list_counters()
    splits: dict[str, dict[str, AnnotatedVideo]] = {}
    for split in _SPLITS:
        names = found.names[split]
        splits[split] = {name: found.database[name] for name in names if name in found.database}
        for name in names:
            if name not in found.database:
                not_annotated.add(split, name)
        for name, entry in splits[split].items():
            if entry.subset != found.subset(split):
                other_subset.add(split, f"{name} of {entry.subset!r}")

    def sources(split: str, name: str) -> dict[str, Source] | None:
        of_video = found.paths.sources(split, name, found.info.streams)
        return of_video if all(os.path.isfile(source.path) for source in of_video.values()) else None

    return _Subject(
        found.info,
        found.paths.ground_truth,
        {split: found.subset(split) for split in _SPLITS},
        splits,
        sources,
        skips_incomplete=False,
        findings=(not_annotated.finding(), other_subset.finding()),
        file_findings=_examine_thumos_files(found),
    )


def _examine_thumos_files(found: FoundThumos) -> tuple[Finding, ...]:
    """Looks for files that no list names, and for videos in two formats, among those of the first stream."""
    no_video, twice = _file_counters()
    for split in _SPLITS:
        files, repeated = list_arrays(found.paths.stream(split, found.info.streams[0]))
        for name in sorted(set(files) - set(found.names[split])):
            no_video.add(split, name)
        for name in repeated:
            twice.add(split, name)
    return no_video.finding(), twice.finding()


def _find_activitynet(data_dir: Path) -> _Subject:
    found = find_dataset(data_dir)
    no_video, twice = _file_counters()
    annotated = {find_name(name, found.sources) for videos in found.splits.values() for name in videos}
    # Features do not tell a split here, so they count as of the training split.
    for name in found.sources:
        if name not in annotated:
            no_video.add("train", name)
    for name in found.repeated:
        twice.add("train", name)
    return _Subject(
        found.info,
        found.annotations_path,
        {split: found.subset(split) for split in _SPLITS},
        found.splits,
        lambda split, name: found.sources_of(name),
        skips_incomplete=True,
        findings=tuple(counter.finding() for counter in _list_counters()),  # the reader refuses them
        file_findings=(no_video.finding(), twice.finding()),
    )


# What is odd about videos, their features and their annotations.


def _examine_videos(subject: _Subject) -> tuple[list[_UsedVideo], list[Finding]]:
    """The videos that are used, and findings about those that are not."""
    empty_split = _Counter("splits without a video to use", "refused", fatal=True)
    if subject.skips_incomplete:
        then, fatal = "left out, and counted in every report", False
    else:
        then, fatal = "refused: every listed video must have them", True
    no_annotations = _Counter("videos without annotations", then, fatal=fatal)
    no_features = _Counter("videos without features", then, fatal=fatal)
    used: list[_UsedVideo] = []
    for split in _SPLITS:
        before = len(used)
        for name, entry in subject.splits[split].items():
            sources = subject.sources(split, name)
            if not entry.annotations:
                no_annotations.add(split, name)
            elif sources is None:
                no_features.add(split, name)
            else:
                used.append(_UsedVideo(split, name, entry, sources))
        if len(used) == before:
            empty_split.add(split, split)
    return used, [counter.finding() for counter in (empty_split, no_annotations, no_features)]


class _FeatureExamination:
    """Opens the features of one video after another."""

    _TOLERANCE = 0.1  # share of the video's duration by which its features may be longer or shorter

    def __init__(self, info: DatasetInfo):
        self.info = info
        self.widths: dict[str, int] = {}  # stream -> D of the first video
        self._seen: dict[bytes, str] = {}  # digest of features -> the first video that has them
        self._unreadable = _Counter("features that cannot be read", "refused", fatal=True)
        self._other_width = _Counter("other widths than the first video", "refused", fatal=True)
        self._unequal = _Counter("streams of different lengths", "refused", fatal=True)
        self._duration = _Counter(
            "lengths that do not fit the duration", "used as they are: check the frame rate and stride"
        )
        self._twin = _Counter("the same features under two names", "both are used")
        self.not_finite = _Counter("values that are not finite", "refused when they are read", fatal=True)

    def examine(self, video: _UsedVideo, *, values: bool) -> None:
        """Examines one video; ``values`` says whether to read all of its features."""
        lengths, digest = [], hashlib.sha256()
        for stream, source in video.sources.items():
            try:
                features = open_source(source)
            except InputError as error:
                self._unreadable.add(video.split, str(error))
                return
            length, width = features.shape
            lengths.append(length)
            if self.widths.setdefault(stream, width) != width:
                self._other_width.add(video.split, f"{source}: {width}, not {self.widths[stream]}")
            digest.update(repr(features.shape).encode())
            digest.update(np.ascontiguousarray(features[:: max(1, length // 4)]).tobytes())
            if values and not _all_finite(features):
                self.not_finite.add(video.split, str(source))
        if len(set(lengths)) > 1:
            self._unequal.add(video.split, f"{video.name}: {' and '.join(map(str, lengths))} snippets")
        self._compare_duration(video, lengths[0])
        first = self._seen.setdefault(digest.digest(), video.name)
        if first != video.name:
            self._twin.add(video.split, f"{video.name} and {first}")

    def _compare_duration(self, video: _UsedVideo, length: int) -> None:
        duration, step = video.entry.duration, self.info.seconds_per_snippet
        if not duration or self.info.rescaled:
            return
        if abs(length * step - duration) > max(2 * step, self._TOLERANCE * duration):
            self._duration.add(
                video.split,
                f"{video.name}: {length} snippets are {length * step:.1f} s, the video {duration:.1f} s",
            )

    def findings(self) -> list[Finding]:
        """All but `not_finite`."""
        counters = (self._unreadable, self._other_width, self._unequal, self._duration, self._twin)
        return [counter.finding() for counter in counters]


def _all_finite(features: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(features.astype(np.float32, copy=False)).all())


def _examine_annotations(info: DatasetInfo, used: Sequence[_UsedVideo]) -> list[Finding]:
    kept = "kept as annotated, as the usual evaluators do"
    beyond = _Counter("segments beyond the video", kept)
    no_length = _Counter("segments of no length", f"{kept}; nobody can find them")
    no_class = _Counter("labels that are no class", "refused", fatal=True)
    untrained = _Counter("classes without a training video", "their scores are never trained")
    untested = _Counter("classes without a test video", "do not count in mAP")
    classes = set(info.classes)
    present: dict[str, set[str]] = {split: set() for split in _SPLITS}
    for split, name, entry, _ in used:
        for a in entry.annotations:
            present[split].add(a.label)
            where = f"{name} [{a.start}, {a.end}]"
            if a.label not in classes:
                no_class.add(split, f"{name}: {a.label}")
            if a.end <= a.start:
                no_length.add(split, where)
            elif a.start < 0 or (entry.duration is not None and a.end > entry.duration):
                known = "" if entry.duration is None else f" of {entry.duration} s"
                beyond.add(split, where + known)
    for label in info.classes:
        if label not in present["train"]:
            untrained.add("train", label)
        if label not in present["test"]:
            untested.add("test", label)
    return [counter.finding() for counter in (beyond, no_length, no_class, untrained, untested)]


def _find_missing_durations(used: Sequence[_UsedVideo]) -> Finding:
    """Rescaled features tell no time, so that the annotations must."""
    missing = _Counter("no duration, though rescaled", "refused", fatal=True)
    for video in used:
        if not video.entry.duration:
            missing.add(video.split, video.name)
    return missing.finding()


# The facts.


def _facts(subject: _Subject, used: Sequence[_UsedVideo], widths: dict[str, int]) -> tuple[str, ...]:
    info = subject.info
    channels = ", ".join(f"{stream} ({width})" for stream, width in widths.items())
    time = f"one snippet every {info.seconds_per_snippet:g} s"
    if info.rescaled:
        time = "rescaled to the videos' durations"
    return (
        f"annotations: {subject.annotations_path}; {len(info.classes):,} classes",
        *(_population(split, subject, used) for split in _SPLITS),
        f"features: {channels}; {time}",
    )


def _population(split: str, subject: _Subject, used: Sequence[_UsedVideo]) -> str:
    videos = [video.entry for video in used if video.split == split]
    instances = sum(len(entry.annotations) for entry in videos)
    title = {"train": "training", "test": "test"}[split]
    return (
        f"{title} (subset {subject.subsets[split]}): {len(videos):,} of {len(subject.splits[split]):,} "
        f"videos are used, with {instances:,} instances"
    )
