"""Which videos of a data set the doctor looks at, in either layout, and what is odd about the others."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from case_jax.data.activitynet import find_dataset
from case_jax.data.annotations import AnnotatedVideo
from case_jax.data.doctor_findings import SPLITS, Counter, Finding
from case_jax.data.info import DatasetInfo
from case_jax.data.names import find_name, spellings
from case_jax.data.similar import did_you_mean, fold_name
from case_jax.data.sources import Source
from case_jax.data.thumos import FoundThumos, find_thumos, is_thumos_layout
from case_jax.errors import InputError

__all__ = ["Subject", "UsedVideo", "examine_videos", "find_subject"]


class Subject(NamedTuple):
    """A data set, whichever layout it is in."""

    info: DatasetInfo
    annotations_path: Path
    subsets: dict[str, str]  # "train" and "test" -> the annotations' name of the split
    splits: dict[str, dict[str, AnnotatedVideo]]  # "train" and "test" -> videos
    sources: Callable[[str, str], dict[str, Source] | None]  # split, video -> stream -> file; None without
    skips_incomplete: bool  # whether videos without annotations or features are left out, not refused
    findings: tuple[Finding, ...]  # about the lists of videos
    file_findings: tuple[Finding, ...]  # about the files of features
    spare: dict[str, list[str]]  # "train" and "test" -> names of features that no annotated video has


class UsedVideo(NamedTuple):
    """A video that has annotations and features."""

    split: str
    name: str
    entry: AnnotatedVideo
    sources: dict[str, Source]


def find_subject(data_dir: str | os.PathLike) -> Subject:
    """Reads a data set's facts, annotations and splits, and finds its features, without opening them.

    Args:
        data_dir: a folder in the layout of THUMOS14 or of ActivityNet.

    Raises:
        InputError: if annotations or splits cannot be read at all, or there are no features.
    """
    return (_find_thumos if is_thumos_layout(data_dir) else _find_activitynet)(Path(data_dir))


def _list_counters() -> tuple[Counter, Counter]:
    then = "refused: take them out of the split"
    return (
        Counter("videos that are not annotated at all", then, fatal=True),
        Counter("videos of another subset", then, fatal=True),
    )


def _file_counters() -> tuple[Counter, Counter]:
    return (
        Counter("features of no annotated video", "ignored"),
        Counter("features that are there twice", "the first ones found are used"),
    )


def _find_thumos(data_dir: Path) -> Subject:
    found = find_thumos(data_dir)
    not_annotated, other_subset = _list_counters()
    splits: dict[str, dict[str, AnnotatedVideo]] = {}
    for split in SPLITS:
        names = found.names[split]
        splits[split] = {name: found.database[name] for name in names if name in found.database}
        for name in names:
            if name not in found.database:
                not_annotated.add(split, name + did_you_mean(name, found.database))
        for name, entry in splits[split].items():
            if entry.subset != found.subset(split):
                other_subset.add(split, f"{name} of {entry.subset!r}")

    def sources(split: str, name: str) -> dict[str, Source] | None:
        streams, reading = found.info.streams, found.info.reading
        try:
            of_video = found.paths.sources(split, name, streams, reading)
        except InputError:  # opening the streams by name is refused, too, and counted there
            path = found.paths.together(split, name)
            of_video = {stream: Source(path, stream, reading=reading) for stream in streams}
        return of_video if all(os.path.isfile(source.path) for source in of_video.values()) else None

    file_findings, spare = _examine_thumos_files(found)
    return Subject(
        found.info,
        found.paths.ground_truth,
        {split: found.subset(split) for split in SPLITS},
        splits,
        sources,
        skips_incomplete=False,
        findings=(not_annotated.finding(), other_subset.finding()),
        file_findings=file_findings,
        spare=spare,
    )


def _examine_thumos_files(found: FoundThumos) -> tuple[tuple[Finding, ...], dict[str, list[str]]]:
    """Looks for files that no list names, and for videos in two formats, among those of the first stream."""
    no_video, twice = _file_counters()
    spare: dict[str, list[str]] = {}
    for split in SPLITS:
        files, repeated = found.paths.list_features(split, found.info.streams[0])
        listed = {spelling for name in found.names[split] for spelling in spellings(name)}
        spare[split] = sorted(set(files) - listed)
        for name in spare[split]:
            no_video.add(split, name)
        for name in repeated:
            twice.add(split, name)
    return (no_video.finding(), twice.finding()), spare


def _find_activitynet(data_dir: Path) -> Subject:
    found = find_dataset(data_dir)
    no_video, twice = _file_counters()
    annotated = {find_name(name, found.sources) for videos in found.splits.values() for name in videos}
    # Features do not tell a split here, so they count as of the training split.
    spare = [name for name in found.sources if name not in annotated]
    for name in spare:
        no_video.add("train", name)
    for name in found.repeated:
        twice.add("train", name)
    return Subject(
        found.info,
        found.annotations_path,
        {split: found.subset(split) for split in SPLITS},
        found.splits,
        lambda split, name: found.sources_of(name),
        skips_incomplete=True,
        findings=tuple(counter.finding() for counter in _list_counters()),  # the reader refuses them
        file_findings=(no_video.finding(), twice.finding()),
        spare={"train": spare, "test": []},
    )


def examine_videos(subject: Subject) -> tuple[list[UsedVideo], list[Finding]]:
    """The videos that are used, and findings about those that are not."""
    empty_split = Counter("splits without an annotated video to use", "refused", fatal=True)
    if subject.skips_incomplete:
        then, fatal = "left out, and counted in every report", False
    else:
        then, fatal = "refused: every listed video must have them", True
    no_annotations = Counter("videos without annotations", "used as videos without any action")
    # Their annotations are ambiguous intervals only, or there is no list of annotations.
    unsure = Counter("videos that may or may not show an action", "left out, and counted in every report")
    no_features = Counter("videos without features", then, fatal=fatal)
    similar = Counter("names that nearly agree", "taken for different videos")
    spare = {fold_name(name): (split, name) for split in SPLITS for name in subject.spare[split]}
    used: list[UsedVideo] = []
    for split in SPLITS:
        annotated = 0
        for name, entry in subject.splits[split].items():
            sources = subject.sources(split, name)
            if not entry.annotations and not entry.action_free:
                unsure.add(split, name)
            elif sources is None:
                no_features.add(split, name)
                if fold_name(name) in spare:
                    place, other = spare[fold_name(name)]
                    where = f" of the {place} split" if other == name else ""
                    similar.add(split, f"{name!r} and the features {other!r}{where}")
            else:
                used.append(UsedVideo(split, name, entry, sources))
                annotated += not entry.action_free
                if entry.action_free:
                    no_annotations.add(split, name)
        if not annotated:
            empty_split.add(split, split)
    counters = (empty_split, no_annotations, unsure, no_features, similar)
    return used, [counter.finding() for counter in counters]
