"""A folder that is not a run's own is told from one that has nothing to do with a run."""

from pathlib import Path

import pytest

from case_jax.runs.places import explain_place
from case_jax.runs.workdir import Workdir
from tests.helpers.refusals import assert_parts, refusal


@pytest.fixture
def run(tmp_path):
    """The files of two seeds and of a run beside them."""
    for name in ("seeds/seed_0", "seeds/seed_10", "seeds/seed_9", "one [1]"):
        (tmp_path / name / "checkpoints" / "50" / "default").mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "seeds" / "notes.txt").touch()
    return tmp_path


def test_a_folder_of_seeds(run):
    seeds = run / "seeds"
    named = "seed_0, seed_9, seed_10"
    expected = f"{seeds}: holds runs of 3 seeds ({named}); expected one of them, such as {seeds}/seed_0"
    assert explain_place(seeds) == expected
    for load in (Workdir(seeds).settings, Workdir(seeds).load):
        assert refusal(load) == expected


def test_a_folder_of_runs(run):
    (run / "seeds" / "config.json").write_text("{}")
    assert explain_place(run) == (
        f"{run}: holds 2 runs (one [1], seeds); expected one of them, such as {run}/one [1]"
    )


@pytest.mark.parametrize("part", ["checkpoints", "checkpoints/50", "checkpoints/50/default", "config.json"])
def test_a_part_of_a_run(part, run, monkeypatch):
    folder = run / "one [1]"
    assert (
        explain_place(folder / part)
        == f"{folder / part}: is a part of a run; expected the run's folder, {folder}"
    )
    monkeypatch.chdir((folder / part).parent)
    assert f"expected the run's folder, {'.' if part in ('checkpoints', 'config.json') else folder}" in (
        explain_place(part.rpartition("/")[2])
    )


def test_anything_else(run, tmp_path):
    for path in (tmp_path / "gone", tmp_path / "seeds" / "notes.txt", tmp_path / ("a" * 300)):
        assert explain_place(path) is None
    assert "no such file" in refusal(Workdir(tmp_path / "gone").settings)


def test_a_folder_that_cannot_be_read_is_refused_in_one_line(run, monkeypatch):
    """As for users other than root: the message comes from the file that is looked for in it."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert explain_place(run) is None
    assert_parts(refusal(Workdir(run).settings), f"{run}/config.json", "no such file", "a JSON file")
