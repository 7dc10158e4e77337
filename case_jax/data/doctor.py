"""Looks at a data set before anyone trains on it: what is odd, and what will be done about it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data.activitynet import find_dataset
from case_jax.data.annotations import AnnotatedVideo, read_ground_truth
from case_jax.data.files import read_names
from case_jax.data.formats import Source, open_source
from case_jax.data.info import DatasetInfo, read_info
from case_jax.data.names import find_name
from case_jax.data.thumos import is_thumos_layout
from case_jax.errors import InputError

__all__ = ["Diagnosis", "Finding", "diagnose"]

_SPLITS = ("train", "test")
_TOLERANCE = 0.1  # share by which features may last longer or shorter than the video


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    counts: dict[str, int]  # "train" and "test" -> how many
    example: str  # the first one; "" if there is none
    then: str  # what training and evaluation do about it
    fatal: bool = False  # whether they refuse the data set if there is any

    @property
    def total(self) -> int:
        """In both splits."""
        return sum(self.counts.values())


class Diagnosis(NamedTuple):
    """What there is, and what was found."""

    facts: tuple[str, ...]  # sentences
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> bool:
        """Whether training would refuse the data set."""
        return any(finding.fatal and finding.total for finding in self.findings)


class _Subject(NamedTuple):
    """A data set, whichever layout it is in."""

    info: DatasetInfo
    annotations_path: Path
    splits: dict[str, dict[str, AnnotatedVideo]]  # "train" and "test" -> videos
    sources: Callable[[str, str], dict[str, Source] | None]  # split, video -> its streams, if they are there
    remarks: list[tuple[str, str, str]]  # (what, split, example) that was found on the way
    thumos: bool


class _Place(NamedTuple):
    """A video that is used."""

    split: str
    name: str
    entry: AnnotatedVideo
    sources: dict[str, Source]


class _Tally:
    """Counts what is found, and remembers the first of each."""

    def __init__(self):
        self.counts: dict[str, dict[str, int]] = {}
        self.examples: dict[str, str] = {}

    def add(self, what: str, split: str, example: str) -> None:
        of_what = self.counts.setdefault(what, dict.fromkeys(_SPLITS, 0))
        of_what[split] += 1
        self.examples.setdefault(what, example)

    def finding(self, what: str, then: str, *, fatal: bool = False) -> Finding:
        counts = self.counts.get(what, dict.fromkeys(_SPLITS, 0))
        return Finding(what, counts, self.examples.get(what, ""), then, fatal)


def diagnose(
    data_dir: str | os.PathLike,
    *,
    values: bool = True,
    progress: Callable[[Iterator], Iterator] = iter,
) -> Diagnosis:
    """Examines a data set in the layout of THUMOS14 or of ActivityNet.

    Args:
        data_dir: the data set.
        values: whether to read all features, to find values that are not finite; without, only shapes.
        progress: wraps the iteration over videos that have features, to show it.

    Returns:
        `Diagnosis`.

    Raises:
        InputError: if annotations or splits cannot be read at all, or there are no features.
    """
    subject = _find(Path(data_dir))
    tally, info = _Tally(), subject.info
    for what, split, example in subject.remarks:
        tally.add(what, split, example)
    places: list[_Place] = []
    for split in _SPLITS:
        for name, entry in subject.splits[split].items():
            sources = subject.sources(split, name)
            if not entry.annotations:
                tally.add("videos without annotations", split, name)
            elif sources is None:
                tally.add("videos without features", split, name)
            else:
                places.append(_Place(split, name, entry, sources))
        if not any(place.split == split for place in places):
            tally.add("splits without a video to use", split, split)
    _tally_annotations(subject, places, tally)

    widths: dict[str, int] = {}
    seen: dict[bytes, str] = {}
    for place in progress(iter(places)):
        _tally_features(place, info, tally, widths, seen, values)

    facts = (
        f"annotations: {subject.annotations_path}; {len(info.classes):,} classes",
        *(_population(split, subject, places) for split in _SPLITS),
        "features: "
        + ", ".join(f"{stream} ({width})" for stream, width in widths.items())
        + "; "
        + _time(info),
    )
    return Diagnosis(facts, _findings(tally, subject, values))


def _findings(tally: _Tally, subject: _Subject, values: bool) -> tuple[Finding, ...]:
    thumos = subject.thumos
    left_out = "left out, and counted in every report"
    if thumos:
        left_out = "refused: every listed video must have them"
    kept = "kept as annotated, as the usual evaluators do"
    findings = [
        tally.finding(
            "videos that are not annotated at all", "refused: take them out of the split", fatal=True
        ),
        tally.finding("videos of another subset", "refused: take them out of the split", fatal=True),
        tally.finding("splits without a video to use", "refused", fatal=True),
        tally.finding("videos without annotations", left_out, fatal=thumos),
        tally.finding("videos without features", left_out, fatal=thumos),
        tally.finding("features of no annotated video", "ignored"),
        tally.finding("features that are there twice", "the first ones found are used"),
        tally.finding("features that cannot be read", "refused", fatal=True),
        tally.finding("other widths than the first video", "refused", fatal=True),
        tally.finding("streams of different lengths", "refused", fatal=True),
        tally.finding(
            "lengths that do not fit the duration", "used as they are: check the frame rate and stride"
        ),
        tally.finding("the same features under two names", "both are used"),
        tally.finding("segments beyond the video", kept),
        tally.finding("segments of no length", f"{kept}; nobody can find them"),
        tally.finding("labels that are no class", "refused", fatal=True),
        tally.finding("classes without a training video", "their scores are never trained"),
        tally.finding("classes without a test video", "do not count in mAP"),
    ]
    if values:
        findings.append(tally.finding("values that are not finite", "refused when they are read", fatal=True))
    if subject.info.rescaled:
        findings.append(tally.finding("no duration, though rescaled", "refused", fatal=True))
    return tuple(findings)


def _tally_annotations(subject: _Subject, places: Sequence[_Place], tally: _Tally) -> None:
    """Of the videos that are used."""
    classes = set(subject.info.classes)
    with_video: dict[str, set[str]] = {split: set() for split in _SPLITS}
    for split, name, entry, _ in places:
        for a in entry.annotations:
            with_video[split].add(a.label)
            where = f"{name} [{a.start}, {a.end}]"
            if a.label not in classes:
                tally.add("labels that are no class", split, f"{name}: {a.label}")
            if a.end <= a.start:
                tally.add("segments of no length", split, where)
            elif a.start < 0 or (entry.duration is not None and a.end > entry.duration):
                known = "" if entry.duration is None else f" of {entry.duration} s"
                tally.add("segments beyond the video", split, where + known)
        if subject.info.rescaled and not entry.duration:
            tally.add("no duration, though rescaled", split, name)
    for label in subject.info.classes:
        if label not in with_video["train"]:
            tally.add("classes without a training video", "train", label)
        if label not in with_video["test"]:
            tally.add("classes without a test video", "test", label)


def _tally_features(
    place: _Place,
    info: DatasetInfo,
    tally: _Tally,
    widths: dict[str, int],
    seen: dict[bytes, str],
    values: bool,
) -> None:
    """One video's features."""
    split, name, entry, sources = place
    lengths, digest = [], hashlib.sha256()
    for stream, source in sources.items():
        try:
            features = open_source(source)
        except InputError as error:
            tally.add("features that cannot be read", split, str(error))
            return
        length, width = features.shape
        lengths.append(length)
        if widths.setdefault(stream, width) != width:
            tally.add("other widths than the first video", split, f"{source}: {width}, not {widths[stream]}")
        digest.update(repr(features.shape).encode())
        digest.update(np.ascontiguousarray(features[:: max(1, length // 4)]).tobytes())
        if values and not _all_finite(features):
            tally.add("values that are not finite", split, str(source))
    if len(set(lengths)) > 1:
        tally.add(
            "streams of different lengths", split, f"{name}: {' and '.join(map(str, lengths))} snippets"
        )
    lasts = lengths[0] * info.seconds_per_snippet
    if entry.duration and not info.rescaled:
        allowed = max(2 * info.seconds_per_snippet, _TOLERANCE * entry.duration)
        if abs(lasts - entry.duration) > allowed:
            said = f"{name}: {lengths[0]} snippets are {lasts:.1f} s, the video {entry.duration:.1f} s"
            tally.add("lengths that do not fit the duration", split, said)
    first = seen.setdefault(digest.digest(), name)
    if first != name:
        tally.add("the same features under two names", split, f"{name} and {first}")


def _all_finite(features: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(features.astype(np.float32, copy=False)).all())


def _find(data_dir: Path) -> _Subject:
    if not os.path.isdir(data_dir):
        raise InputError(f"{data_dir}: no such folder; expected a data set in it")
    return _thumos(data_dir) if is_thumos_layout(data_dir) else _activitynet(data_dir)


def _activitynet(data_dir: Path) -> _Subject:
    found = find_dataset(data_dir)
    used = {find_name(name, found.sources) for split in _SPLITS for name in found.splits[split]}
    remarks = [
        ("features of no annotated video", "train", name) for name in found.sources if name not in used
    ]
    remarks += [("features that are there twice", "train", name) for name in found.repeated]

    def sources(split: str, name: str) -> dict[str, Source] | None:
        known = find_name(name, found.sources)
        return None if known is None else found.sources[known]

    return _Subject(found.info, found.annotations_path, found.splits, sources, remarks, thumos=False)


def _thumos(data_dir: Path) -> _Subject:
    info, database = read_info(data_dir), read_ground_truth(data_dir / "gt.json")
    subsets = {"train": info.train_subset, "test": info.test_subset}
    splits: dict[str, dict[str, AnnotatedVideo]] = {}
    remarks = []
    for split in _SPLITS:
        names = read_names(data_dir / f"split_{split}.txt")
        splits[split] = {name: database[name] for name in names if name in database}
        remarks += [
            ("videos that are not annotated at all", split, name) for name in names if name not in database
        ]
        remarks += [
            ("videos of another subset", split, f"{name} of {entry.subset!r}")
            for name, entry in splits[split].items()
            if entry.subset != subsets[split]
        ]
        files = (data_dir / "features" / split / info.streams[0]).glob("*.npy")
        remarks += [
            ("features of no annotated video", split, path.stem)
            for path in sorted(files)
            if path.stem not in names
        ]

    def sources(split: str, name: str) -> dict[str, Source] | None:
        folder = data_dir / "features" / split
        paths = {stream: folder / stream / f"{name}.npy" for stream in info.streams}
        there = all(os.path.isfile(path) for path in paths.values())
        return {stream: Source(path) for stream, path in paths.items()} if there else None

    return _Subject(info, data_dir / "gt.json", splits, sources, remarks, thumos=True)


def _population(split: str, subject: _Subject, places: Sequence[_Place]) -> str:
    videos = [place.entry for place in places if place.split == split]
    instances = sum(len(entry.annotations) for entry in videos)
    title = {"train": "training", "test": "test"}[split]
    subset = {"train": subject.info.train_subset, "test": subject.info.test_subset}[split]
    return (
        f"{title} (subset {subset}): {len(videos):,} of {len(subject.splits[split]):,} videos are used, with "
        f"{instances:,} instances"
    )


def _time(info: DatasetInfo) -> str:
    if info.rescaled:
        return "rescaled to the videos' durations"
    return f"one snippet every {info.seconds_per_snippet:g} s"
