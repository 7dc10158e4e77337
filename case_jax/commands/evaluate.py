"""Scores detections: mAP, or average recall, of any prediction file in ActivityNet form.

Where the ground truth has videos without any action, it tells false alarms per hour, too. Detections that the
ground truth cannot judge, for their video or their class, are left out and counted. `--oracles` also tells
what perfect scores, bounds, proposals or video labels would bring.

python -m experiments.evaluate --ground_truth=gt.json --predictions=p.json --subset=test --tiou=0.1:0.7:0.1

Several files, such as the shards of `case-jax localize`, are merged: --predictions='p-*-of-00004.json'.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from absl import flags

from case_jax.commands import cli
from case_jax.data.annotations import AnnotatedVideo, read_intervals
from case_jax.data.info import THUMOS14
from case_jax.data.names import find_name
from case_jax.errors import InputError
from case_jax.evaluation.false_alarms import FalseAlarms, false_alarms
from case_jax.evaluation.matching import Segments, make_segments
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.evaluation.oracles import oracle_maps
from case_jax.evaluation.protocols import PROTOCOLS, map_by_protocol
from case_jax.evaluation.recall import RecallCurve, average_recall
from case_jax.evaluation.scored import Scored, read_scored
from case_jax.localization.shards import find_files
from case_jax.report.tables import alarm_table, format_table, map_table, per_class_table
from case_jax.words import counted, plural

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
    flags.DEFINE_string(
        "alarm_scores",
        None,
        'scores at which false alarms per hour of action-free videos are told, "first:last:step" or "a,b,c"; '
        "default: those that find 10, 25, 50 and 75 % of the actions that are found at all",
        flag_values=given,
    )
    flags.DEFINE_boolean(
        "strict",
        False,
        "refuse predictions for videos or classes that the ground truth does not have, in place of leaving "
        "them out",
        flag_values=given,
    )
    flags.DEFINE_boolean(
        "oracles",
        False,
        "for the metric map: also what perfect video labels, bounds, proposals or scores would bring",
        flag_values=given,
    )
    flags.DEFINE_boolean("json", False, "print one JSON object in place of tables", flag_values=given)


def main(given: flags.FlagValues) -> None:
    """Scores the predictions and prints the tables, or JSON."""
    truth_path = cli.require(given, "ground_truth", "the path of a ground-truth file")
    named = cli.require(given, "predictions", "the path of a prediction file")
    thresholds = cli.tiou_from_flags(given)
    alarm_scores = _check_flags(given)
    scored = read_scored(
        truth_path, find_files(named), given.subset, proposals=given.metric == "ar", strict=given.strict
    )

    began = time.perf_counter()
    if given.metric == "ar":
        recall = _recall(given, scored, thresholds, named)
        as_json, tables = _recall_as_json(recall), [_recall_table(recall, given.subset)]
        how, unclear = "average recall as in ActivityNet's proposal task", "passed over"
    else:
        score = _scorer(given, scored, thresholds)
        result, alarms = score(scored.found), _false_alarms(scored, alarm_scores, truth_path)
        as_json = _as_json(result) | ({"false_alarms": _alarms_as_json(alarms)} if alarms else {})
        tables = [per_class_table(result), map_table({given.subset: result})]
        tables += [alarm_table(alarms)] if alarms else []
        if given.oracles:
            maps = oracle_maps(scored.instances, scored.found, score, as_found=result)
            as_json["oracles"] = {title: _means_as_json(one) for title, one in maps.items()}
            tables.append(map_table(maps))
        how, unclear = PROTOCOLS[given.protocol].title, PROTOCOLS[given.protocol].ambiguous
    seconds = time.perf_counter() - began
    if given.json:
        print(json.dumps(as_json | _notes_as_json(scored)))
        return
    print("\n\n".join(tables))
    print(f"\n{_population(scored)}; {how}, computed in {seconds:.2f} s")
    for note in _notes(scored, unclear):
        print(note)


def _check_flags(given: flags.FlagValues) -> tuple[float, ...] | None:
    """Rejects flags that are out of range or contradict each other; returns those of --alarm_scores."""
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
    if given.oracles and given.metric == "ar":
        raise InputError("--oracles: is given; expected --metric=map, since recall asks for no scores")
    if given.alarm_scores is None:
        return None
    if given.metric == "ar":
        raise InputError("--alarm_scores: is given; expected --metric=map, since proposals have no class")
    scores = cli.parse_numbers("alarm_scores", given.alarm_scores)
    if not all(map(math.isfinite, scores)):
        raise InputError(f"--alarm_scores: is {given.alarm_scores!r}; expected finite numbers")
    return scores


def _scorer(
    given: flags.FlagValues, scored: Scored, thresholds: Sequence[float]
) -> Callable[[Segments], DetectionMap]:
    """What scores detections by the protocol that is asked for."""
    intervals = _ambiguous(given.ambiguous, scored.database) if given.ambiguous else {}
    ambiguous = Segments(*map(np.concatenate, zip(scored.ambiguous, make_segments(intervals))))
    return lambda found: map_by_protocol(
        given.protocol,
        scored.instances,
        found,
        thresholds,
        ambiguous=ambiguous,
        seconds_per_snippet=given.seconds_per_snippet,
    )


def _ambiguous(path: str, database: Mapping[str, AnnotatedVideo]) -> dict[str, list[dict]]:
    """The ambiguous intervals under the ground truth's names; intervals of other videos do not matter."""
    named = {find_name(video, database): entries for video, entries in read_intervals(path).items()}
    known = {video: entries for video, entries in named.items() if video is not None}
    if not known:
        raise InputError(f"{path}: names no video of the ground truth; expected some of its videos")
    return known


