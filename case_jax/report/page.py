"""`report.html`: one self-contained page about a run, with a browser of its videos.

It needs jinja2 (extra `plots`). The page loads nothing: its style, its scripts (`template/common.js` and
`template/page.js`) and its data (`page_data`) are in the file.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from case_jax.data.dataset import Dataset
from case_jax.data.files import write_text_atomically
from case_jax.evaluation.error_analysis import ErrorAnalysis, analyse_errors
from case_jax.evaluation.false_alarms import FalseAlarms
from case_jax.evaluation.health import Health
from case_jax.evaluation.matching import Segments, detected_segments, make_segments
from case_jax.evaluation.mean_average_precision import DetectionMap, detection_map
from case_jax.evaluation.oracles import oracle_maps
from case_jax.evaluation.per_video import per_video_ap
from case_jax.evaluator import false_alarms_of, health_of_scores
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores
from case_jax.report import page_data
from case_jax.report.page_rows import cluster_rows, gain_rows, missed_rows, profile_rows
from case_jax.report.standalone import render
from case_jax.report.tables import alarm_rows, map_rows, per_class_rows
from case_jax.runs.settings import SYNTHETIC, RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.state import TrainState

__all__ = ["write_page"]


def write_page(
    workdir: Workdir,
    dataset: Dataset,
    state: TrainState,
    results: Mapping[str, DetectionMap],
    scores: VideoScores,
    detections: Mapping[str, Detections],
    *,
    seconds: float | None = None,
) -> Path:
    """Writes the page about a run into its workdir.

    Args:
        workdir: folder of the run.
        dataset: the run was trained and tested on it.
        state: the state that gave the scores and detections.
        results: title -> mAP of a checkpoint; the last one is that of ``state``.
        scores: scores of all test videos.
        detections: test video -> `Detections`.
        seconds: how long the training took; None where that is not known.

    Returns:
        The path of the page.

    Raises:
        InputError: if the page cannot be written.
    """
    settings = workdir.settings()._replace(config=state.config)
    scores = jax.tree.map(np.asarray, scores)
    metrics = workdir.metrics()
    trained = bool(metrics)  # a converted checkpoint was not
    shown = _Shown(
        measured=_measure(dataset, detections, list(results.values())[-1]),
        clusters=_clusters(state, scores, dataset),
        charts=page_data.curves(metrics, workdir.history()),
    )
    data = _data(dataset, scores, detections, shown)
    health = health_of_scores(scores)
    page = render(
        "page.html",
        styles=["page.css"],
        scripts=["common.js", "page.js"],
        data=data,
        name=workdir.path.absolute().name,
        synthetic=settings.data == SYNTHETIC,
        facts=[*_facts(dataset, settings, state, seconds, trained=trained), *_health_fact(health)],
        trained=trained,
        keep=settings.keep,
        shown=len(data["videos"]),
        total=len(dataset.test.videos),
        **_map_tables(results, state, trained=trained),
        **_error_tables(shown.measured.errors),
        oracle_rows=map_rows(shown.measured.oracles),
        collapsed=None if health is None or not health.collapsed else health.in_words(),
        alarms=shown.measured.alarms,
        alarm_rows=alarm_rows(shown.measured.alarms) if shown.measured.alarms else [],
        cluster_rows=cluster_rows(shown.clusters),
        charts=[_in_words(chart) for chart in shown.charts],
        settings=json.dumps(settings._replace(data=_data_name(settings)).as_json(), indent=1),
    )
    write_text_atomically(workdir.report, page)
    return workdir.report


class _Measured(NamedTuple):
    """The detections as they were measured."""

    found: Segments
    num_instances: int  # annotated actions in the test videos
    errors: ErrorAnalysis
    oracles: dict[str, DetectionMap]  # the mAP as found, and with one thing perfect
    quality: dict[str, float]  # test video -> mean AP within it
    alarms: FalseAlarms | None  # None if every test video shows an action


class _Shown(NamedTuple):
    """What both the page's tables and its script show."""

    measured: _Measured
    clusters: list[page_data.Cluster]  # empty without clusters
    charts: list[dict]


def _measure(dataset: Dataset, detections: Mapping[str, Detections], result: DetectionMap) -> _Measured:
    thresholds = result.tiou.tolist()
    truth = make_segments(dataset.test.ground_truth())
    found = detected_segments(detections, dataset.info.classes)
    durations = {video.name: video.seconds(dataset.info) for video in dataset.test.videos}
    return _Measured(
        found,
        truth.label.size,
        analyse_errors(truth, found, durations, tiou_thresholds=thresholds),
        oracle_maps(truth, found, lambda other: detection_map(truth, other, thresholds), as_found=result),
        per_video_ap(truth, found, thresholds),
        false_alarms_of(dataset.test, dataset.info, detections),
    )


def _clusters(state: TrainState, scores: VideoScores, dataset: Dataset) -> list[page_data.Cluster]:
    if scores.clusters is None:
        return []
    return page_data.clusters(np.asarray(state.cluster_labels), scores, dataset.test.videos, dataset.info)


