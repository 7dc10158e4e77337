"""Figures of a run, which colour-blind readers can read; they need matplotlib (extra `plots`)."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from case_jax.data.dataset import Video
from case_jax.data.files import write_atomically, write_text_atomically
from case_jax.data.info import DatasetInfo
from case_jax.method.scores import VideoScores

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "ORANGE",
    "PINK",
    "STYLES",
    "as_svg",
    "save_figure",
    "tidy",
    "timeline",
    "timeline_height",
]

# Colours that colour-blind readers can distinguish (Okabe and Ito). Lines differ in their dashes as well.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
STYLES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)))


def as_svg(figure: Figure) -> str:
    """The figure as an <svg> element, in which text stays text."""
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "case_jax"}), _unwarned():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :]


def save_figure(figure: Figure, stem: Path, *, dots_per_inch: int = 200) -> list[Path]:
    """Writes ``stem``.png and .svg.

    A letter that the font lacks is a box in the .png. The .svg keeps text as text, so that its viewer chooses
    the font.

    Args:
        figure: the figure.
        stem: path without suffix.
        dots_per_inch: resolution of the .png.

    Returns:
        Both paths.

    Raises:
        InputError: if the folder cannot be written to.
    """
    png = io.BytesIO()
    with _unwarned():
        figure.savefig(png, format="png", dpi=dots_per_inch, metadata={"Software": None})
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    write_atomically(paths[0], png.getvalue())
    write_text_atomically(paths[1], as_svg(figure))
    return paths


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Hides matplotlib's warning for each letter that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        yield


def timeline(
    video: Video,
    scores: VideoScores,
    detections: Sequence[Mapping[str, Any]],
    info: DatasetInfo,
    *,
    max_per_class: int = 12,
    figure: Figure | SubFigure | None = None,
) -> Figure | SubFigure:
    """Draws one video over seconds: P^A, P^T, P^M, ground truth and detections.

    Args:
        video: the video, with annotations.
        scores: scores of this video only, without a batch axis: (T,) ``attention`` and so on.
        detections: its detections {"label", "score", "segment"}, in seconds.
        info: tells how long the video is in seconds.
        max_per_class: how many detections of a class to draw at most; the surest ones are drawn.
        figure: where to draw; None for a new figure.

    Returns:
        The figure.
    """
    duration = video.seconds(info)
    labels = sorted({a.label for a in video.annotations} | {d["label"] for d in detections})
    if figure is None:
        figure = Figure(figsize=(9, timeline_height(len(labels))), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 0.3 + 0.9 * len(labels)])
    _draw_foreground(above, scores, duration)
    above.set_title(video.name, loc="left", fontsize=9, parse_math=False)
    for row, label in enumerate(labels):
        truth = [(a.start, a.end - a.start) for a in video.annotations if a.label == label]
        below.broken_barh(truth, (3 * row + 1.1, 0.9), facecolors=GREEN)
        found = sorted((d for d in detections if d["label"] == label), key=lambda d: -d["score"])
        _draw_detections(below, found[:max_per_class], 3 * row)
    _name_rows(below, labels)
    below.set(xlabel="seconds", xlim=(0, duration), ylim=(-0.3, 3 * len(labels) - 0.7))
    tidy(above, below)
    return figure


def _draw_foreground(axes: Axes, scores: VideoScores, duration: float) -> None:
    """Draws P^A and, with clusters, P^T and P^M over seconds."""
    seconds = (np.arange(len(scores.attention)) + 0.5) * duration / len(scores.attention)
    axes.plot(seconds, scores.attention, color=BLUE, linestyle="--", label="$P^A$ attention")
    if scores.transformed_foreground is not None and scores.mixed_foreground is not None:
        axes.plot(seconds, scores.transformed_foreground, color=ORANGE, linestyle=":", label="$P^T$ clusters")
        axes.plot(seconds, scores.mixed_foreground, color="black", linewidth=1.6, label="$P^M$ both")
    axes.set(ylabel="foreground", ylim=(-0.03, 1.03))
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper right", bbox_to_anchor=(1, 1.22))


def _draw_detections(axes: Axes, surest_first: Sequence[Mapping[str, Any]], bottom: float) -> None:
    """Draws detections of one class over each other, the surest one on top and least transparent."""
    for detection in reversed(surest_first):
        start, end = detection["segment"]
        alpha = float(np.clip(detection["score"], 0.08, 1))
        axes.broken_barh([(start, end - start)], (bottom, 0.9), facecolors=BLUE, alpha=alpha)


def _name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Names the rows of detections and of ground truth of each class."""
    ticks: list[tuple[float, str]] = []
    for row, label in enumerate(labels):
        ticks += [(3 * row + 0.45, f"{label}: found"), (3 * row + 1.55, "true")]
    positions, names = [position for position, _ in ticks], [text for _, text in ticks]
    axes.set_yticks(positions, names, fontsize=8, parse_math=False)


def timeline_height(num_labels: int) -> float:
    """Height in inches of a timeline with so many classes."""
    return 2.4 + 0.55 * num_labels


def tidy(*axes: Axes) -> None:
    """Removes the upper and right border of axes, and makes titles small."""
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.title.set_fontsize(9)
