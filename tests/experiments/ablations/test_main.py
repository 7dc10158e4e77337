"""The command line of tables and figures."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from case_jax.runs.train import train
from experiments.ablations import runs
from experiments.ablations.__main__ import WANTED
from tests.helpers.commands import refuse_here, run_here, succeed_here
from tests.helpers.runs import contents

COMMAND = "experiments.ablations.__main__"


def test_every_table_figure_and_study_can_be_asked_for():
    from experiments.ablations.figures import FIGURES
    from experiments.ablations.studies import STUDIES
    from experiments.ablations.tables import TABLES

    assert [tuple(map(str, makers)) for makers in (TABLES, FIGURES, STUDIES)] == list(WANTED.values())


@pytest.mark.slow
def test_tables_are_printed_and_written(made, small_folder):
    assert "Table 6: foreground probabilities at test time" in made.stdout
    assert f"test split of {small_folder.name}, 4 videos with" in made.stdout
    assert "seeds 0 to 1, mean ± standard deviation" in made.stdout
    for name in ("table_1", "table_6", "figure_5", "figure_6"):
        for suffix in (".md", ".csv", ".json", *((".png", ".svg") if "figure" in name else ())):
            assert (made.workdir / f"{name}{suffix}").stat().st_size > 100
            assert f"{made.workdir / name}{suffix}" in made.stdout


@pytest.mark.slow
def test_the_printed_table_has_the_values_of_the_written_one(made):
    rows = list(csv.DictReader((made.workdir / "table_6.csv").read_text().splitlines()))
    assert [row["row"] for row in rows] == ["P^A (attention)", "P^T (clusters)", "P^M (both)"]
    published = [row["avg 0.1:0.7: published on THUMOS14"] for row in rows]
    assert published == ["43.9", "44.1", "46.2"]
    for row in rows:
        (line,) = (line for line in made.stdout.splitlines() if line.startswith(row["row"]))
        mean, spread = (float(row[f"avg 0.1:0.7: {kind}"]) for kind in ("mean", "standard deviation"))
        assert f"{mean:.1f} ± {spread:.1f}" in line


@pytest.mark.slow
def test_table_1_has_the_size_of_the_model(made):
    content = json.loads((made.workdir / "table_1.json").read_text())
    (row,) = content["rows"]
    # A stream of 8 channels, 16 hidden ones, 2 classes, 4 clusters: Fig. 2.
    parameters = 2 * (8 * 16 + 16) + (16 * 2 + 2) + (16 + 1) + 16 * 4
    macs = 32 * (2 * 8 * 16 + 16 * 2 + 16 + 16 * 4)
    assert row["parameters (M)"]["values"] == [parameters / 1e6]
    assert row["MACs (G)"]["values"] == [macs / 1e9]
    assert row["parameters (M)"]["published_on_thumos14"] == 2.13
    assert set(row) >= {"0.1", "0.3", "0.5", "0.7", "avg 0.1:0.5", "avg 0.1:0.7"}


@pytest.mark.slow
def test_figure_6_names_videos_and_seconds(made):
    clusters = json.loads((made.workdir / "figure_6.json").read_text())["data"]
    assert len(clusters) == 4
    for cluster in clusters.values():
        assert 0 <= cluster["foreground"] <= 1
        assert len({member["video"] for member in cluster["members"]}) == 4
        assert all(abs((member["second"] / 0.64) % 1 - 0.5) > 0.49 for member in cluster["members"])
    assert sum(cluster["share"] for cluster in clusters.values()) == pytest.approx(1)


@pytest.mark.slow
def test_runs_are_not_trained_again(made):
    before = {path: path.stat().st_mtime_ns for path in (made.workdir / "runs").rglob("*") if path.is_file()}
    again = succeed_here(COMMAND, *made.flags, f"--workdir={made.workdir}", "--table=6")
    assert "of 1:" not in again
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_frames_are_shown(made, tmp_path, small_folder):
    for video in (small_folder / "split_test.txt").read_text().split():
        (tmp_path / "frames" / video).mkdir(parents=True)
        Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(tmp_path / "frames" / video / "img_00001.jpg")
    plain = (made.workdir / "figure_6.svg").read_text()
    succeed_here(
        COMMAND,
        *made.flags,
        f"--workdir={made.workdir}",
        "--figure=6",
        f"--frames_dir={tmp_path / 'frames'}",
    )
    assert plain.count("<image") == 0
    assert (made.workdir / "figure_6.svg").read_text().count("<image") == 4 * 4


@pytest.mark.slow
def test_a_command_that_ended_between_two_runs_goes_on_to_the_same_tables(made, tmp_path, monkeypatch):
    command = [*made.flags, f"--workdir={tmp_path}", "--table=6"]

    def end_at_seed_1(group, *arguments, **settings):
        if group[0].settings.seed == 1:
            raise SystemExit(9)
        train(group, *arguments, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(runs, "train", end_at_seed_1)
        assert run_here(COMMAND, *command).returncode == 9
    assert not (tmp_path / "table_6.csv").exists()
    seed_0 = contents(next(tmp_path.glob("runs/*/seed_0")) / "checkpoints")
    succeed_here(COMMAND, *command)
    assert contents(next(tmp_path.glob("runs/*/seed_0")) / "checkpoints") == seed_0
    tables = [(workdir / "table_6.csv").read_text() for workdir in (tmp_path, made.workdir)]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_a_part_is_held_out_and_features_stay_on_disk_with_one_seed(flags, tmp_path):
    stdout = succeed_here(
        COMMAND,
        *flags,
        f"--workdir={tmp_path}",
        "--table=6",
        "--num_seeds=1",
        "--feature_store=disk",
        "--num_workers=0",
        "--holdout=1/2",
    )
    assert "seed 0." in stdout
    assert "±" not in stdout
    assert "on the test split of " in stdout
    assert " (part 1 of 2 of its training split, held out), 4 videos with " in stdout
    (config,) = tmp_path.glob("runs/*/seed_*/config.json")
    assert json.loads(config.read_text())["data"] is None


@pytest.mark.parametrize(
    "wrong, parts",
    [
        ([], ("--table: is missing", "--figure, --study or --all")),
        (["--table=2"], ("--table: is '2'", "1, 3, 4, 5, 6")),
        (["--figure=3,9"], ("--figure: is '9'", "3, 4, 5, 6, 7")),
        (["--study=rank"], ("--study: is 'rank'", "prior, sinkhorn, selection, plus")),
        (["--table=3", "--noscc_prior"], ("--scc_prior: is False; expected True", "the rows set it")),
        (["--table=3", "--settling=0.1"], ("--settling: is 0.1; expected 0.0", "the rows set it")),
        (
            ["--table=3", "--agreement_from=0.5"],
            ("--agreement_from: is 0.5; expected 0.2", "the rows set it"),
        ),
        (
            ["--table=3", "--coordinator=localhost:1", "--num_processes=1", "--process_id=0"],
            ("--coordinator: is given", "one process"),
        ),
        (["--figure=5", "--videos=none"], ("--videos: 'none'", "'synthetic_test_0000'")),
        (["--figure=6", "--frames_rate=nan"], ("--frames_rate: is nan", "finite")),
        (["--figure=6", "--frames_dir=/nowhere"], ("--frames_dir: /nowhere", "no such folder")),
        (
            ["--table=3", "--feature_store=disk", "--seeds_at_once=2"],
            ("--seeds_at_once: is 2; expected 1", "--feature_store=disk"),
        ),
        (["--table=3", "--holdout=half"], ("--holdout: is 'half'",)),
        (["--table=3", "--batch_size=9"], ("--batch_size: is 9", "8 training videos")),
    ],
)
def test_bad_flags_are_named_before_anything_is_trained(wrong, parts, flags, tmp_path):
    message = refuse_here(COMMAND, *flags, f"--workdir={tmp_path / 'W'}", *wrong)
    assert message.startswith(parts[0])
    for part in (*parts, "; expected "):
        assert part in message
    assert not (tmp_path / "W").exists()


def test_workdir_is_needed(flags):
    assert refuse_here(COMMAND, *flags, "--table=3").startswith("--workdir: is missing; expected ")