# What the script shows


def _data(
    dataset: Dataset, scores: VideoScores, detections: Mapping[str, Detections], shown: _Shown
) -> dict[str, Any]:
    measured = shown.measured
    videos = page_data.videos(dataset.test.videos, scores, detections, measured.quality, dataset.info)
    return {
        "classes": dataset.info.classes,
        "samples": scores.attention.shape[1],
        "clusters": [cluster.as_json() for cluster in shown.clusters],
        "charts": shown.charts,
        "longest": max(video["seconds"] for video in videos),
        **_score_range(measured.found.score, measured.num_instances),
        "videos": videos,
    }


def _score_range(scores: np.ndarray, num_instances: int) -> dict[str, float]:
    """Range and first position of the score's slider, which shows as many detections as there are actions."""
    if not scores.size:
        return {"lowest": 0.0, "highest": 1.0, "score": 0.0}
    surest = np.sort(scores)[::-1][: max(1, num_instances)]
    start = math.floor(100 * float(surest[-1])) / 100
    return {"lowest": float(scores.min()), "highest": float(scores.max()), "score": start}


# What the template shows


def _map_tables(results: Mapping[str, DetectionMap], state: TrainState, *, trained: bool) -> dict[str, Any]:
    """Tables of mAP. A run that was not trained here has no best checkpoint, only the one at some step."""
    title, best = list(results.items())[-1]
    if not trained:
        title = f"step {int(state.step):,}"
        results = {title: best}
    return {"map_rows": map_rows(results), "class_rows": per_class_rows(best), "best": title}


def _error_tables(errors: ErrorAnalysis) -> dict[str, Any]:
    data_set = {"thumos14": "THUMOS14", "activitynet": "ActivityNet"}[errors.buckets]
    return {
        "errors": errors,
        "profile_rows": profile_rows(errors),
        "gain_rows": gain_rows(errors),
        "missed_rows": missed_rows(errors),
        "buckets_note": f" at tIoU {errors.tiou:g}; the bounds are DETAD's for {data_set}",
    }


def _facts(
    dataset: Dataset, settings: RunSettings, state: TrainState, seconds: float | None, *, trained: bool
) -> list[tuple[str, str]]:
    """Title and text of each fact about the run."""
    info, config = dataset.info, state.config
    components = [name.upper() for name in ("scc", "ccc") if getattr(config, name)]
    if config.clustering_assisted_testing:
        components.append("clustering-assisted testing")
    widths = ", ".join(f"{name} ({width})" for name, width in settings.stream_widths.items())
    clusters = f", {config.num_clusters} clusters" if config.scc else ""
    facts = [
        ("Training", dataset.train.population),
        ("Test", dataset.test.population),
        ("Classes and streams", f"{len(info.classes)} classes; {widths}"),
        ("Components", ", ".join(components) or "none: the baseline"),
        (
            "Sampling",
            f"{config.num_snippets} snippets a video, {config.batch_size} videos a batch{clusters}",
        ),
        ("Data", _data_name(settings) or "not recorded"),
    ]
    if not trained:
        return [*facts, ("Steps", f"not trained here; a checkpoint of step {int(state.step):,}")]
    if settings.refinement is not None:
        second = settings.refinement.num_steps
        steps = f"{second:,} steps on the proposals of a first stage of {config.num_steps:,}"
        return [*facts, ("Second stage", steps), ("Seed", str(settings.seed))]
    steps = f"{config.num_steps:,}, evaluated every {settings.eval_every:,}; shown: {int(state.step):,}"
    facts += [("Steps", steps), ("Seed", str(settings.seed))]
    if seconds is not None:
        facts.append(("Time", f"{seconds:.0f} s for the training command, on {jax.devices()[0].device_kind}"))
    return facts


def _health_fact(health: Health | None) -> list[tuple[str, str]]:
    if health is None:
        return []
    text = (
        f"separation {health.separation:.2f}, agreement {health.agreement:.3f}; "
        f"{100 * health.foreground:.0f} % of the snippets foreground; highest score of a video "
        f"{health.certainty:.2f} on average"
    )
    return [("Health, without annotations", text)]


def _data_name(settings: RunSettings) -> str | None:
    """The last part of the data's path. A page may be passed on, and need not tell where it was made."""
    return settings.data and Path(settings.data).name


def _in_words(chart: Mapping[str, Any]) -> str:
    """The first and last values of a chart's curves, for readers who do not see the chart."""
    unit = f" {chart['unit']}" if chart["unit"] else ""
    curves = [
        f"{series['name']} from {series['points'][0][1]:.4g}{unit} at step {series['points'][0][0]:,} to "
        f"{series['points'][-1][1]:.4g}{unit} at step {series['points'][-1][0]:,}"
        for series in chart["series"]
        if series["points"]
    ]
    return f"{chart['title']}: {'; '.join(curves)}."
