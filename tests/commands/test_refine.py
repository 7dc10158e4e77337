"""The command that learns a second stage, and what is done with its result."""

import json
import shutil

import pytest

from case_jax.runs.workdir import Workdir
from tests.helpers.commands import refuse_here, succeed_here
from tests.helpers.refusals import assert_parts
from tests.helpers.workdirs import metrics_of, table_of

pytestmark = pytest.mark.slow  # the second stage is another program to compile


@pytest.fixture(scope="module")
def refined(trained, tmp_path_factory):
    """A refined run and what the command printed."""
    output = tmp_path_factory.mktemp("refined") / "R"
    return output, succeed_here(
        "refine", f"--workdir={trained.workdir}", f"--output={output}", "--class_threshold=0.05"
    )


def test_the_result_is_a_run_with_settings_of_its_own_at_test_time(trained, refined):
    output, printed = refined
    names = {path.name for path in output.iterdir()}
    assert {"config.json", "metrics.jsonl", "predictions.json", "checkpoints", "report.html"} <= names
    settings, first = Workdir(output).settings(), Workdir(trained.workdir).settings()
    assert (settings.config.class_threshold, first.config.class_threshold) == (0.05, 0.25)
    (row,) = metrics_of(output)
    *_, last = table_of(printed)
    assert last.startswith("best (step 250)")
    assert float(last.split()[-1]) == pytest.approx(100 * row["average"], abs=0.0051)
    assert "Second stage" in (output / "report.html").read_text()


def test_the_same_command_again_computes_nothing(trained, refined):
    output, printed = refined
    before = (output / "metrics.jsonl").stat().st_mtime_ns
    again = succeed_here(
        "refine", f"--workdir={trained.workdir}", f"--output={output}", "--class_threshold=0.05"
    )
    assert table_of(again) == table_of(printed)
    assert (output / "metrics.jsonl").stat().st_mtime_ns == before
    message = refuse_here("refine", f"--workdir={trained.workdir}", f"--output={output}")
    assert_parts(message, output, "class_threshold = 0.05", "same settings")


def test_it_localises_and_other_weights_can_be_tried(trained, refined, small_dataset, tmp_path):
    output, _ = refined
    found = {}
    for weight in (None, 0.15, 0.9):
        path = tmp_path / f"{weight}.json"
        succeed_here(
            "localize",
            f"--checkpoint={output}",
            f"--features={small_dataset}/features/test",
            f"--output={path}",
            *([] if weight is None else [f"--refined_weight={weight}"]),
        )
        found[weight] = json.loads(path.read_text())["results"]
    assert found[None] == found[0.15]
    assert found[None] != found[0.9]
    expected = json.loads((output / "predictions.json").read_text())["results"]
    for name, entries in expected.items():
        scores = [sorted(entry["score"] for entry in of) for of in (entries, found[None][name])]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_training_may_end_with_it_and_its_seeds_decide_together(trained, small_dataset, tmp_path):
    flags = [*trained.flags, f"--workdir={tmp_path / 'W'}", "--num_steps=2", "--num_seeds=2", "--refine"]
    printed = succeed_here("train", *flags, "--noreport")
    for seed in (4, 5):
        settings = Workdir(tmp_path / "W_refined" / f"seed_{seed}").settings()
        assert settings.refinement is not None
        assert settings.seed == seed
    _, second = printed.split("second stage: ")
    titles = [line.rsplit(maxsplit=10)[0] for line in table_of(second)[2:]]
    assert titles[:2] == ["seed 4, last (step 250)", "seed 4, best (step 250)"]
    assert titles[-1] == "all seeds together, last (step 250)"
    said = succeed_here(
        "localize",
        f"--checkpoint={tmp_path / 'W_refined'}",
        f"--features={small_dataset}/features/test",
        f"--output={tmp_path / 'p.json'}",
        "--together",
        "--which=last",
    )
    assert "checkpoints of 2 seeds (step 250)" in " ".join(said.split())
    evaluated = json.loads(
        succeed_here(
            "evaluate",
            f"--ground_truth={small_dataset}/gt.json",
            f"--predictions={tmp_path / 'p.json'}",
            "--json",
        )
    )
    *_, row = table_of(second)
    assert float(row.split()[-1]) == pytest.approx(100 * evaluated["average"], abs=0.0051)


def test_several_processes_do_not_end_with_it(trained, tmp_path):
    flags = [*trained.flags, f"--workdir={tmp_path / 'W'}", "--num_steps=2", "--refine"]
    message = refuse_here("train", *flags, "--coordinator=localhost:1", "--num_processes=2", "--process_id=0")
    assert_parts(message, "--refine", "one process", "refine")
    assert not (tmp_path / "W").exists()


def test_a_folder_that_holds_something_else_is_told_before_training(trained, tmp_path, monkeypatch):
    shutil.copytree(trained.workdir, tmp_path / "W_refined")
    flags = [*trained.flags, "--num_steps=2", "--refine"]
    message = refuse_here("train", *flags, f"--workdir={tmp_path / 'W'}")
    assert_parts(message, tmp_path / "W_refined", "refinement = none … a second stage", "--output")
    assert not (tmp_path / "W").exists()
    (tmp_path / "V").mkdir()
    monkeypatch.chdir(tmp_path / "V")
    (tmp_path / "V_refined").touch()
    message = refuse_here("train", *flags, "--workdir=.")
    assert_parts(message, "--refine", f"{tmp_path / 'V_refined'} is a file", "folder")
