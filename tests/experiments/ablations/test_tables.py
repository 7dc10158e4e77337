"""What stands in a table, from results that are made up."""

import pytest

from experiments.ablations.tables import TABLES, MapRow, compare
from experiments.ablations.variants import BASELINE, FULL, WITH_CCC, WITH_SCC
from tests.helpers.laboratory import made_up_laboratory

SEVEN = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def published(table):
    return [title.partition(": ")[2] for title in table.texts()[0] if title.startswith("published")]


def test_table_3_has_the_papers_rows_columns_and_orderings():
    quality = {
        (v.name, v.foreground): (i / 10, i / 10 + 0.02)
        for i, v in enumerate((BASELINE, WITH_SCC, WITH_CCC, FULL))
    }
    table = TABLES[3](made_up_laboratory(SEVEN, quality))
    assert [column.title for column in table.columns] == ["0.3", "0.5", "0.7", "avg 0.1:0.7", "best avg"]
    assert published(table) == ["0.3", "0.5", "0.7", "avg 0.1:0.7"]
    assert table.texts()[2][1:6] == ["11.0 ± 1.4"] * 4 + ["12.0 ± 1.4"]
    assert [claim.published for claim in table.claims] == pytest.approx([1.1, 0.7, 2.3, 4.1])
    assert all(claim.verdict == "seen" for claim in table.claims)
    assert table.notes[-3] == (
        "mAP in % on the test split of made up, 1 video with 1 instance (left out: 2 without features); "
        "seeds 0 to 1, mean ± standard deviation."
    )


@pytest.mark.parametrize(
    "tiou, titles, with_published",
    [
        (
            (0.1, 0.2, 0.3, 0.4, 0.5),
            ["0.1", "0.3", "0.5", "avg 0.1:0.5"],
            ["0.1", "0.3", "0.5", "avg 0.1:0.5"],
        ),
        ((0.5, 0.75, 0.95), ["0.5", "avg 0.5:0.95"], ["0.5"]),
        ((0.55, 0.75, 0.95), ["0.55", "0.75", "0.95", "avg 0.55:0.95"], []),
        (
            SEVEN,
            ["0.1", "0.3", "0.5", "avg 0.1:0.5", "avg 0.1:0.7"],
            ["0.1", "0.3", "0.5", "avg 0.1:0.5", "avg 0.1:0.7"],
        ),
    ],
)
def test_published_values_are_shown_only_for_the_same_thresholds(tiou, titles, with_published):
    values = {0.1: 72.3, 0.3: 59.2, 0.5: 37.7, (0.1, 0.5): 57.1, "avg": 46.2}
    rows = [MapRow(FULL, "CASE", values), MapRow(BASELINE, "baseline", {"avg": 42.1})]
    table = compare(made_up_laboratory(tiou), "T", rows, shown=(0.1, 0.3, 0.5, (0.1, 0.5)), ordered=[(0, 1)])
    assert [column.title for column in table.columns] == [*titles, "best avg"]
    assert published(table) == with_published
    average = table.rows[0].cells[-2]
    assert average.published == {0.5: 57.1, 0.7: 46.2}.get(tiou[-1])
    assert table.claims[0].published == (pytest.approx(4.1) if tiou == SEVEN else None)


def test_table_4_has_the_entropy_of_the_mean_assignment():
    table = TABLES[4](made_up_laboratory(SEVEN))
    assert table.columns[-1].title == "H(mean P^S)"
    assert [row.cells[-1].values for row in table.rows] == [(1.5, 1.5)] * 4
    assert [row.cells[-1].published for row in table.rows] == [2.77, 0.01, 2.76, 2.75]


@pytest.mark.parametrize("number, titles", [(5, ["CASE", "Eq. (10)", "Eq. (9)"]), (6, ["P^A", "P^T", "P^M"])])
def test_tables_5_and_6_have_the_papers_rows(number, titles):
    table = TABLES[number](made_up_laboratory(SEVEN))
    assert [row.title.startswith(title) for row, title in zip(table.rows, titles, strict=True)] == [True] * 3
    assert len(table.claims) == 2
    assert all(claim.published > 0 for claim in table.claims)
