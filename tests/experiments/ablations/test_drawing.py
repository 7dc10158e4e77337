import numpy as np
import pytest

from case_jax.report.figures import as_svg, save_figure
from experiments.ablations.drawing import (
    EmbeddingPanel,
    GalleryRow,
    Member,
    cluster_gallery,
    embedding_maps,
    spread_curves,
)


def test_curves_are_means_in_bands_of_one_deviation():
    values = np.array([[1.0, 4.0, 2.0], [3.0, 4.0, 8.0]])
    figure = spread_curves(
        {"CASE": ((2, 4, 8), values)},
        lines={"baseline": 3.5},
        xlabel="K",
        ylabel="mAP",
        title="clusters",
        log_base=2,
    )
    (axes,) = figure.axes
    curve, line = axes.get_lines()
    np.testing.assert_array_equal(curve.get_xydata(), [[2, 2], [4, 4], [8, 5]])
    np.testing.assert_array_equal(line.get_ydata(), [3.5, 3.5])
    (band,) = axes.collections
    edge = band.get_paths()[0].vertices[:, 1]
    assert (edge.min(), edge.max()) == pytest.approx((2 - 2**0.5, 5 + 18**0.5))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2", "4", "8"]
    svg = as_svg(figure)
    assert all(text in svg for text in (">CASE<", ">baseline<", ">K<", ">clusters<"))


def test_one_seed_has_no_band():
    figure = spread_curves({"a": ((1, 2), np.ones((1, 2)))}, xlabel="", ylabel="", title="")
    assert not figure.axes[0].collections


def member(video, **fields):
    return Member(video, 2.56, 0.9, True, **fields)


def test_the_gallery_has_the_surest_foreground_on_top():
    rows = [
        GalleryRow(0, 0.1, 0.25, float("nan"), (member("v1"),)),
        GalleryRow(1, 0.9, 0.75, 0.5, (member("v2"), member("v3"))),
    ]
    figure = cluster_gallery(rows, title="clusters")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == [
        "cluster 1: foreground 0.90\n75 % of snippets, 50 % truly foreground",
        "v2\n2.6 s, action",
        "v3\n2.6 s, action",
        "cluster 0: foreground 0.10\n25 % of snippets",
        "v1\n2.6 s, action",
    ]


def test_the_gallery_shows_frames_if_there_are_any():
    frame = np.zeros((4, 6, 3), np.uint8)
    figure = cluster_gallery([GalleryRow(0, 0.1, 0.2, 0.3, (member("v", frame=frame),))], title="")
    (image,) = figure.axes[1].images
    np.testing.assert_array_equal(image.get_array(), frame)
    assert figure.axes[1].get_title() == "v\n2.6 s, action"


def test_kinds_of_points_differ_in_shape_as_well_as_colour(tmp_path):
    rng = np.random.default_rng(0)
    points, kinds = rng.standard_normal((20, 2)), np.arange(20) < 8
    baseline = EmbeddingPanel("baseline, rgb", points, kinds, np.zeros((0, 2)), np.zeros(0, bool), 0.5)
    case = EmbeddingPanel("CASE, rgb", points, kinds, points[:3], np.array([True, False, False]), 0.75)
    figure = embedding_maps([[baseline], [case]], title="t-SNE")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        "baseline, rgb (50 % of neighbours of the same kind)",
        "CASE, rgb (75 % of neighbours of the same kind)",
    ]
    counts = [len(drawn.get_offsets()) for axes in figure.axes for drawn in axes.collections]
    assert counts == [12, 8, 12, 8, 1, 2]
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["background snippet", "foreground snippet", "foreground cluster", "background cluster"]
    shapes = {drawn.get_paths()[0].vertices.shape for drawn in figure.axes[1].collections}
    assert len(shapes) >= 3

    paths = save_figure(figure, tmp_path / "figure_7")
    assert [path.name for path in paths] == ["figure_7.png", "figure_7.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert ">background cluster<" in paths[1].read_text()
