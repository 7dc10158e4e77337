"""What the doctor sees in the annotations of the videos that are used."""

import collections
import math
from collections.abc import Mapping, Sequence

from case_jax.data.annotations import AnnotatedVideo
from case_jax.data.dataset import Annotation, only_labels
from case_jax.data.doctor_findings import SPLITS, Counter, Finding
from case_jax.data.doctor_units import find_other_units, seconds_of_features
from case_jax.data.doctor_videos import UsedVideo
from case_jax.data.info import DatasetInfo
from case_jax.data.similar import fold_label

__all__ = ["examine_annotations", "find_ambiguous", "find_missing_durations"]


def examine_annotations(
    info: DatasetInfo, used: Sequence[UsedVideo], lengths: Mapping[tuple[str, str], int]
) -> list[Finding]:
    """Findings about segments, labels and classes.

    Args:
        info: of the data set.
        used: its videos.
        lengths: (split, video) -> T_v, of the videos whose features could be opened.
    """
    kept = "kept as annotated, as the usual evaluators do"
    beyond = Counter("segments beyond the video", kept)
    no_length = Counter("segments of no length", f"{kept}; nobody can find them")
    no_class = Counter("labels that are no class", "refused", fatal=True)
    untrained = Counter("classes without a training video", "their scores are never trained")
    untested = Counter("classes without a test video", "do not count in mAP")
    no_contrast = Counter(
        "splits whose videos all have the same labels",
        "the labels teach nothing: add videos without any action, or with other labels",
    )
    if labels := only_labels(video.entry.annotations for video in used if video.split == "train"):
        no_contrast.add("train", labels)
    classes = set(info.classes)
    present: dict[str, set[str]] = {split: set() for split in SPLITS}
    for video in used:
        split, name, entry, _ = video
        end, known = _end_of(info, video, lengths)
        for a in entry.annotations:
            present[split].add(a.label)
            where = f"{name} [{a.start}, {a.end}]"
            if a.label not in classes:
                no_class.add(split, f"{name}: {a.label}")
            if a.end <= a.start:
                no_length.add(split, where)
            elif a.end > end and math.isfinite(a.end):
                beyond.add(split, where + known)
            elif a.start < 0:
                beyond.add(split, where + (known if entry.duration else ""))
    for label in info.classes:
        if label not in present["train"]:
            untrained.add("train", label)
        if label not in present["test"]:
            untested.add("test", label)
    counters = (beyond, no_length, no_class, no_contrast, untrained, untested)
    findings = [counter.finding() for counter in counters]
    return [find_other_units(info, used, lengths), *findings, _find_similar_labels(info, used)]


def _end_of(info: DatasetInfo, video: UsedVideo, lengths: Mapping[tuple[str, str], int]) -> tuple[float, str]:
    """The time behind which a segment lies beyond the video, and how messages say it.

    Where the annotations tell no duration, the features do, but for a part of a snippet.
    """
    if video.entry.duration is not None:
        return video.entry.duration, f" of {video.entry.duration} s"
    seconds = seconds_of_features(info, video, lengths)
    if seconds is None:
        return math.inf, ""
    return seconds + info.seconds_per_snippet, f" of {seconds:.1f} s, as long as the features"


def _find_similar_labels(info: DatasetInfo, used: Sequence[UsedVideo]) -> Finding:
    """Labels that a person would take for one, counted by the segments of the rarer ones."""
    similar = Counter("labels that nearly agree", "they count as different labels")
    found: list[tuple[str, Annotation]] = [
        (video.split, a) for video in used for a in video.entry.annotations
    ]
    counts = collections.Counter(a.label for _, a in found)
    spelled: dict[str, list[str]] = {}
    for label in sorted(
        {*info.classes, *counts}, key=lambda label: (label not in info.classes, -counts[label], label)
    ):
        spelled.setdefault(fold_label(label), []).append(label)
    for split, a in found:
        first, *others = spelled[fold_label(a.label)]
        if a.label in others:
            similar.add(split, f"{a.label!r} and {first!r}")
    return similar.finding()


def find_ambiguous(splits: Mapping[str, Mapping[str, AnnotatedVideo]]) -> list[Finding]:
    """Intervals labelled "Ambiguous", of all videos of the splits; no finding if there are none."""
    unclear = Counter("ambiguous intervals", "never a class; only --protocol of evaluate regards them")
    for split, videos in splits.items():
        for name, entry in videos.items():
            for a in entry.ambiguous:
                unclear.add(split, f"{name} [{a.start}, {a.end}]")
    finding = unclear.finding()
    return [finding] if finding.total else []


def find_missing_durations(used: Sequence[UsedVideo]) -> Finding:
    """Rescaled features tell no time, so that the annotations must."""
    missing = Counter("no duration, though rescaled", "refused", fatal=True)
    for video in used:
        if not video.entry.duration:
            missing.add(video.split, video.name)
    return missing.finding()
