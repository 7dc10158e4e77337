import numpy as np
import pytest
from matplotlib.figure import Figure

from case_jax.data.dataset import Annotation, Video
from case_jax.data.info import DatasetInfo
from case_jax.errors import InputError
from case_jax.method.scores import VideoScores
from case_jax.report.figures import BLUE, GREEN, as_svg, save_figure, timeline, timeline_height

INFO = DatasetInfo(classes=("Jump", "Run"), streams=("acc",), frames_per_second=1, frames_per_snippet=1)
VIDEO = Video("clip $1", {"acc": np.zeros((8, 2), np.float32)}, (Annotation("Jump", 2.0, 5.0),))
FOUND = [
    {"label": "Jump", "score": 0.9, "segment": [2.0, 4.0]},
    {"label": "Jump", "score": -0.5, "segment": [6.0, 7.0]},
    {"label": "Run", "score": 1.5, "segment": [0.0, 8.0]},
]


def make_scores(*, clusters: bool) -> VideoScores:
    track = np.linspace(0, 1, 4, dtype=np.float32)
    fields = np.zeros((4, 2)), np.zeros(2), track
    return VideoScores(*fields, *((track**2, track**3, np.zeros((4, 3))) if clusters else (None,) * 3))


def test_a_timeline_shows_foreground_truth_and_detections_over_seconds():
    figure = timeline(VIDEO, make_scores(clusters=True), FOUND, INFO)
    above, below = figure.axes
    attention, transformed, mixed = above.get_lines()
    np.testing.assert_allclose(attention.get_xdata(), [1, 3, 5, 7])  # middles of four parts of 8 s
    np.testing.assert_allclose(attention.get_ydata() ** 2, transformed.get_ydata(), rtol=1e-6)
    np.testing.assert_allclose(attention.get_ydata() ** 3, mixed.get_ydata(), rtol=1e-6)
    assert len({line.get_linestyle() for line in above.get_lines()}) == 3
    assert [tick.get_text() for tick in below.get_yticklabels()] == [
        "Jump: found",
        "true",
        "Run: found",
        "true",
    ]
    spans = [(c.get_paths()[0].get_extents(), c.get_facecolor()) for c in below.collections if c.get_paths()]
    assert sorted((extent.x0, extent.x1) for extent, _ in spans) == [(0, 8), (2, 4), (2, 5), (6, 7)]
    assert below.get_xlim() == (0, 8)


def test_the_surest_detection_is_drawn_last_and_least_transparent():
    _, below = timeline(VIDEO, make_scores(clusters=True), FOUND[:2], INFO).axes
    drawn = [c for c in below.collections if c.get_paths() and c.get_alpha() is not None]
    assert [c.get_alpha() for c in drawn] == [0.08, 0.9]  # scores may be negative or above 1
    _, below = timeline(VIDEO, make_scores(clusters=True), FOUND[:2], INFO, max_per_class=1).axes
    assert [c.get_alpha() for c in below.collections if c.get_alpha() is not None] == [0.9]


def test_without_clusters_only_the_attention_is_drawn():
    above, _ = timeline(VIDEO, make_scores(clusters=False), [], INFO).axes
    assert len(above.get_lines()) == 1


def test_a_timeline_can_be_a_part_of_a_figure():
    figure = Figure(figsize=(9, 2 * timeline_height(1)))
    for part in figure.subfigures(2, 1):
        assert timeline(VIDEO, make_scores(clusters=True), FOUND[:1], INFO, figure=part) is part
    assert len(figure.axes) + sum(len(part.axes) for part in figure.subfigs) >= 4
    assert timeline_height(2) > timeline_height(1)


def test_an_svg_keeps_its_text_and_is_the_same_each_time():
    figures = [timeline(VIDEO, make_scores(clusters=True), FOUND, INFO) for _ in range(2)]
    first, second = map(as_svg, figures)
    assert first == second
    assert first.startswith("<svg")
    assert ">clip $1<" in first  # not taken for mathematics
    assert ">seconds<" in first


def test_a_letter_that_the_font_lacks_gives_no_warning(tmp_path):
    figure = timeline(VIDEO._replace(name="跳"), make_scores(clusters=True), [], INFO)
    png, svg = save_figure(figure, tmp_path / "a.b")
    assert (png.name, svg.name) == ("a.b.png", "a.b.svg")
    assert "跳" in svg.read_text()


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_figure(Figure(), tmp_path / "file" / "figure")


def test_truth_and_detections_have_colours_of_different_lightness():
    def lightness(colour):
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert abs(lightness(GREEN) - lightness(BLUE)) > 0.05
