"""Looks at a data set before anyone trains on it: what is odd, and what will be done about it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data.activitynet import Found, find_dataset, find_sources
from case_jax.data.annotations import AnnotatedVideo, read_ground_truth
from case_jax.data.dataset import DatasetInfo
from case_jax.data.files import read_names
from case_jax.data.names import find_name
from case_jax.data.sources import Source, open_source
from case_jax.data.thumos import is_thumos_layout, read_info
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
    found, missing = _find(Path(data_dir))
    tally = _Tally()
    for split, name in missing:
        tally.add("videos that are not annotated at all", split, name)
    places: list[tuple[str, str, AnnotatedVideo, dict[str, Source]]] = []
    for split in _SPLITS:
        for name, entry in found.splits[split].items():
            place = find_name(name, found.sources)
            if not entry.annotations:
                tally.add("videos without annotations", split, name)
            elif place is None:
                tally.add("videos without features", split, name)
            else:
                places.append((split, name, entry, found.sources[place]))
    _tally_annotations(found, tally)
    used = {id(sources) for _, _, _, sources in places}
    for name, sources in found.sources.items():
        if id(sources) not in used:
            tally.add("features of no annotated video", "train", name)
    for name in found.repeated:
        tally.add("features that are there twice", "train", name)

    widths: dict[str, int] = {}
    seen: dict[bytes, str] = {}
    for split, name, entry, sources in progress(iter(places)):
        _tally_features(split, name, entry, sources, found.info, tally, widths, seen, values)

    facts = (
        f"annotations: {found.annotations_path}; {len(found.info.classes):,} classes",
        *(_population(split, found, places) for split in _SPLITS),
        "features: "
        + ", ".join(f"{stream} ({width})" for stream, width in widths.items())
        + "; "
        + _time(found.info),
    )
    return Diagnosis(facts, _findings(tally, found, values))


def _findings(tally: _Tally, found: Found, values: bool) -> tuple[Finding, ...]:
    thumos = is_thumos_layout(found.annotations_path.parent)
    left_out = (
        "refused: every listed video must have them" if thumos else "left out, and counted in every report"
    )
    kept = "kept as annotated, as the usual evaluators do"
    findings = [
        tally.finding(
            "videos that are not annotated at all", "refused: take them out of the split", fatal=True
        ),
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
    if found.info.rescaled:
        findings.append(tally.finding("no duration, though rescaled", "refused", fatal=True))
    return tuple(findings)


def _tally_annotations(found: Found, tally: _Tally) -> None:
    classes = set(found.info.classes)
    with_video = {split: set() for split in _SPLITS}
    for split in _SPLITS:
        for name, entry in found.splits[split].items():
            for a in entry.annotations:
                with_video[split].add(a.label)
                where = f"{name} [{a.start}, {a.end}]"
                if a.label not in classes:
                    tally.add("labels that are no class", split, f"{name}: {a.label}")
                if a.end <= a.start:
                    tally.add("segments of no length", split, where)
                elif entry.duration is not None and a.end > entry.duration:
                    tally.add("segments beyond the video", split, f"{where} of {entry.duration} s")
            if found.info.rescaled and entry.annotations and not entry.duration:
                tally.add("no duration, though rescaled", split, name)
    for label in found.info.classes:
        if label not in with_video["train"]:
            tally.add("classes without a training video", "train", label)
        if label not in with_video["test"]:
            tally.add("classes without a test video", "test", label)


def _tally_features(
    split: str,
    name: str,
    entry: AnnotatedVideo,
    sources: Mapping[str, Source],
    info: DatasetInfo,
    tally: _Tally,
    widths: dict[str, int],
    seen: dict[bytes, str],
    values: bool,
) -> None:
    """One video's features."""
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
        if values and not np.isfinite(features).all():
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


def _find(data_dir: Path) -> tuple[Found, list[tuple[str, str]]]:
    """The data set, and (split, video) of those that are listed but not annotated at all."""
    if not data_dir.is_dir():
        raise InputError(f"{data_dir}: no such folder; expected a data set in it")
    if not is_thumos_layout(data_dir):
        return find_dataset(data_dir), []
    info = read_info(data_dir)
    database = read_ground_truth(data_dir / "gt.json")
    splits, missing, sources, repeated = {}, [], {}, []
    for split in _SPLITS:
        names = read_names(data_dir / f"split_{split}.txt")
        splits[split] = {name: database[name] for name in names if name in database}
        missing += [(split, name) for name in names if name not in database]
        of_split, twice = find_sources(data_dir / "features" / split, info.streams)
        sources |= of_split
        repeated += twice
    return Found(info, data_dir / "gt.json", database, splits, sources, tuple(repeated)), missing


def _population(split: str, found: Found, places: list) -> str:
    videos = [entry for of_split, _, entry, _ in places if of_split == split]
    instances = sum(len(entry.annotations) for entry in videos)
    title = {"train": "training", "test": "test"}[split]
    subset = {"train": found.info.train_subset, "test": found.info.test_subset}[split]
    return (
        f"{title} (subset {subset}): {len(videos):,} of {len(found.splits[split]):,} videos are used, with "
        f"{instances:,} instances"
    )


def _time(info: DatasetInfo) -> str:
    if info.rescaled:
        return "rescaled to the videos' durations"
    return f"one snippet every {info.seconds_per_snippet:g} s"
