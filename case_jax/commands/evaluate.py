"""Scores detections: mAP, or average recall, of any prediction file in ActivityNet form.

python -m experiments.evaluate --ground_truth=gt.json --predictions=p.json --subset=test --tiou=0.1:0.7:0.1

Several files, such as the shards of `case-jax localize`, are merged: --predictions='p-*-of-00004.json'.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from absl import flags

from case_jax.commands import cli
from case_jax.data.annotations import AnnotatedVideo, read_ground_truth, read_intervals, subset_of
from case_jax.data.dataset import Annotation, as_entries
from case_jax.data.info import THUMOS14
from case_jax.data.names import find_name
from case_jax.errors import InputError
from case_jax.evaluation.matching import Segments, make_segments
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.evaluation.protocols import PROTOCOLS, map_by_protocol
from case_jax.evaluation.recall import RecallCurve, average_recall
from case_jax.localization.shards import find_files, merge_predictions
from case_jax.report.tables import format_table, map_table, per_class_table

__all__ = ["define_flags", "main"]


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("ground_truth", None, "ground truth in ActivityNet form (gt.json)", flag_values=given)
    flags.DEFINE_string(
        "predictions",
        None,
        "detections in ActivityNet form: a file, or files and patterns like p-*.json, a,b,c",
        flag_values=given,
    )
    flags.DEFINE_string("subset", "test", "subset of the ground truth to score", flag_values=given)
    flags.DEFINE_string(
        "tiou", "0.1:0.7:0.1", 'tIoU thresholds, "first:last:step" or "a,b,c"', flag_values=given
    )
    flags.DEFINE_enum(
        "metric",
        "map",
        ["map", "ar"],
        "detection mAP, or average recall whatever the labels",
        flag_values=given,
    )
    flags.DEFINE_enum(
        "protocol",
        "activitynet",
        list(PROTOCOLS),
        "convention of mAP (case_jax/evaluation/protocols.py)",
        flag_values=given,
    )
    flags.DEFINE_string(
        "ambiguous", None, 'for the other protocols: text file of "video start end" lines', flag_values=given
    )
    flags.DEFINE_float(
        "seconds_per_snippet",
        THUMOS14.seconds_per_snippet,
        "for the protocol wtalc: its grid",
        lower_bound=1e-6,
        flag_values=given,
    )
    flags.DEFINE_float(
        "max_proposals",
        100.0,
        "for the metric ar: most proposals per video, on average",
        lower_bound=1,
        flag_values=given,
    )
    flags.DEFINE_boolean("json", False, "print one JSON object in place of tables", flag_values=given)


class _Scored(NamedTuple):
    """A subset of the ground truth, and the detections in its videos."""

    database: Mapping[str, AnnotatedVideo]  # all subsets
    truth: Mapping[str, Sequence[Annotation]]  # of the subset
    detections: Mapping[str, Sequence[Mapping]]  # in videos of the subset
    outside: int  # detections in videos of other subsets

    @property
    def instances(self) -> Segments:
        """The annotated actions."""
        return make_segments({video: as_entries(found) for video, found in self.truth.items()})

    @property
    def found(self) -> Segments:
        """The detections."""
        return make_segments(self.detections)


def main(given: flags.FlagValues) -> None:
    """Scores the predictions and prints the tables, or JSON."""
    truth_path = cli.require(given, "ground_truth", "the path of a ground-truth file")
    named = cli.require(given, "predictions", "the path of a prediction file")
    thresholds = cli.tiou_from_flags(given)
    _check_flags(given)
    scored = _read(given, truth_path, named)

    began = time.perf_counter()
    if given.metric == "ar":
        recall = _recall(given, scored, thresholds, named)
        as_json, table = _recall_as_json(recall), _recall_table(recall, given.subset)
        how = "average recall as in ActivityNet's proposal task"
    else:
        result = _map(given, scored, thresholds, truth_path)
        as_json = _as_json(result)
        table = f"{per_class_table(result)}\n\n{map_table({given.subset: result})}"
        how = PROTOCOLS[given.protocol].title
    seconds = time.perf_counter() - began
    if given.json:
        print(json.dumps(as_json))
        return
    print(table)
    print(f"\n{_population(given.subset, scored)}; {how}, computed in {seconds:.2f} s")


def _check_flags(given: flags.FlagValues) -> None:
    """Rejects flags that are out of range or contradict each other."""
    for name in ("seconds_per_snippet", "max_proposals"):
        value = getattr(given, name)
        if not math.isfinite(value):
            raise InputError(f"--{name}: is {value}; expected a finite number")
    if given.ambiguous and (given.protocol == "activitynet" or given.metric == "ar"):
        raise InputError(
            "--ambiguous: is given; expected --metric=map and another --protocol than activitynet"
        )
    if given.protocol != "activitynet" and given.metric == "ar":
        raise InputError(f"--protocol: is {given.protocol}; expected activitynet with --metric=ar")


def _read(given: flags.FlagValues, truth_path: str, named: str) -> _Scored:
    database = read_ground_truth(truth_path)
    truth = subset_of(database, given.subset, path=truth_path)
    labels = {a.label for video in database.values() for a in video.annotations}
    predictions = merge_predictions(find_files(named), database, labels, truth_path=truth_path)
    detections = {video: entries for video, entries in predictions.items() if video in truth}
    outside = sum(map(len, predictions.values())) - sum(map(len, detections.values()))
    return _Scored(database, truth, detections, outside)


def _map(
    given: flags.FlagValues, scored: _Scored, thresholds: Sequence[float], truth_path: str
) -> DetectionMap:
    ambiguous = make_segments(_ambiguous(given.ambiguous, scored.database)) if given.ambiguous else None
    try:
        return map_by_protocol(
            given.protocol,
            scored.instances,
            scored.found,
            thresholds,
            ambiguous=ambiguous,
            seconds_per_snippet=given.seconds_per_snippet,
        )
    except ValueError:  # the subset has annotations, as `subset_of` has seen
        raise InputError(
            f"{truth_path}: subset {given.subset!r} has only 'Ambiguous' annotations; expected others"
        ) from None


def _ambiguous(path: str, database: Mapping[str, AnnotatedVideo]) -> dict[str, list[dict]]:
    """The ambiguous intervals under the ground truth's names; intervals of other videos do not matter."""
    named = {find_name(video, database): entries for video, entries in read_intervals(path).items()}
    known = {video: entries for video, entries in named.items() if video is not None}
    if not known:
        raise InputError(f"{path}: names no video of the ground truth; expected some of its videos")
    return known


