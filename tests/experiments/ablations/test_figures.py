"""Figures 3, 4 and 7 from made-up results; Figures 5 and 6 from the small training that all tests share."""

import json

import jax
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.errors import InputError
from case_jax.training.state import create_train_state
from experiments.ablations import embeddings
from experiments.ablations.figures import FIGURES
from experiments.ablations.options import Options
from tests.helpers.laboratory import made_up_laboratory

SEVEN = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def test_figure_3_has_a_point_for_each_number_of_clusters_and_the_baseline_as_a_line():
    quality = {
        ("K = 2", "mixed"): (0.1, 0.1),
        ("K = 16", "mixed"): (0.5, 0.7),
        ("baseline", "attention"): (0.2, 0.2),
    }
    item = FIGURES[3](made_up_laboratory(SEVEN, quality), Options())
    assert [row.title for row in item.table.rows] == [
        "baseline",
        *(f"K = {k}" for k in (2, 4, 8, 16, 32, 64)),
    ]
    curve, line = item.figure.axes[0].get_lines()
    np.testing.assert_allclose(curve.get_xydata()[[0, 3]], [[2, 10], [16, 60]])
    np.testing.assert_allclose(line.get_ydata(), [20, 20])
    assert [claim.text for claim in item.table.claims] == [
        "K = 2 below baseline",
        *(f"K = {k} above K = 2" for k in (16, 32, 64)),
    ]
    assert item.table.claims[0].differences == pytest.approx((10, 10))


def test_figure_4_has_entropies_at_the_first_middle_and_last_step():
    lab = made_up_laboratory(SEVEN)
    item = FIGURES[4](lab, Options())
    assert lab.trained == ["CASE", "Eq. (10) in SCC"]
    assert [column.title for column in item.table.columns] == ["step 1", "step 3", "step 5"]
    assert [row.title for row in item.table.rows] == list(item.data)
    entropy = len("entropy_clusters") / 100
    assert [cell.mean for cell in item.table.rows[0].cells] == pytest.approx(
        [entropy, entropy + 0.2, entropy + 0.3]
    )
    assert item.data["H(Q^C)"]["steps"] == [1, 3, 5]
    assert item.figure.axes[0].get_lines()[-1].get_ydata()[0] == pytest.approx(np.log(4))


@pytest.mark.slow
def test_figure_5_shows_the_videos_that_gain_most(made):
    rows = json.loads((made.workdir / "figure_5.json").read_text())["rows"]
    assert len(rows) == 2
    for row in rows:
        gain, after, before = (row[name]["mean"] for name in ("gain", "P^M", "P^A"))
        assert gain == pytest.approx(after - before)
    assert rows[0]["gain"]["mean"] >= rows[1]["gain"]["mean"]
    text = (made.workdir / "figure_5.svg").read_text()
    assert all(f">{row['title']}<" in text for row in rows)


@pytest.mark.slow
def test_figure_6_has_the_surest_foreground_on_top(made):
    content = json.loads((made.workdir / "figure_6.json").read_text())
    foreground = [row["foreground"]["mean"] for row in content["rows"]]
    assert foreground == sorted(foreground, reverse=True)
    for row in content["rows"]:
        cluster = content["data"][row["title"]]
        assert row["share (%)"]["mean"] == pytest.approx(100 * cluster["share"])


class FirstTwoAxes:
    """Stands for t-SNE, which takes its time."""

    def __init__(self, **settings):
        pass

    def fit_transform(self, points):
        return points[:, :2]


@pytest.mark.slow
def test_figure_7_has_a_panel_for_each_model_and_stream(monkeypatch):
    monkeypatch.setattr(embeddings, "TSNE", FirstTwoAxes)
    dataset = make_synthetic_dataset(0, SyntheticSpec(num_train=2, num_test=3, num_classes=2, width=8))

    def state(variant, seed):
        config = CaseConfig(num_snippets=8, hidden_dim=6, num_clusters=3, **variant.changes)
        return create_train_state(
            config, jax.random.key(seed), stream_widths=dataset.stream_widths, num_classes=2
        )

    item = FIGURES[7](made_up_laboratory(SEVEN, state=state, dataset=dataset), Options(num_points=30))
    titles = ["baseline, rgb", "baseline, flow", "CASE, rgb", "CASE, flow"]
    assert [row.title for row in item.table.rows] == list(item.data) == titles
    assert [row.cells[0].mean for row in item.table.rows] == [30] * 4
    assert [len(item.data[title]["prototypes"]) for title in titles] == [0, 0, 3, 3]
    assert len(item.figure.axes) == 4


def test_options_name_test_videos_once_each(tmp_path):
    dataset = make_synthetic_dataset(0, SyntheticSpec(num_train=1, num_test=3, num_classes=2, width=2))
    names = [video.name for video in dataset.test.videos]
    options = Options.of(dataset, [names[2], names[0], names[2]], 5, None, None, 40)
    assert options == Options((names[2], names[0]), 5, None, 40)
    with pytest.raises(
        InputError, match=r"^--videos: 'nobody' is not a test video; expected .*'synthetic_test"
    ):
        Options.of(dataset, ["nobody"], 2, None, None, 40)
