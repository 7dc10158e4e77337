import json

import pytest

from case_jax.runs.rows import read_rows, write_rows
from tests.helpers.refusals import assert_refused

AVERAGES = {"what": "an evaluation", "key": "average", "kind": float}
METRICS = {"what": "a report of training", "key": "metrics", "kind": dict}


def test_rows_round_trip(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"step": 2, "average": 0.5, "more": [1]}, {"step": 4, "average": 1.0, "more": []}]
    write_rows(path, rows)
    assert read_rows(path, **AVERAGES) == rows
    assert path.read_text() == "".join(json.dumps(row) + "\n" for row in rows)


def test_a_missing_file_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "rows.jsonl", **AVERAGES) == []


def test_numbers_that_are_not_finite_never_reach_the_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"step": 2, "average": 0.5}])
    before = path.read_bytes()
    with pytest.raises(ValueError):
        write_rows(path, [{"step": 2, "average": float("nan")}])
    assert path.read_bytes() == before


LONG = b"1" + b"0" * 400  # a number that no float can be


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b"\xff",
        b'{"step": 3}',
        b'{"step": "x", "average": 0, "metrics": {}}',
        b'{"step": 1e999, "average": 0, "metrics": {"loss": 1}}',
        b'{"step": -3, "average": 0, "metrics": {"loss": 1}}',
        b'{"step": 3, "average": NaN, "metrics": {"loss": NaN}}',
        b'{"step": 3, "average": null, "metrics": null}',
        b'{"step": 3, "average": [], "metrics": {"loss": "x"}}',
        b'{"step": 3, "average": "x", "metrics": {"lost": 1}}',
        b'{"step": 3, "average": ' + LONG + b', "metrics": {"loss": ' + LONG + b"}}",
        b"[" * 100_000,
    ],
    ids=lambda line: repr(line[:50])[2:-1],
)
@pytest.mark.parametrize("form", [AVERAGES, METRICS], ids=["average", "metrics"])
def test_a_line_that_is_something_else_is_named(line, form, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 2, "average": 0.5, "metrics": {"loss": 1.5}}\n' + line + b"\n")
    expected = f"'step' … {form['key']!r}"
    assert_refused(lambda path: read_rows(path, **form), path, f"line 2 is not {form['what']}", expected)


def test_a_folder_in_place_of_the_file(tmp_path):
    assert_refused(lambda path: read_rows(path, **AVERAGES), tmp_path, "Is a directory", "an evaluation")


HEALTH = {**AVERAGES, "also": {"health": ("separation", "certainty")}}


@pytest.mark.parametrize("health", [None, {"separation": 0.25, "certainty": 1.0}])
def test_a_row_may_have_fields_of_numbers_besides(health, tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"step": 2, "average": 0.5, **({} if health is None else {"health": health})}]
    write_rows(path, rows)
    assert read_rows(path, **HEALTH) == rows


@pytest.mark.parametrize(
    "health", ["null", "3", '"x"', "[]", "{}", '{"separation": 1}', '{"separation": 1, "certainty": NaN}',
               '{"separation": 1, "certainty": "x"}', '{"separation": 1, "certainty": 1, "more": 1}']
)  # fmt: skip
def test_such_a_field_of_something_else_is_refused(health, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"step": 2, "average": 0.5, "health": ' + health + "}\n")
    assert_refused(lambda path: read_rows(path, **HEALTH), path, "line 1 … an evaluation", "'average'")
