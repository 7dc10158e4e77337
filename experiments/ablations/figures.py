"""Figures 3 to 7 of the paper."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from case_jax.data.dataset import Dataset
from case_jax.errors import InputError
from case_jax.evaluation.matching import make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.localization.detections import to_activitynet
from case_jax.report.figures import save_figure, timeline, timeline_height
from experiments.ablations import clusters, embeddings
from experiments.ablations.comparison import Cell, Column, Comparison, Row, as_text, write_table
from experiments.ablations.drawing import cluster_gallery, embedding_maps, spread_curves
from experiments.ablations.runs import Laboratory
from experiments.ablations.tables import MapRow, averages, claim, compare, seeds
from experiments.ablations.variants import BASELINE, CLUSTERS, FULL, NO_PRIOR, WITH_CCC, of_clusters

__all__ = ["FIGURES", "Item", "Options", "write"]


class Options(NamedTuple):
    """What can be chosen about Figures 5 to 7."""

    videos: tuple[str, ...] = ()  # of Figure 5; none: those that gain most
    num_videos: int = 2  # of Figure 5, if none is named
    frames: clusters.Frames | None = None  # of Figure 6
    num_points: int = 2000  # of Figure 7

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        videos: Sequence[str],
        num_videos: int,
        frames_dir: str | None,
        frames_rate: float | None,
        num_points: int,
    ) -> "Options":
        """Options from the flags of the same names.

        Raises:
            InputError: if a video is no test video, or one has no frames.
        """
        names = [video.name for video in dataset.test.videos]
        for video in videos:
            if video not in names:
                raise InputError(f"--videos: {video!r} is no test video; expected names such as {names[0]!r}")
        frames = None
        if frames_dir is not None:
            rate = frames_rate or dataset.info.frames_per_second
            frames = clusters.Frames(frames_dir, names, frames_per_second=rate)
        return cls(tuple(dict.fromkeys(videos)), num_videos, frames, num_points)


class Item(NamedTuple):
    """What is printed and written."""

    table: Comparison
    figure: Figure | None = None
    data: Mapping[str, Any] | None = None  # what the figure draws, where that is more than the table


def write(item: Item, stem: Path) -> tuple[str, list[Path]]:
    """Writes ``stem``.md, .csv and .json of the table, .png and .svg of the figure.

    Returns:
        The table as text, and the paths.

    Raises:
        InputError: if the folder cannot be written to.
    """
    paths = write_table(item.table, stem, data=item.data)
    if item.figure is not None:
        paths += save_figure(item.figure, stem)
    return as_text(item.table), paths


def _figure_3(lab: Laboratory, options: Options) -> Item:
    del options
    rows = [MapRow(BASELINE, "baseline", {"avg": 42.1})]
    rows += [MapRow(of_clusters(k), f"K = {k}", {"avg": 46.2} if k == 16 else {}) for k in CLUSTERS]
    title = "Figure 3: number of clusters"
    table = compare(lab, title, rows)
    points = {row.title: row for row in rows}
    more = [k for k in CLUSTERS if k >= 16]
    table = table._replace(
        claims=(
            claim(lab, points["baseline"], points["K = 2"])._replace(text="K = 2 below baseline"),
            *(claim(lab, points[f"K = {k}"], points["K = 2"]) for k in more),
        )
    )
    values = np.array([averages(lab, row.variant) for row in rows[1:]]).T
    baseline = float(np.mean(averages(lab, BASELINE)))
    figure = spread_curves(
        {"CASE": (CLUSTERS, values)},
        lines={"baseline": baseline},
        xlabel="number of clusters K",
        ylabel=f"average mAP (%), {lab.data_name}",
        title=title,
        log_base=2,
    )
    return Item(table, figure)


def _figure_4(lab: Laboratory, options: Options) -> Item:
    del options
    lab.train([FULL, NO_PRIOR])
    curves = {
        "H(Q^C)": lab.history(FULL, "entropy_clusters"),
        f"H(Q^S), Eq. (12), sigma = {lab.base.config.sigma:g}": lab.history(FULL, "entropy_snippets"),
        "H(Q^S), Eq. (10)": lab.history(NO_PRIOR, "entropy_snippets"),
    }
    upper = float(np.log(lab.base.config.num_clusters))
    title = "Figure 4: entropy of labels over training"
    figure = spread_curves(
        curves,
        lines={"ln K": upper},
        xlabel="training step",
        ylabel="entropy (nats)",
        title=title,
        markers=False,
    )
    rows = []
    for name, (steps, values) in curves.items():
        at = [0, (len(steps) - 1) // 2, len(steps) - 1]
        rows.append(Row(name, tuple(Cell(tuple(values[:, i].tolist())) for i in at)))
    columns = tuple(Column(f"step {steps[i]:,}", 3) for i in at)
    table = Comparison(
        title,
        columns,
        tuple(rows),
        (
            "Mean entropy of a label in nats, over the steps since the value before; uniform labels of "
            f"snippets have ln K = {upper:.2f}, those of clusters ln 2 = 0.69.",
            f"{seeds(lab).capitalize()}.",
        ),
    )
    data = {
        name: {"steps": steps.tolist(), "values": values.tolist()} for name, (steps, values) in curves.items()
    }
    return Item(table, figure, data)


def _figure_5(lab: Laboratory, options: Options) -> Item:
    lab.train([FULL])
    seed, info, test = lab.seeds[0], lab.dataset.info, lab.dataset.test
    state = lab.state(FULL, seed)
    maps = {}
    for variant in (WITH_CCC, FULL):
        scores = lab.evaluator.score(state, foreground=variant.foreground)
        detections = lab.evaluator.localize(scores, state.config).detections()
        found = to_activitynet(detections, info.classes)["results"]
        maps[variant.foreground] = {
            name: detection_map(
                make_segments({name: truth}), make_segments({name: found.get(name, [])}), lab.base.tiou
            ).average
            for name, truth in test.ground_truth().items()
        }
    gain = {name: maps["mixed"][name] - maps["attention"][name] for name in maps["mixed"]}
    names = list(options.videos) or sorted(gain, key=gain.get, reverse=True)[: options.num_videos]
    rows = {video.name: row for row, video in enumerate(test.videos)}

    shown = [test.videos[rows[name]] for name in names]
    heights = [
        timeline_height(len({a.label for a in v.annotations} | {d["label"] for d in found[v.name]}))
        for v in shown
    ]
    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    parts = np.atleast_1d(figure.subfigures(len(shown), 1, height_ratios=heights))
    for part, video in zip(parts, shown):
        of_video = type(scores)(*(np.asarray(array[rows[video.name]]) for array in scores))
        timeline(video, of_video, found[video.name], info, figure=part)
    table = Comparison(
        "Figure 5: foreground probabilities, ground truth and detections",
        (Column("P^A"), Column("P^M"), Column("gain")),
        tuple(
            Row(
                name,
                tuple(Cell((100 * v,)) for v in (maps["attention"][name], maps["mixed"][name], gain[name])),
            )
            for name in names
        ),
        (
            f"Average mAP in % within each video, seed {seed}, last step; "
            + ("videos as asked for." if options.videos else "the videos that P^M gains most on.")
            + f" Of all {len(gain)} test videos P^M gains in {sum(g > 0 for g in gain.values())} and loses "
            f"in {sum(g < 0 for g in gain.values())}.",
        ),
    )
    return Item(table, figure)


def _figure_6(lab: Laboratory, options: Options) -> Item:
    lab.train([FULL])
    seed = lab.seeds[0]
    state = lab.state(FULL, seed)
    rows = clusters.gallery(
        lab.evaluator.score(state), state.cluster_labels, lab.dataset, frames=options.frames
    )
    ranked = sorted(rows, key=lambda row: -row.foreground)
    title = "Figure 6: clusters and the snippets that belong to them most"
    table = Comparison(
        title,
        (Column("foreground", 2), Column("share (%)"), Column("truly foreground (%)")),
        tuple(
            Row(
                f"cluster {row.cluster}",
                (
                    Cell((row.foreground,)),
                    Cell((100 * row.share,)),
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
    data = {
        f"cluster {row.cluster}": row._asdict()
        | {
            "purity": None if np.isnan(row.purity) else row.purity,
            "members": [member._replace(frame=None)._asdict() for member in row.members],
        }
        for row in rows
    }
    return Item(table, cluster_gallery(rows, title=f"{title} (seed {seed})"), data)


def _figure_7(lab: Laboratory, options: Options) -> Item:
    lab.train([BASELINE, FULL])
    seed = lab.seeds[0]
    features, foreground = embeddings.draw_snippets(lab.dataset, options.num_points)
    panels = [
        embeddings.maps(lab.state(variant, seed), features, foreground, name=variant.name)
        for variant in (BASELINE, FULL)
    ]
    title = "Figure 7: embeddings of snippets and prototypes of clusters (t-SNE)"
    flat = [panel for row in panels for panel in row]
    table = Comparison(
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
            for panel in flat
        ),
        (
            f"Test snippets drawn at random, seed {seed}, last step. Same kind nearby: how many of a "
            "snippet's 10 nearest neighbours by cosine are foreground or background as it is, mean of both "
            "kinds; 50 % is chance.",
        ),
    )
    data = {
        panel.title: {
            "snippets": panel.snippets.tolist(),
            "foreground": panel.foreground.tolist(),
            "prototypes": panel.prototypes.tolist(),
            "prototype_foreground": panel.prototype_foreground.tolist(),
        }
        for panel in flat
    }
    return Item(table, embedding_maps(panels, title=f"{title}, {lab.data_name}, seed {seed}"), data)


FIGURES: Mapping[int, Callable[[Laboratory, Options], Item]] = {
    3: _figure_3,
    4: _figure_4,
    5: _figure_5,
    6: _figure_6,
    7: _figure_7,
}
