"""What evaluation takes of a ground-truth file and of prediction files, and what it leaves out.

A model often finds more than somebody has annotated: it knows more classes, or was run on more videos. Such
detections are neither right nor wrong, so that they are left out and counted. A video with an empty list of
annotations is annotated, though: nothing happens in it, and each detection there is wrong.
"""

import collections
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from case_jax.data.annotations import AnnotatedVideo, read_ground_truth, subset_of
from case_jax.data.dataset import as_entries
from case_jax.errors import InputError
from case_jax.evaluation.matching import Segments, make_segments
from case_jax.localization.shards import merge_predictions

__all__ = ["LeftOut", "Scored", "read_scored"]


class LeftOut(NamedTuple):
    """Detections that cannot be scored: how many there are of each kind, by name."""

    videos: Mapping[str, int]  # in videos that the ground truth does not have, or has without a list
    classes: Mapping[str, int]  # in videos of the subset with actions, of classes that the subset never has
    action_free: Mapping[str, int]  # only for proposals: in videos of the subset without any action

    @property
    def total(self) -> int:
        """How many detections there are."""
        return sum(sum(counts.values()) for counts in self)


class Scored(NamedTuple):
    """A subset of the ground truth, and the detections in its videos."""

    subset: str
    database: Mapping[str, AnnotatedVideo]  # of all subsets
    truth: Mapping[str, AnnotatedVideo]  # of the subset
    detections: Mapping[str, Sequence[Mapping]]  # in videos of the subset, whatever their classes
    elsewhere: int  # detections in videos of other subsets
    left_out: LeftOut
    proposals: bool  # whether labels do not matter

    @property
    def instances(self) -> Segments:
        """The annotated actions."""
        return make_segments({name: as_entries(video.annotations) for name, video in self.truth.items()})

    @property
    def found(self) -> Segments:
        """The detections. Those that are left out for their class or their video are still among them."""
        return make_segments(self.detections)

    @property
    def ambiguous(self) -> Segments:
        """The ambiguous intervals that the ground truth has."""
        return make_segments({name: as_entries(video.ambiguous) for name, video in self.truth.items()})

    @property
    def action_free(self) -> dict[str, float | None]:
        """Each video without any action -> its duration in seconds, None where it is not known."""
        return {n: video.duration or None for n, video in self.truth.items() if video.action_free}

    @property
    def num_scored(self) -> int:
        """How many detections in videos of the subset are not left out."""
        return sum(map(len, self.detections.values())) - sum(
            sum(counts.values()) for counts in (self.left_out.classes, self.left_out.action_free)
        )


def read_scored(
    truth_path: str | os.PathLike,
    prediction_paths: Sequence[str],
    subset: str,
    *,
    proposals: bool = False,
    strict: bool = False,
) -> Scored:
    """Reads a ground truth and predictions, and tells what of the predictions cannot be scored.

    Args:
        truth_path: ground truth in ActivityNet form.
        prediction_paths: detections in ActivityNet form.
        subset: the subset of the ground truth to score.
        proposals: whether labels do not matter. Then none is needed, and proposals in videos without any
            action are left out, since recall asks nothing of such videos.
        strict: whether to refuse videos and labels that the ground truth does not have in any subset.

    Returns:
        `Scored`.

    Raises:
        InputError: if a file cannot be read, the subset has no action, ``strict`` refuses something, or all
            detections are left out.
    """
    database = read_ground_truth(truth_path)
    subset_of(database, subset, path=truth_path)  # rejects a subset without any action
    chosen = {name: video for name, video in database.items() if video.subset == subset}
    truth = {name: video for name, video in chosen.items() if video.listed}
    predictions, other_videos = merge_predictions(
        prediction_paths,
        database,
        {a.label for video in database.values() for a in video.annotations},
        truth_path=str(truth_path),
        strict=strict,
        labelled=not proposals,
    )
    detections = {video: entries for video, entries in predictions.items() if video in truth}
    not_listed = {n: len(entries) for n, entries in predictions.items() if n in chosen and n not in truth}
    if strict and not_listed:
        raise InputError(
            f"{', '.join(prediction_paths)}: has video {next(iter(not_listed))!r}, of which {truth_path} has "
            "no list of annotations; expected annotated videos"
        )
    other_videos |= not_listed
    elsewhere = sum(len(entries) for n, entries in predictions.items() if n not in chosen)
    left_out = LeftOut(other_videos, *(_unscored(truth, detections, proposals)))
    scored = Scored(subset, database, truth, detections, elsewhere, left_out, proposals)
    if left_out.total and not (scored.num_scored or elsewhere):
        raise InputError(
            f"{', '.join(prediction_paths)}: has no detection that {truth_path} can tell right or wrong in "
            f"subset {subset!r}, {_example(left_out)}; expected some of its videos and classes"
        )
    return scored


def _unscored(
    truth: Mapping[str, AnnotatedVideo], detections: Mapping[str, Sequence[Mapping]], proposals: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """`LeftOut.classes` and `LeftOut.action_free`."""
    if proposals:
        free = {n: len(entries) for n, entries in detections.items() if entries and not truth[n].annotations}
        return {}, free
    known = {a.label for video in truth.values() for a in video.annotations}
    labels = collections.Counter(
        entry["label"]
        for name, entries in detections.items()
        if not truth[name].action_free  # in the others, each detection is a false alarm
        for entry in entries
    )
    return {label: count for label, count in sorted(labels.items()) if label not in known}, {}


def _example(left_out: LeftOut) -> str:
    """What is left out, by the first name of each kind."""
    kinds = zip(("video", "class", "action-free video"), left_out)
    return ", ".join(f"only such as of {kind} {next(iter(names))!r}" for kind, names in kinds if names)
