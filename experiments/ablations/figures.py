"""Figures 3 to 7 of the paper."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from matplotlib.figure import Figure

from case_jax.evaluation.matching import make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.localization.detections import to_activitynet
from case_jax.method.scores import VideoScores
from case_jax.report.figures import timeline, timeline_height
from experiments.ablations import clusters, embeddings
from experiments.ablations.comparison import Cell, Column, Comparison, Row
from experiments.ablations.drawing import (
    EmbeddingPanel,
    GalleryRow,
    cluster_gallery,
    embedding_maps,
    spread_curves,
)
from experiments.ablations.item import Item
from experiments.ablations.options import Options
from experiments.ablations.runs import Laboratory
from experiments.ablations.tables import MapRow, averages, claim, compare, seeds
from experiments.ablations.variants import BASELINE, CLUSTERS, FULL, NO_PRIOR, WITH_CCC, Variant, of_clusters

__all__ = ["FIGURES"]


# Figure 3


def _figure_3(lab: Laboratory, options: Options) -> Item:
    """Average mAP over the number of clusters."""
    del options
    title = "Figure 3: number of clusters"
    points = {k: MapRow(of_clusters(k), f"K = {k}", {"avg": 46.2} if k == 16 else {}) for k in CLUSTERS}
    baseline = MapRow(BASELINE, "baseline", {"avg": 42.1})
    table = compare(lab, title, [baseline, *points.values()])._replace(
        claims=(
            claim(lab, baseline, points[2])._replace(text="K = 2 below baseline"),
            *(claim(lab, points[k], points[2]) for k in CLUSTERS if k >= 16),
        )
    )
    figure = spread_curves(
        {"CASE": (CLUSTERS, np.array([averages(lab, row.variant) for row in points.values()]).T)},
        lines={"baseline": float(np.mean(averages(lab, BASELINE)))},
        xlabel="number of clusters K",
        ylabel=f"average mAP (%), {lab.data_name}",
        title=title,
        log_base=2,
    )
    return Item(table, figure)


# Figure 4

Curve = tuple[np.ndarray, np.ndarray]  # (M,) steps, (seeds, M) values


def _figure_4(lab: Laboratory, options: Options) -> Item:
    """Entropies of labels over training."""
    del options
    lab.train([FULL, NO_PRIOR])
    curves = {
        "H(Q^C)": lab.history(FULL, "entropy_clusters"),
        f"H(Q^S), Eq. (12), sigma = {lab.base.config.sigma:g}": lab.history(FULL, "entropy_snippets"),
        "H(Q^S), Eq. (10)": lab.history(NO_PRIOR, "entropy_snippets"),
    }
    title = "Figure 4: entropy of labels over training"
    upper = float(np.log(lab.base.config.num_clusters))
    figure = spread_curves(
        curves,
        lines={"ln K": upper},
        xlabel="training step",
        ylabel="entropy (nats)",
        title=title,
        markers=False,
    )
    data = {
        name: {"steps": steps.tolist(), "values": values.tolist()} for name, (steps, values) in curves.items()
    }
    return Item(_entropies(lab, curves, title, upper), figure, data)


def _entropies(lab: Laboratory, curves: Mapping[str, Curve], title: str, upper: float) -> Comparison:
    """The curves' values at the first, the middle and the last step."""
    steps = next(iter(curves.values()))[0]
    at = [0, (len(steps) - 1) // 2, len(steps) - 1]
    return Comparison(
        title,
        tuple(Column(f"step {steps[i]:,}", 3) for i in at),
        tuple(
            Row(name, tuple(Cell(tuple(values[:, i].tolist())) for i in at))
            for name, (_, values) in curves.items()
        ),
        (
            "Mean entropy of a label in nats, over the steps since the value before; uniform labels of "
            f"snippets have ln K = {upper:.2f}, those of clusters ln 2 = 0.69.",
            f"{seeds(lab).capitalize()}.",
        ),
    )


# Figure 5


class _Tested(NamedTuple):
    """The test videos as one model finds them with one foreground probability."""

    scores: VideoScores
    found: dict[str, list[dict]]  # video -> detections in the ActivityNet format
    quality: dict[str, float]  # video -> average mAP within it, in [0, 1]


def _figure_5(lab: Laboratory, options: Options) -> Item:
    """Timelines of videos, and how much P^M gains there over P^A."""
    lab.train([FULL])
    attention, mixed = _test_videos(lab, WITH_CCC), _test_videos(lab, FULL)
    gain = {name: quality - attention.quality[name] for name, quality in mixed.quality.items()}
    most = sorted(gain, key=lambda name: gain[name], reverse=True)
    names = list(options.videos) or most[: options.num_videos]
    shown = "videos as asked for." if options.videos else "the videos that P^M gains most on."
    table = Comparison(
        "Figure 5: foreground probabilities, ground truth and detections",
        (Column("P^A"), Column("P^M"), Column("gain")),
        tuple(
            Row(
                name,
                tuple(Cell((100 * v,)) for v in (attention.quality[name], mixed.quality[name], gain[name])),
            )
            for name in names
        ),
        (
            f"Average mAP in % within each video, seed {lab.seeds[0]}, last step; {shown} "
            f"Of all {len(gain)} test videos P^M gains in {sum(g > 0 for g in gain.values())} and loses "
            f"in {sum(g < 0 for g in gain.values())}.",
        ),
    )
    return Item(table, _timelines(lab, mixed, names))


def _test_videos(lab: Laboratory, variant: Variant) -> _Tested:
    """Tests the first seed's last checkpoint, video by video."""
    state = lab.state(variant, lab.seeds[0])
    scores = lab.evaluator.score(state, foreground=variant.foreground)
    detections = lab.evaluator.localize(scores, state).detections()
    found = to_activitynet(detections, lab.dataset.info.classes)["results"]
    quality = {
        name: detection_map(
            make_segments({name: truth}), make_segments({name: found.get(name, [])}), lab.base.tiou
        ).average
        for name, truth in lab.dataset.test.ground_truth().items()
    }
    return _Tested(scores, found, quality)


def _timelines(lab: Laboratory, tested: _Tested, names: Sequence[str]) -> Figure:
    """The timelines of the named videos, one below the other."""
    rows = {video.name: row for row, video in enumerate(lab.dataset.test.videos)}
    videos = [lab.dataset.test.videos[rows[name]] for name in names]
    heights = [
        timeline_height(
            len({a.label for a in video.annotations} | {d["label"] for d in tested.found[video.name]})
        )
        for video in videos
    ]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    parts = np.atleast_1d(figure.subfigures(len(videos), 1, height_ratios=heights))
    for part, video in zip(parts, videos):
        row = rows[video.name]
        of_video = jax.tree.map(lambda array, row=row: np.asarray(array[row]), tested.scores)
        timeline(video, of_video, tested.found[video.name], lab.dataset.info, figure=part)
    return figure


# Figure 6


def _figure_6(lab: Laboratory, options: Options) -> Item:
    """Clusters, and the test snippets that belong to each most."""
    lab.train([FULL])
    seed = lab.seeds[0]
    state = lab.state(FULL, seed)
    rows = clusters.gallery(
        lab.evaluator.score(state), state.cluster_labels, lab.dataset, frames=options.frames
    )
    title = "Figure 6: clusters and the snippets that belong to them most"
    data = {f"cluster {row.cluster}": _gallery_data(row) for row in rows}
    return Item(
        _gallery_table(rows, title, seed), cluster_gallery(rows, title=f"{title} (seed {seed})"), data
    )


def _gallery_table(rows: Sequence[GalleryRow], title: str, seed: int) -> Comparison:
    """The clusters, the surest foreground first."""
    ranked = sorted(rows, key=lambda row: -row.foreground)
    return Comparison(
        title,
        (Column("foreground", 2), Column("share (%)"), Column("truly foreground (%)")),
        tuple(
            Row(
                f"cluster {row.cluster}",
                (
                    Cell((row.foreground,)),
                    Cell((100 * row.hard_share,)),
                    None if np.isnan(row.purity) else Cell((100 * row.purity,)),
                ),
            )
            for row in ranked
        ),
        (
            "foreground: Q^C of the last step; share: of the test snippets, by their most probable cluster; "
            f"truly foreground: how many of these lie in an annotated action. Seed {seed}.",
            *(
                f"cluster {row.cluster}: "
                + "; ".join(f"{m.video} {m.second:.1f} s (P^S {m.probability:.2f})" for m in row.members)
                for row in ranked
            ),
        ),
    )


def _gallery_data(row: GalleryRow) -> dict[str, Any]:
    """A cluster as JSON."""
    return {
        "cluster": row.cluster,
        "foreground": row.foreground,
        "share": row.hard_share,
        "purity": None if np.isnan(row.purity) else row.purity,
        "members": [member._replace(frame=None)._asdict() for member in row.members],
    }


# Figure 7


def _figure_7(lab: Laboratory, options: Options) -> Item:
    """Embeddings of snippets in the plane, of the baseline and of CASE."""
    lab.train([BASELINE, FULL])
    seed = lab.seeds[0]
    features, foreground = embeddings.draw_snippets(lab.dataset, options.num_points)
    panels = [
        embeddings.maps(lab.state(variant, seed), features, foreground, name=variant.name)
        for variant in (BASELINE, FULL)
    ]
    title = "Figure 7: embeddings of snippets and prototypes of clusters (t-SNE)"
    flat = [panel for row in panels for panel in row]
    figure = embedding_maps(panels, title=f"{title}, {lab.data_name}, seed {seed}")
    return Item(
        _embedding_table(flat, title, seed), figure, {panel.title: _panel_data(panel) for panel in flat}
    )


def _embedding_table(panels: Sequence[EmbeddingPanel], title: str, seed: int) -> Comparison:
    return Comparison(
        title,
        (Column("snippets", 0), Column("foreground (%)"), Column("same kind nearby (%)")),
        tuple(
            Row(
                panel.title,
                (
                    Cell((len(panel.snippets),)),
                    Cell((100 * float(panel.foreground.mean()),)),
                    Cell((100 * panel.agreement,)),
                ),
            )
            for panel in panels
        ),
        (
            f"Test snippets drawn at random, seed {seed}, last step. Same kind nearby: how many of a "
            "snippet's 10 nearest neighbours by cosine are foreground or background as it is, mean of both "
            "kinds; 50 % is chance.",
        ),
    )


def _panel_data(panel: EmbeddingPanel) -> dict[str, Any]:
    """A panel's points as JSON."""
    return {
        "snippets": panel.snippets.tolist(),
        "foreground": panel.foreground.tolist(),
        "prototypes": panel.prototypes.tolist(),
        "prototype_foreground": panel.prototype_foreground.tolist(),
    }


FIGURES: Mapping[int, Callable[[Laboratory, Options], Item]] = {
    3: _figure_3,
    4: _figure_4,
    5: _figure_5,
    6: _figure_6,
    7: _figure_7,
}
