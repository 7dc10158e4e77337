"""Draws the figures of the paper and of the studies from numbers; needs matplotlib (extra `plots`)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from case_jax.report.figures import BLUE, GREEN, GREY, ORANGE, PINK, STYLES, tidy

__all__ = ["EmbeddingPanel", "GalleryRow", "Member", "cluster_gallery", "embedding_maps", "spread_curves"]

_COLOURS = (BLUE, ORANGE, GREEN, PINK, GREY)
_MARKERS = ("o", "s", "^", "D", "v")


def spread_curves(
    curves: Mapping[str, tuple[Sequence[float], np.ndarray]],
    *,
    xlabel: str,
    ylabel: str,
    title: str,
    lines: Mapping[str, float] | None = None,
    log_base: int | None = None,
    markers: bool = True,
) -> Figure:
    """Draws each curve as its mean over seeds, within a band of one standard deviation.

    Args:
        curves: name -> ((M,) positions, (seeds, M) values).
        xlabel: label of the axis of positions.
        ylabel: label of the axis of values.
        title: title of the figure.
        lines: name -> a value that does not depend on the position, drawn as a horizontal line.
        log_base: base of a logarithmic axis with a tick at each position; None for a linear axis.
        markers: whether to mark the points.

    Returns:
        A figure.
    """
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for i, (name, (positions, values)) in enumerate(curves.items()):
        color, mean = _COLOURS[i % len(_COLOURS)], np.mean(values, axis=0)
        marker = _MARKERS[i % len(_MARKERS)] if markers else None
        axes.plot(
            positions, mean, STYLES[i % len(STYLES)], color=color, marker=marker, markersize=4, label=name
        )
        if len(values) > 1:
            spread = np.std(values, axis=0, ddof=1)
            axes.fill_between(positions, mean - spread, mean + spread, color=color, alpha=0.15, linewidth=0)
    for i, (name, value) in enumerate((lines or {}).items()):
        axes.axhline(value, color=GREY, linestyle=STYLES[-1 - i % len(STYLES)], linewidth=1.2, label=name)
    if log_base:
        axes.set_xscale("log", base=log_base)
        ticks = sorted({float(p) for positions, _ in curves.values() for p in positions})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axes.legend(frameon=False, fontsize=8)
    tidy(axes)
    return figure


class Member(NamedTuple):
    """A snippet that belongs to a cluster."""

    video: str
    second: float
    probability: float  # P^S of the cluster, mean over streams
    foreground: bool  # whether an annotated action is on
    frame: np.ndarray | None = None  # (height, width, 3) uint8


class GalleryRow(NamedTuple):
    """A cluster and its surest members."""

    cluster: int
    foreground: float  # Q^C[k, 0]
    hard_share: float  # share of the snippets whose most probable cluster it is
    purity: float  # how much of this share lies in annotated actions; nan if the share is 0
    members: tuple[Member, ...]  # the most probable ones, in this order


def cluster_gallery(rows: Sequence[GalleryRow], *, title: str) -> Figure:
    """Draws clusters, the surest foreground on top, with the snippets that belong to each most.

    Args:
        rows: the clusters, with frames or without.
        title: title of the figure.

    Returns:
        A figure.
    """
    with_frames = any(member.frame is not None for row in rows for member in row.members)
    count = max(len(row.members) for row in rows)
    height = 1.15 if with_frames else 0.42
    figure = Figure(figsize=(2.6 + 1.5 * count, 0.8 + height * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(rows), 1 + count, squeeze=False, width_ratios=[1.5] + [1] * count)
    for axes_row, row in zip(grid, sorted(rows, key=lambda row: -row.foreground)):
        bar = axes_row[0]
        bar.barh([0], [row.foreground], color=ORANGE, height=0.16)
        bar.barh([0], [1 - row.foreground], left=[row.foreground], color=BLUE, height=0.16, alpha=0.3)
        bar.set(xlim=(0, 1), ylim=(-0.2, 1), xticks=[], yticks=[])
        purity = "" if np.isnan(row.purity) else f", {100 * row.purity:.0f} % truly foreground"
        label = (
            f"cluster {row.cluster}: foreground {row.foreground:.2f}\n"
            f"{100 * row.hard_share:.0f} % of snippets{purity}"
        )
        bar.text(0, 0.2, label, fontsize=6, va="bottom")
        bar.spines[:].set_visible(False)
        for axes, member in zip(axes_row[1:], row.members):
            color = ORANGE if member.foreground else BLUE
            text = f"{member.video}\n{member.second:.1f} s, {'action' if member.foreground else 'no action'}"
            if member.frame is None:
                axes.text(0.5, 0.5, text, fontsize=5.5, ha="center", va="center", transform=axes.transAxes)
            else:
                axes.imshow(member.frame)
                axes.set_title(text, fontsize=5)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color(color)
            axes.spines[:].set_linestyle("-" if member.foreground else "--")
        for axes in axes_row[1 + len(row.members) :]:
            axes.set_axis_off()
    return figure


class EmbeddingPanel(NamedTuple):
    """The points of an embedding space, mapped to the plane."""

    title: str
    snippets: np.ndarray  # (N, 2)
    foreground: np.ndarray  # (N,) bool, whether an annotated action is on
    prototypes: np.ndarray  # (K, 2); (0, 2) without clusters
    prototype_foreground: np.ndarray  # (K,) bool
    agreement: float  # share of a snippet's neighbours in the embedding space that are of its kind


def embedding_maps(panels: Sequence[Sequence[EmbeddingPanel]], *, title: str) -> Figure:
    """Draws snippets and prototypes in the plane, in a grid of panels.

    Args:
        panels: the rows of the grid.
        title: title of the figure.

    Returns:
        A figure.
    """
    columns = max(map(len, panels))
    figure = Figure(figsize=(3.6 * columns, 3.5 * len(panels) + 0.5), layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(len(panels), columns, squeeze=False)
    for axes, panel in zip(grid.flat, (panel for row in panels for panel in row)):
        kinds = (
            (~panel.foreground, BLUE, "x", "background snippet"),
            (panel.foreground, ORANGE, "o", "foreground snippet"),
        )
        for kind, color, marker, name in kinds:
            # A vector file with many points would be slow to open, so points are drawn as an image.
            axes.scatter(
                *panel.snippets[kind].T,
                s=5,
                c=color,
                marker=marker,
                linewidths=0.5,
                alpha=0.6,
                label=name,
                rasterized=True,
            )
        for kind, marker, name in (
            (panel.prototype_foreground, "^", "foreground cluster"),
            (~panel.prototype_foreground, "s", "background cluster"),
        ):
            if kind.any():
                axes.scatter(
                    *panel.prototypes[kind].T, s=46, c="black", marker=marker, edgecolors="white", label=name
                )
        title = f"{panel.title} ({100 * panel.agreement:.0f} % of neighbours of the same kind)"
        axes.set(title=title, xticks=[], yticks=[])
        axes.title.set_size(8)
    handles, labels = max(
        (axes.get_legend_handles_labels() for axes in grid.flat), key=lambda pair: len(pair[1])
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure
