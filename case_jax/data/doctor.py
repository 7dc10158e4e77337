"""Looks at a data set before anyone trains on it: what is odd, and what training and evaluation do then."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from case_jax.data.doctor_annotations import examine_annotations, find_ambiguous, find_missing_durations
from case_jax.data.doctor_features import FeatureExamination
from case_jax.data.doctor_findings import SPLITS, Finding
from case_jax.data.doctor_videos import Subject, UsedVideo, examine_videos, find_subject
from case_jax.errors import InputError
from case_jax.words import counted

__all__ = ["Diagnosis", "Finding", "diagnose"]


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
    strict: bool = False,
    progress: Callable[[Iterator], Iterator] = iter,
) -> Diagnosis:
    """Examines a data set in the layout of THUMOS14 or of ActivityNet.

    Args:
        data_dir: the data set's folder.
        values: whether to read all features, to find values that are not finite; otherwise only shapes and a
            few snippets are read.
        strict: whether training is to refuse streams whose lengths differ by one snippet.
        progress: wraps the iteration over the videos that have features, to show how far it is.

    Returns:
        `Diagnosis`.

    Raises:
        InputError: if annotations or splits cannot be read at all, or there are no features.
    """
    if not os.path.isdir(data_dir):
        raise InputError(f"{data_dir}: no such folder; expected a data set in it")
    subject = find_subject(data_dir)
    used, video_findings = examine_videos(subject)
    features = FeatureExamination(subject.info, strict=strict)
    for video in progress(iter(used)):
        features.examine(video, values=values)
    findings = [
        *subject.findings,
        *video_findings,
        *subject.file_findings,
        *features.findings(),
        *examine_annotations(subject.info, used, features.lengths),
        *find_ambiguous(subject.splits),
    ]
    if values:
        findings.append(features.not_finite.finding())
    if subject.info.rescaled:
        findings.append(find_missing_durations(used))
    return Diagnosis(_facts(subject, used, features.widths), tuple(findings))


def _facts(subject: Subject, used: Sequence[UsedVideo], widths: dict[str, int]) -> tuple[str, ...]:
    info = subject.info
    channels = ", ".join(f"{stream} ({width})" for stream, width in widths.items())
    time = f"one snippet every {info.seconds_per_snippet:g} s"
    if info.rescaled:
        time = "rescaled to the videos' durations"
    annotations = f"annotations: {subject.annotations_path}; {len(info.classes):,} classes"
    unclear = sum(len(entry.ambiguous) for videos in subject.splits.values() for entry in videos.values())
    if unclear:
        annotations += f'; {unclear:,} intervals are "Ambiguous", which is never a class'
    return (
        annotations,
        *(_population(split, subject, used) for split in SPLITS),
        f"features: {channels}; {time}",
    )


def _population(split: str, subject: Subject, used: Sequence[UsedVideo]) -> str:
    videos = [video.entry for video in used if video.split == split]
    instances = sum(len(entry.annotations) for entry in videos)
    title = {"train": "training", "test": "test"}[split]
    return (
        f"{title} (subset {subject.subsets[split]}): {len(videos):,} of {len(subject.splits[split]):,} "
        f"videos are used, with {counted(instances, 'instance')}"
    )
