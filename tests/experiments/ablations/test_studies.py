"""What stands in the studies, from results that are made up."""

import numpy as np
import pytest

from experiments.ablations import studies
from experiments.ablations.studies import STUDIES
from tests.helpers.laboratory import made_up_laboratory

SEVEN = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def cells(item, title):
    """Means of a column."""
    column = [column.title for column in item.table.columns].index(title)
    return [None if row.cells[column] is None else row.cells[column].mean for row in item.table.rows]


def test_the_study_of_the_prior_has_its_width_and_what_training_measured():
    item = STUDIES["prior"](made_up_laboratory(SEVEN))
    titles = [row.title for row in item.table.rows]
    assert titles[:3] == ["no prior, Eq. (10)", "sigma = 0.05", "sigma = 0.1"]
    assert titles[-2:] == ["sigma = 0.1, permutation", "sigma = 10, permutation"]
    assert cells(item, "log-range")[:3] == pytest.approx([0, 200, 50])
    # Metrics of the last steps: mean over seeds of the made-up history; shares in %.
    assert cells(item, "H(Q^S)") == pytest.approx([len("entropy_snippets") / 100 + 0.3] * len(titles))
    shares = cells(item, "foreground clusters (%)")
    assert shares == pytest.approx([100 * (len("foreground_clusters") / 100 + 0.3)] * len(titles))
    curves = item.figure.axes[0].get_lines()
    assert [line.get_label() for line in curves] == [
        "true rank",
        "sorting permutation",
        "no prior, Eq. (10)",
        "baseline",
    ]


def test_the_study_of_sinkhorn_varies_one_setting_at_a_time():
    item = STUDIES["sinkhorn"](made_up_laboratory(SEVEN))
    titles = [row.title for row in item.table.rows]
    assert titles[0] == "epsilon = 0.05"
    assert titles[-1] == "iterations = 50"
    assert cells(item, "marginal error") == pytest.approx([len("marginal_error") / 100 + 0.3] * len(titles))
    assert item.figure is None
    assert any(
        "epsilon with 3 iterations; iterations with epsilon = 0.5" in note for note in item.table.notes
    )


def test_the_study_of_selection_compares_checkpoints_and_seeds():
    quality = {("baseline", "attention"): (0.1, 0.3), ("CASE", "mixed"): (0.4, 0.2)}
    lab = made_up_laboratory(SEVEN, quality)
    item = STUDIES["selection"](lab)
    assert lab.trained == ["baseline", "CASE"]
    assert [row.title for row in item.table.rows] == [
        "baseline, last",
        "baseline, best",
        "CASE, last",
        "CASE, best",
    ]
    assert cells(item, "seed 0") == pytest.approx([10, 11, 40, 41])
    assert cells(item, "mean") == pytest.approx([20, 21, 30, 31])
    assert cells(item, "lowest") == pytest.approx([10, 11, 20, 21])
    assert cells(item, "highest") == pytest.approx([30, 31, 40, 41])
    assert [claim.text for claim in item.table.claims][2] == "CASE above baseline, last"
    assert item.table.claims[2].differences == pytest.approx((30, -10))


def test_the_study_beyond_the_paper_diagnoses_every_row(monkeypatch):
    def diagnose(lab, state):
        name, seed = state
        found = {"true": 40.0, "AUC P^A": 60.0 + seed}
        if "baseline" not in name:
            found |= {"AUC P^T": 70.0, "purity": 80.0, "called": 3.0, "are": 2.0 + seed}
        return found

    monkeypatch.setattr(studies, "diagnose", diagnose)
    item = STUDIES["plus"](made_up_laboratory(SEVEN, state=lambda variant, seed: (variant.name, seed)))
    assert len(item.table.rows) == 8
    assert cells(item, "AUC P^A") == [60.5] * 8
    assert cells(item, "AUC P^T") == [None, None, *[70.0] * 6]
    assert cells(item, "that are") == [None, None, *[2.5] * 6]
    marked = 100 * (len("foreground_snippets") / 100 + 0.3)
    assert cells(item, "marked (%)") == pytest.approx([marked] * 8)
    assert len(item.table.claims) == 8
    *curves, line = item.figure.axes[0].get_lines()
    assert [curve.get_label() for curve in curves] == ["CASE", "CASE, settled", "CASE+", "P^M's"]
    np.testing.assert_array_equal(line.get_ydata(), [0.4, 0.4])