def _recall(given: flags.FlagValues, scored: _Scored, thresholds: Sequence[float], named: str) -> RecallCurve:
    found = scored.found
    if not found.label.size:
        raise InputError(f"{named}: has no detection in subset {given.subset!r}; expected some")
    try:
        return average_recall(scored.instances, found, thresholds, max_proposals=given.max_proposals)
    except ValueError:
        raise InputError(
            f"--max_proposals: is {given.max_proposals:g}; expected more, so that videos keep a proposal"
        ) from None


def _recall_table(result: RecallCurve, subset: str) -> str:
    shown = [n for n in (1, 5, 10, 50, 100) if n <= result.num_proposals[-1]]
    header = ["recall (%)", *(f"AR@{n}" for n in shown), "area"]
    return format_table(
        [header, [subset, *(f"{100 * v:.2f}" for v in (*map(result.at, shown), result.area))]]
    )


def _population(subset: str, scored: _Scored) -> str:
    """How many videos, instances, classes and detections there are."""
    instances = sum(map(len, scored.truth.values()))
    num_classes = len({a.label for annotations in scored.truth.values() for a in annotations})
    detections = sum(map(len, scored.detections.values()))
    outside = f" ({scored.outside:,} more in other subsets, not counted)" if scored.outside else ""
    return (
        f"{len(scored.truth)} videos of subset {subset!r} with {instances:,} instances of {num_classes} "
        f"classes; {detections:,} detections in {len(scored.detections)} of these videos{outside}"
    )


def _as_json(result: DetectionMap) -> dict:
    return {
        "tiou": result.tiou.tolist(),
        "map": result.per_tiou.tolist(),
        "average": result.average,
        "per_class": dict(zip(result.classes, result.per_class.tolist())),
    }


def _recall_as_json(result: RecallCurve) -> dict:
    return {
        "tiou": result.tiou.tolist(),
        "num_proposals": result.num_proposals.tolist(),
        "average_recall": result.average.tolist(),
        "area": result.area,
    }
