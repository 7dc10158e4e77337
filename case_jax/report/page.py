"""`report.html`: one self-contained page about a run, with a browser of its videos.

It needs jinja2 (extra `plots`). The page loads nothing: its style, its script (`template/page.js`) and its
data (`page_data`) are in the file.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jinja2
import markupsafe
import numpy as np

from case_jax import __version__
from case_jax.data.dataset import Dataset
from case_jax.data.files import write_text_atomically
from case_jax.evaluation.error_analysis import (
    ERRORS,
    OUTCOMES,
    Bucket,
    ErrorAnalysis,
    analyse_errors,
    per_video_ap,
)
from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores
from case_jax.report import page_data
from case_jax.report.tables import map_rows, per_class_rows
from case_jax.runs.settings import SYNTHETIC, RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.state import TrainState

__all__ = ["write_report"]

_RATIOS = (1, 2, 3, 5, 10)  # rows of the profile of the surest detections


class _Bar(NamedTuple):
    """A cell with a bar behind its text."""

    text: str
    part: float  # of the cell's width, in [0, 1]


_Rows = Sequence[Sequence[str | _Bar]]


def write_report(
    workdir: Workdir,
    dataset: Dataset,
    state: TrainState,
    results: Mapping[str, DetectionMap],
    scores: VideoScores,
    detections: Mapping[str, Detections],
    *,
    seconds: float | None = None,
) -> Path:
    """Writes the report of a trained run into its workdir.

    Args:
        workdir: of the run.
        dataset: it was trained and tested on.
        state: whose scores and detections these are.
        results: table row -> mAP; the last one is that of ``state``.
        scores: of all test videos.
        detections: test video -> `Detections`.
        seconds: how long the training took, if that is known.

    Returns:
        The path of the report.

    Raises:
        InputError: if it cannot be written.
    """
    settings = workdir.settings()._replace(config=state.config)
    info, videos = dataset.info, dataset.test.videos
    scores = jax.tree.map(np.asarray, scores)
    title, best = list(results.items())[-1]
    truth = make_segments(dataset.test.ground_truth())
    found = detected_segments(detections, info.classes)
    durations = {video.name: video.seconds(info) for video in videos}
    errors = analyse_errors(truth, found, durations, tiou_thresholds=best.tiou.tolist())
    quality = per_video_ap(truth, found, best.tiou.tolist())
    clusters = []
    if scores.clusters is not None:
        clusters = page_data.clusters(np.asarray(state.cluster_labels), scores, videos, info)
    metrics = workdir.metrics()
    charts = page_data.curves(metrics, workdir.history())
    shown = page_data.videos(videos, scores, detections, quality, info)
    data = {
        "classes": info.classes,
        "samples": scores.attention.shape[1],
        "clusters": [cluster._asdict() for cluster in clusters],
        "charts": charts,
        "longest": max(video["seconds"] for video in shown),
        **_score_range(found.score, truth.label.size),
        "videos": shown,
    }
    page = _page().render(
        name=workdir.path.absolute().name,
        synthetic=settings.data == SYNTHETIC,
        facts=_facts(dataset, settings, state, seconds, trained=bool(metrics)),
        # A converted checkpoint has not been trained here, and none was chosen.
        map_rows=map_rows(results if metrics else {f"step {int(state.step):,}": best}),
        trained=bool(metrics),
        shown=len(shown),
        total=len(videos),
        best=title if metrics else f"step {int(state.step):,}",
        class_rows=per_class_rows(best),
        errors=errors,
        profile_rows=_profile_rows(errors),
        gain_rows=_gain_rows(errors),
        missed_rows=_missed_rows(errors),
        buckets_note=f" at tIoU {errors.tiou:g}; the bounds are DETAD's for {_BUCKETS[errors.buckets]}",
        cluster_rows=_cluster_rows(clusters),
        charts=[_in_words(chart) for chart in charts],
        settings=json.dumps(settings._replace(data=_data_name(settings)).as_json(), indent=1),
        version=__version__,
        data=_as_script(data),
    )
    write_text_atomically(workdir.report, page)
    return workdir.report


def _page() -> jinja2.Template:
    loader = jinja2.PackageLoader("case_jax.report", "template")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.globals |= {
        name: markupsafe.Markup(loader.get_source(environment, file)[0])
        for name, file in (("style", "page.css"), ("script", "page.js"))
    }
    return environment.get_template("page.html")


def _as_script(data: Mapping[str, Any]) -> markupsafe.Markup:
    """JSON that may stand in a <script>: nothing in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return markupsafe.Markup(text.replace("<", "\\u003c"))


