import dataclasses

from case_jax.config import CaseConfig
from experiments.ablations import variants
from experiments.ablations.variants import CLUSTERS, PLUS, ROWS, SET_HERE, Variant, of_clusters
from tests.conftest import ROOT


def test_all_named_variants_are_rows():
    named = {name: value for name, value in vars(variants).items() if isinstance(value, Variant)}
    assert sorted(row.name for row in ROWS) == sorted(row.name for row in named.values())
    assert len({(row.name, row.foreground) for row in ROWS}) == len(ROWS) == 14


def test_rows_are_valid_configs_and_set_only_fields_that_are_guarded():
    for row in (*ROWS, *map(of_clusters, CLUSTERS)):
        dataclasses.replace(CaseConfig(), **row.changes)
    assert set(SET_HERE) == {name for row in ROWS for name in row.changes}
    assert "num_clusters" not in SET_HERE


def test_the_flagfile_of_case_plus_sets_what_its_row_sets():
    lines = (ROOT / "experiments" / "flags" / "case_plus.flags").read_text().splitlines()
    given = [line.removeprefix("--") for line in lines if line.startswith("--")]
    asked = dict(line.split("=") if "=" in line else (line.removeprefix("no"), "False") for line in given)
    assert asked == {name: str(value) for name, value in PLUS.changes.items()}
