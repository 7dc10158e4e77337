import csv
import io
import json

import numpy as np
import pytest

from case_jax.errors import InputError
from experiments.ablations.comparison import (
    Cell,
    Claim,
    Column,
    Comparison,
    Row,
    as_csv,
    as_markdown,
    as_text,
    write_table,
)

TABLE = Comparison(
    "Table 9: parts",
    (Column("0.5"), Column("avg 0.1:0.7"), Column("H", 2)),
    (
        Row("baseline", (Cell((30.0, 32.0), 31.9), Cell((40.0, 41.0), 42.1), None)),
        Row("with | all", (Cell((35.04, 35.06)), Cell((44.0, 42.0), 46.2), Cell((2.5,), 2.76))),
    ),
    ("A note.",),
    (Claim("all above baseline", (4.0, 1.0), 4.1),),
)


def test_text_is_aligned_and_published_values_have_columns_of_their_own():
    assert as_text(TABLE).splitlines() == [
        "Table 9: parts",
        "",
        "                                           published    published  published",
        "                                                  on           on         on",
        "                                            THUMOS14     THUMOS14   THUMOS14",
        "                   0.5  avg 0.1:0.7     H        0.5  avg 0.1:0.7          H",
        "----------------------------------------------------------------------------",
        "baseline    31.0 ± 1.4   40.5 ± 0.7             31.9         42.1",
        "with | all  35.0 ± 0.0   43.0 ± 1.4  2.50                    46.2       2.76",
        "",
        "A note.",
        "Orderings of average mAP at the last step, the higher minus the lower of each seed:",
        "- all above baseline: seen: +2.50 ± 2.12, in 2 of 2 seeds (published +4.1)",
    ]


def test_markdown_has_one_cell_per_column_and_escapes_bars():
    title, _, *rows = as_markdown(TABLE).splitlines()[:6]
    assert title == "## Table 9: parts"
    assert rows[1] == "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    assert rows[0].count("|") == rows[2].count("|") == 8
    assert rows[3].startswith("| with \\| all | 35.0 ± 0.0 |")
    assert as_markdown(TABLE).endswith("(published +4.1)\n")


def test_csv_has_all_digits():
    header, baseline, everything = csv.reader(io.StringIO(as_csv(TABLE)))
    assert header[:4] == ["row", "0.5: mean", "0.5: standard deviation", "0.5: published on THUMOS14"]
    assert baseline == ["baseline", "31.0", repr(2**0.5), "31.9", "40.5", repr(0.5**0.5), "42.1", "", "", ""]
    assert float(everything[1]) == np.mean([35.04, 35.06])
    assert everything[7:] == ["2.5", "", "2.76"]


def test_json_has_every_seed(tmp_path):
    paths = write_table(TABLE, tmp_path / "new" / "table_9.5", data={"more": [1]})
    assert [path.name for path in paths] == ["table_9.5.md", "table_9.5.csv", "table_9.5.json"]
    content = json.loads(paths[2].read_text())
    cell = content["rows"][0]["0.5"]
    assert cell == {
        "mean": 31.0,
        "standard_deviation": 2**0.5,
        "values": [30.0, 32.0],
        "published_on_thumos14": 31.9,
    }
    assert content["rows"][0]["H"] is None
    assert content["claims"][0]["differences"] == [4.0, 1.0]
    assert content["data"] == {"more": [1]}
    assert (paths[0].read_text(), paths[1].read_text()) == (as_markdown(TABLE), as_csv(TABLE))


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_table(TABLE, tmp_path / "file" / "table_9")


@pytest.mark.parametrize(
    "differences, verdict",
    [
        ((1.0, 2.0, 3.0), "seen"),
        ((1.0, -2.0, 2.0), "seen, within the spread"),
        ((-1.0, -2.0), "not seen"),
        ((-1.0, 0.5), "not seen, within the spread"),
        ((0.0, 0.0), "not seen"),
        ((0.5,), "seen"),
        ((-0.5,), "not seen"),
    ],
)
def test_the_verdict_is_the_sign_of_the_mean_and_whether_it_exceeds_the_spread(differences, verdict):
    assert Claim("a above b", differences).verdict == verdict


def test_one_seed_has_no_spread():
    table = Comparison("T", (Column("avg"),), (Row("a", (Cell((1.25,)),)),), claims=(Claim("x", (0.5,)),))
    assert as_text(table).splitlines()[-1] == "- x: seen: +0.50, in 1 of 1 seeds"
    assert as_text(table).splitlines()[4] == "a  1.2"
    assert table.rows[0].cells[0].spread is None
