"""mAP, or average recall, of any ActivityNet-format prediction file.

python -m experiments.evaluate --ground_truth=gt.json --predictions=p.json --subset=test --tiou=0.1:0.7:0.1

Several files, such as the shards of `experiments.localize`, are merged: --predictions='p-*-of-00004.json'.
"""

import glob
import json
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from absl import flags

from case_jax.commands import cli
from case_jax.data.annotations import AnnotatedVideo, read_ground_truth, read_intervals, subset_of
from case_jax.data.dataset import as_entries
from case_jax.data.names import find_name
from case_jax.errors import InputError
from case_jax.evaluation.matching import Segments, make_segments
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.evaluation.protocols import Protocol, map_by_protocol
from case_jax.evaluation.recall import RecallCurve, average_recall
from case_jax.localization.detections import read_predictions
from case_jax.report.tables import format_table, map_table, per_class_table

def define_flags(given: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_string("ground_truth", None, "ground truth in ActivityNet form (gt.json)", flag_values=given)
    flags.DEFINE_string(
        "predictions", None, "detections in ActivityNet form: a file, or files and patterns like p-*.json, a,b,c", flag_values=given)
    flags.DEFINE_string("subset", "test", "subset of the ground truth to score", flag_values=given)
    flags.DEFINE_string("tiou", "0.1:0.7:0.1", 'tIoU thresholds, "first:last:step" or "a,b,c"', flag_values=given)
    flags.DEFINE_enum("metric", "map", ["map", "ar"], "detection mAP, or average recall whatever the labels", flag_values=given)
    flags.DEFINE_enum(
        "protocol", "activitynet", get_args(Protocol), "convention of mAP (case_jax/localization/protocols.py)", flag_values=given)
    flags.DEFINE_string("ambiguous", None, 'for the other protocols: text file of "video start end" lines', flag_values=given)
    flags.DEFINE_float("seconds_per_snippet", 16 / 25, "for the protocol wtalc: its grid", lower_bound=1e-6, flag_values=given)
    flags.DEFINE_float(
        "max_proposals", 100.0, "for the metric ar: most proposals per video, on average", lower_bound=1, flag_values=given)
    flags.DEFINE_boolean("json", False, "print one JSON object in place of tables", flag_values=given)


_PROTOCOLS = {
    "activitynet": "ActivityNet protocol",
    "thumos14": "THUMOS14's official protocol",
    "thumos14_kit": "THUMOS14's official protocol, matched as its Matlab kit does",
    "wtalc": "W-TALC's protocol",
}


def main(given: flags.FlagValues) -> None:
    """Runs the command."""
    truth_path = cli.require(given, "ground_truth", "the path of a ground-truth file")
    named = cli.require(given, "predictions", "the path of a prediction file")
    thresholds = cli.tiou_from_flags(given)
    for name in ("seconds_per_snippet", "max_proposals"):
        if not math.isfinite(given[name].value):
            raise InputError(f"--{name}: is {given[name].value}; expected a finite number")
    if given.ambiguous and (given.protocol == "activitynet" or given.metric == "ar"):
        raise InputError(
            "--ambiguous: is given; expected --metric=map and another --protocol than activitynet"
        )
    if given.protocol != "activitynet" and given.metric == "ar":
        raise InputError(f"--protocol: is {given.protocol}; expected activitynet with --metric=ar")

    database = read_ground_truth(truth_path)
    truth = subset_of(database, given.subset, path=truth_path)
    predictions = _predictions(_files(named), database, truth_path)
    scored = {video: entries for video, entries in predictions.items() if video in truth}
    truth_segments = make_segments({video: as_entries(annotations) for video, annotations in truth.items()})
    found = make_segments(scored)

    began = time.perf_counter()
    if given.metric == "ar":
        result = _recall(truth_segments, found, thresholds, named)
    else:
        result = _map(truth_segments, found, thresholds, database, truth_path)
    seconds = time.perf_counter() - began
    if given.json:
        print(json.dumps(_recall_as_json(result) if given.metric == "ar" else _as_json(result)))
        return
    if given.metric == "ar":
        print(_recall_table(result))
        how = "average recall as in ActivityNet's proposal task"
    else:
        print(per_class_table(result))
        print()
        print(map_table({given.subset: result}))
        how = _PROTOCOLS[given.protocol]
    instances, num_classes = sum(map(len, truth.values())), len({*truth_segments.label.tolist()})
    detections = sum(map(len, scored.values()))
    outside = sum(map(len, predictions.values())) - detections
    print(
        f"\n{len(truth)} videos of subset {given.subset!r} with {instances:,} instances of "
        f"{num_classes} classes; {detections:,} detections in {len(scored)} of these videos"
        + (f" ({outside:,} more in other subsets, not counted)" if outside else "")
        + f"; {how}, computed in {seconds:.2f} s"
    )


def _files(named: str) -> list[str]:
    """The files that --predictions names; what exists under a name is that file, whatever its name."""
    if os.path.exists(named):
        return [named]
    found: dict[str, str] = {}  # absolute path -> as it was named
    for part in named.split(","):
        files = [part]
        if not os.path.exists(part) and glob.has_magic(part):
            files = sorted(glob.glob(part))
            if not files:
                raise InputError(f"--predictions: {part!r} matches no file; expected prediction files")
        elif not part:
            raise InputError(f"--predictions: {named!r} has an empty name; expected files, a,b,c")
        for file in files:
            found.setdefault(os.path.abspath(file), file)
    if glob.has_magic(named) or len(found) > 1:
        _check_shards(found)
    return list(found.values())


def _check_shards(files: Mapping[str, str]) -> None:
    """Refuses sets of shards, name-00000-of-00004.json and so on, of which some are missing."""
    shards: dict[tuple[str, str, str], set[int]] = {}  # what is before, how many, what is after -> which
    for path, named in files.items():
        match = re.fullmatch(r"(.*-)(\d{5})-of-(\d{5})(.*)", Path(path).name)
        if match:
            before, index, count, after = match.groups()
            before = os.path.join(os.path.dirname(named), before)
            shards.setdefault((before, count, after), set()).add(int(index))
    for (before, count, after), there in shards.items():
        missing = [f"{i:05d}" for i in range(int(count)) if i not in there]
        if missing:
            shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
            raise InputError(
                f"--predictions: {before}*-of-{count}{after} lacks {shown}; expected all {int(count)} shards"
            )


def _predictions(
    paths: Sequence[str], database: Mapping[str, AnnotatedVideo], truth_path: str
) -> dict[str, list[dict]]:
    """Checked predictions of all files under the ground truth's names of videos."""
    labels = {a.label for video in database.values() for a in video.annotations}
    predictions: dict[str, list[dict]] = {}
    where: dict[str, str] = {}
    for path in paths:
        for name, entries in read_predictions(path).items():
            video = find_name(name, database)
            if video is None:
                raise InputError(f"{path}: has video {name!r}; expected videos of {truth_path}")
            if where.setdefault(video, path) != path:
                raise InputError(
                    f"{path}: has video {name!r}, as {where[video]} has; expected each video in one file"
                )
            if video in predictions:
                raise InputError(
                    f"{path}: has video {video!r} with and without the prefix v_; expected it once"
                )
            for entry in entries:
                if entry["label"] not in labels:
                    raise InputError(
                        f"{path}: video {name!r} has label {entry['label']!r}; expected one of the "
                        f"{len(labels)} labels of {truth_path}"
                    )
            predictions[video] = entries
    return predictions


def _map(
    truth: Segments,
    found: Segments,
    thresholds: Sequence[float],
    database: Mapping[str, AnnotatedVideo],
    truth_path: str,
) -> DetectionMap:
    ambiguous = make_segments(_ambiguous(database)) if given.ambiguous else None
    try:
        return map_by_protocol(
            given.protocol,
            truth,
            found,
            thresholds,
            ambiguous=ambiguous,
            seconds_per_snippet=given.seconds_per_snippet,
        )
    except ValueError:  # subset_of has seen some annotation
        raise InputError(
            f"{truth_path}: subset {given.subset!r} has only 'Ambiguous' annotations; expected others"
        ) from None


def _ambiguous(database: Mapping[str, AnnotatedVideo]) -> dict[str, list[dict]]:
    """The intervals of --ambiguous under the ground truth's names; those of other videos do not matter."""
    intervals = read_intervals(given.ambiguous)
    named = {find_name(video, database): entries for video, entries in intervals.items()}
    named.pop(None, None)
    if not named:
        raise InputError(
            f"{given.ambiguous}: names no video of the ground truth; expected some of its videos"
        )
    return named


def _recall(truth: Segments, found: Segments, thresholds: Sequence[float], path: str) -> RecallCurve:
    if not found.label.size:
        raise InputError(f"{path}: has no detection in subset {given.subset!r}; expected some")
    try:
        return average_recall(truth, found, thresholds, max_proposals=given.max_proposals)
    except ValueError:
        raise InputError(
            f"--max_proposals: is {given.max_proposals:g}; expected more, so that videos keep a proposal"
        ) from None


def _recall_table(result: RecallCurve) -> str:
    shown = [n for n in (1, 5, 10, 50, 100) if n <= result.num_proposals[-1]]
    header = ["recall (%)", *(f"AR@{n}" for n in shown), "area"]
    return format_table(
        [header, [given.subset, *(f"{100 * v:.2f}" for v in (*map(result.at, shown), result.area))]]
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