def _facts(
    dataset: Dataset, settings: RunSettings, state: TrainState, seconds: float | None, *, trained: bool
) -> list[tuple[str, str]]:
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
    steps = f"{config.num_steps:,}, evaluated every {settings.eval_every:,}; shown: {int(state.step):,}"
    facts += [("Steps", steps), ("Seed", str(settings.seed))]
    if seconds is not None:
        facts.append(("Time", f"{seconds:.0f} s for the training command, on {jax.devices()[0].device_kind}"))
    return facts


def _data_name(settings: RunSettings) -> str | None:
    """The last part of the data's path: a page may be passed on, and the rest says where it was made."""
    return settings.data and Path(settings.data).name


def _score_range(scores: np.ndarray, num_instances: int) -> dict[str, float]:
    """The slider's range, and where it stands first: as many detections as there are actions."""
    if not scores.size:
        return {"lowest": 0.0, "highest": 1.0, "score": 0.0}
    surest = np.sort(scores)[::-1][: max(1, num_instances)]
    start = math.floor(100 * float(surest[-1])) / 100
    return {"lowest": float(scores.min()), "highest": float(scores.max()), "score": start}


def _profile_rows(errors: ErrorAnalysis) -> _Rows:
    rows: list[Sequence[str | _Bar]] = [["surest", *OUTCOMES, "detections"]]
    for ratio in _RATIOS:
        counts = errors.profile[ratio - 1]
        total = int(counts.sum())
        parts = [float(count) / max(1, total) for count in counts]
        rows.append([f"{ratio} G", *(_Bar(f"{100 * part:.1f}", part) for part in parts), f"{total:,}"])
    return rows


def _gain_rows(errors: ErrorAnalysis) -> _Rows:
    highest = max(1e-9, float(errors.gain.max()), float(errors.average_gain.max()))
    rows: list[Sequence[str | _Bar]] = [["error", f"at tIoU {errors.tiou:g}", "average over the tIoUs"]]
    for name, *gains in zip(ERRORS, errors.gain.tolist(), errors.average_gain.tolist()):
        rows.append([name, *(_Bar(f"{100 * gain:.2f}", gain / highest) for gain in gains)])
    return rows


_BUCKETS = {"thumos14": "THUMOS14", "activitynet": "ActivityNet"}


def _missed_rows(errors: ErrorAnalysis) -> _Rows:
    rows: list[Sequence[str | _Bar]] = [["by", "of", "missed", "actions"]]
    for title, buckets, unit in (
        ("length", errors.by_length, " s"),
        ("share of the video", errors.by_coverage, ""),
        ("actions in the video", errors.by_num_instances, ""),
    ):
        rows += [_missed_row(title, bucket, unit) for bucket in buckets if bucket.instances]
    total, missed = errors.num_instances, errors.num_missed
    rows.append(["all", "", _Bar(f"{100 * missed / total:.1f}", missed / total), f"{total:,}"])
    return rows


def _missed_row(title: str, bucket: Bucket, unit: str) -> Sequence[str | _Bar]:
    bounds = [f"above {bucket.lower:g}"] if bucket.lower else []
    bounds += [f"up to {bucket.upper:g}"] if math.isfinite(bucket.upper) else []
    part = bucket.missed / bucket.instances
    return [
        f"{title}, {bucket.name}",
        ", ".join(bounds) + unit,
        _Bar(f"{100 * part:.1f}", part),
        f"{bucket.instances:,}",
    ]


def _cluster_rows(clusters: Sequence[page_data.Cluster]) -> _Rows:
    if not clusters:
        return []
    rows: list[Sequence[str | _Bar]] = [["cluster", "foreground", "share (%)", "in actions (%)"]]
    largest = max(cluster.share for cluster in clusters)
    for cluster in clusters:
        acting = cluster.in_action
        rows.append(
            [
                str(cluster.number),
                _Bar(f"{cluster.foreground:.3f}", cluster.foreground),
                _Bar(f"{100 * cluster.share:.1f}", cluster.share / largest),
                "–" if acting is None else _Bar(f"{100 * acting:.1f}", acting),
            ]
        )
    return rows


def _in_words(chart: Mapping[str, Any]) -> str:
    """First and last values of a chart's curves, for whoever does not see them."""
    unit = f" {chart['unit']}" if chart["unit"] else ""
    curves = [
        f"{series['name']} from {series['points'][0][1]:.4g}{unit} at step {series['points'][0][0]:,} to "
        f"{series['points'][-1][1]:.4g}{unit} at step {series['points'][-1][0]:,}"
        for series in chart["series"]
        if series["points"]
    ]
    return f"{chart['title']}: {'; '.join(curves)}."
