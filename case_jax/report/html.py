"""`report.html`: one self-contained page about a run. Needs jinja2 and matplotlib (extra `plots`)."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jinja2
import markupsafe

from case_jax import __version__
from case_jax.data.dataset import Dataset
from case_jax.data.files import write_text_atomically
from case_jax.evaluation import predict, score_split
from case_jax.localization.detection_map import DetectionMap
from case_jax.report.figures import as_svg, curves, timeline
from case_jax.report.tables import map_rows, per_class_rows
from case_jax.training import TrainState
from case_jax.workdir import Workdir

__all__ = ["write_report"]

_TEMPLATE = jinja2.Template(
    """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>CASE run {{ name }}</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1rem auto; max-width: 62rem; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .6rem; text-align: right } th:first-child, td:first-child { text-align: left }
thead { border-bottom: 1px solid } .wide { overflow-x: auto }
figure { margin: 1rem 0; background: white; overflow-x: auto } svg { max-width: 100%; height: auto }
.note { border-left: 4px solid #D55E00; padding-left: .7rem }
</style></head><body>
<h1>CASE run {{ name }}</h1>
{% if synthetic %}<p class="note"><strong>Synthetic data.</strong> The features were generated; these figures
say nothing about real video.</p>{% endif %}
{% for line in facts %}<p>{{ line }}</p>{% endfor %}
<h2>Detection mAP</h2>
{{ table(map_rows) }}
<p>"best" was chosen by its average mAP on the test videos, as published results are; "last" was not
chosen.</p>
<h2>Per class, {{ best }}</h2>
{{ table(class_rows) }}
{% if curves %}<h2>Training</h2>
<figure role="img" aria-label="Losses and average mAP over steps">{{ curves }}</figure>{% endif %}
<h2>Videos</h2>
<p>The {{ timelines|length }} test videos with the most annotated instances. Darker detections are surer.</p>
{% for title, svg in timelines %}
<figure role="img" aria-label="Foreground probabilities, ground truth and detections of {{ title }}">
{{ svg }}</figure>
{% endfor %}
<h2>Settings</h2>
<details><summary>All settings</summary><pre>{{ settings }}</pre></details>
</body></html>
""",
    autoescape=True,
)
_TABLE = jinja2.Template(
    """<div class="wide"><table><thead><tr>{% for cell in rows[0] %}<th scope="col">{{ cell }}</th>
{% endfor %}</tr></thead><tbody>{% for row in rows[1:] %}<tr>{% for cell in row %}<td>{{ cell }}</td>
{% endfor %}</tr>{% endfor %}</tbody></table></div>""",
    autoescape=True,
)


def write_report(
    workdir: Workdir,
    dataset: Dataset,
    state: TrainState,
    results: Mapping[str, DetectionMap],
    *,
    seconds: float,
    synthetic: bool = False,
    num_videos: int = 6,
) -> Path:
    """Writes the report of a trained run into its workdir.

    Args:
        workdir: of the run.
        dataset: it was trained and tested on.
        state: whose foreground probabilities and detections are drawn.
        results: table row -> mAP; the last one is shown per class.
        seconds: how long the command took, 0 if nothing was trained.
        synthetic: whether to say that the data is synthetic.
        num_videos: how many test videos to draw.

    Returns:
        The path of the report.
    """
    settings = workdir.settings()._replace(config=state.config)
    videos = sorted(dataset.test.videos, key=lambda v: -len(v.annotations))[:num_videos]
    scores = score_split(state, videos)
    predictions = predict(state, videos, dataset.info)["results"]
    timelines = [
        (
            video.name,
            _markup(
                timeline(
                    video,
                    jax.tree.map(lambda array, row=row: array[row], scores),
                    predictions[video.name],
                    dataset.info,
                )
            ),
        )
        for row, video in enumerate(videos)
    ]
    best_title, best = list(results.items())[-1]
    rows = workdir.metrics()  # none where a checkpoint was converted, not trained
    page = _TEMPLATE.render(
        name=workdir.path.name,
        synthetic=synthetic,
        facts=_facts(dataset, settings.seed, seconds),
        table=_table,
        map_rows=map_rows(results),
        class_rows=per_class_rows(best),
        best=best_title,
        curves=_markup(curves(rows)) if rows else None,
        timelines=timelines,
        settings=json.dumps(settings.as_json(), indent=1),
    )
    write_text_atomically(workdir.report, page)
    return workdir.report


def _facts(dataset: Dataset, seed: int, seconds: float) -> list[str]:
    populations = "; ".join(
        f"{title}: {split.population}"
        for title, split in (("training", dataset.train), ("test", dataset.test))
    )
    info = dataset.info
    return [
        f"{populations}; {len(info.classes)} classes; streams {', '.join(info.streams)}.",
        f"Seed {seed}; {seconds:.0f} s for the command that wrote this; case_jax {__version__}.",
    ]


def _table(rows: list[list[str]]) -> markupsafe.Markup:
    return _safe(_TABLE.render(rows=rows))


def _markup(figure) -> markupsafe.Markup:
    return _safe(as_svg(figure))


def _safe(html: str) -> markupsafe.Markup:
    """Marks our own markup as not to be escaped."""
    return markupsafe.Markup(html)