def _false_alarms(scored: Scored, scores: Sequence[float] | None, truth_path: str) -> FalseAlarms | None:
    """False alarms in the videos without any action whose duration is known; None if there are none."""
    hours = {name: seconds / 3600 for name, seconds in scored.action_free.items() if seconds}
    if not hours:
        if scores is not None:
            raise InputError(
                f"--alarm_scores: is given, and {truth_path} has no action-free video of subset "
                f"{scored.subset!r} with a duration; expected some, with empty annotations"
            )
        return None
    return false_alarms(scored.instances, scored.found, hours, scores=scores)


def _recall(given: flags.FlagValues, scored: Scored, thresholds: Sequence[float], named: str) -> RecallCurve:
    if not scored.num_scored:
        raise InputError(f"{named}: has no detection in subset {given.subset!r}; expected some")
    try:
        return average_recall(scored.instances, scored.found, thresholds, max_proposals=given.max_proposals)
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


def _population(scored: Scored) -> str:
    """How many videos, instances, classes and detections there are."""
    instances = [a.label for video in scored.truth.values() for a in video.annotations]
    outside = f" ({scored.elsewhere:,} more in other subsets, not counted)" if scored.elsewhere else ""
    return (
        f"{counted(len(scored.truth), 'video')} of subset {scored.subset!r} with "
        f"{counted(len(instances), 'instance')} of {counted(len(set(instances)), 'class')}; "
        f"{counted(scored.num_scored, 'detection')} in {len(scored.detections):,} of "
        f"these videos{outside}"
    )


def _notes(scored: Scored, unclear: str) -> list[str]:
    """What else there is, and what is left out; ``unclear`` says what is done about ambiguous intervals."""
    notes = []
    if unknown := _num_without_duration(scored):
        notes.append(
            f"{counted(unknown, 'video')} without any action {'has' if unknown == 1 else 'have'} "
            "no duration in the ground truth: left out of false alarms per hour"
        )
    if ambiguous := scored.ambiguous.label.size:
        notes.append(f"{ambiguous:,} ambiguous {plural('interval', ambiguous)}, never a class: {unclear}")
    of_kind = {
        "in {} that the ground truth does not annotate": ("video", scored.left_out.videos),
        "of {} that this subset never has": ("class", scored.left_out.classes),
        "in {} without any action": ("video", scored.left_out.action_free),
    }
    for where, (kind, counts) in of_kind.items():
        if counts:
            total, names = sum(counts.values()), list(counts)
            named = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            place = where.format(counted(len(names), kind))
            notes.append(f"left out: {counted(total, 'detection')} {place} ({named})")
    return notes


def _num_without_duration(scored: Scored) -> int:
    """How many videos without any action do not count in the hours; recall asks nothing of such videos."""
    return 0 if scored.proposals else sum(seconds is None for seconds in scored.action_free.values())


def _notes_as_json(scored: Scored) -> dict:
    """As `_notes`; only what there is."""
    left_out = {kind: counts for kind, counts in scored.left_out._asdict().items() if counts}
    found = {
        "action_free_without_duration": _num_without_duration(scored),
        "ambiguous_intervals": scored.ambiguous.label.size,
        "left_out": left_out,
    }
    return {name: value for name, value in found.items() if value}


def _alarms_as_json(alarms: FalseAlarms) -> dict:
    arrays = {name: getattr(alarms, name).tolist() for name in ("score", "per_hour", "recall")}
    return alarms._asdict() | arrays


def _means_as_json(result: DetectionMap) -> dict:
    return {"map": result.per_tiou.tolist(), "average": result.average}


def _as_json(result: DetectionMap) -> dict:
    return {
        "tiou": result.tiou.tolist(),
        **_means_as_json(result),
        "per_class": dict(zip(result.classes, result.per_class.tolist())),
    }


def _recall_as_json(result: RecallCurve) -> dict:
    return {
        "tiou": result.tiou.tolist(),
        "num_proposals": result.num_proposals.tolist(),
        "average_recall": result.average.tolist(),
        "area": result.area,
    }
