"""What the doctor sees in the annotations of the videos that are used."""

from collections.abc import Sequence

from case_jax.data.doctor_findings import SPLITS, Counter, Finding
from case_jax.data.doctor_videos import UsedVideo
from case_jax.data.info import DatasetInfo

__all__ = ["examine_annotations", "find_missing_durations"]


def examine_annotations(info: DatasetInfo, used: Sequence[UsedVideo]) -> list[Finding]:
    """Findings about segments, labels and classes."""
    kept = "kept as annotated, as the usual evaluators do"
    beyond = Counter("segments beyond the video", kept)
    no_length = Counter("segments of no length", f"{kept}; nobody can find them")
    no_class = Counter("labels that are no class", "refused", fatal=True)
    untrained = Counter("classes without a training video", "their scores are never trained")
    untested = Counter("classes without a test video", "do not count in mAP")
    classes = set(info.classes)
    present: dict[str, set[str]] = {split: set() for split in SPLITS}
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


def find_missing_durations(used: Sequence[UsedVideo]) -> Finding:
    """Rescaled features tell no time, so that the annotations must."""
    missing = Counter("no duration, though rescaled", "refused", fatal=True)
    for video in used:
        if not video.entry.duration:
            missing.add(video.split, video.name)
    return missing.finding()
