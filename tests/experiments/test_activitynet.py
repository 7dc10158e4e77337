"""ActivityNet from the files as they are found: the doctor, training, evaluation and scoring."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.activitynet_shape import write_activitynet_shape
from case_jax import evaluator as evaluation
from case_jax.data.activitynet import load_activitynet
from case_jax.evaluator import Evaluator
from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.experiments.conftest import SMALL

FLAGFILES = [ROOT / "experiments" / "flags" / f"activitynet{v}.flags" for v in (12, 13)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Seven training videos and five others, one of them without features."""
    folder = tmp_path_factory.mktemp("activitynet")
    write_activitynet_shape(folder, num_train=8, num_test=6, num_classes=3, width=6)
    for stream in ("rgb", "flow"):
        for number in (7, 13):
            (folder / "features" / stream / f"v_{number:011d}.npy").unlink()
    return folder


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory, succeed) -> tuple[Path, str]:
    workdir = tmp_path_factory.mktemp("trained") / "W"
    flags = [f"--flagfile={FLAGFILES[1]}", f"--data_dir={folder}", f"--workdir={workdir}"]
    return workdir, succeed("activitynet", *flags, *SMALL, "--num_steps=4", "--num_workers=0")


def test_training_says_the_populations(trained):
    lines = trained[1].splitlines()
    assert lines[0].startswith("training: 7 videos with ")
    assert lines[0].endswith(" instances (left out: 1 without features)")
    assert lines[1].startswith("test: 5 videos with ")
    assert "3 classes; streams rgb (6), flow (6); one snippet every 0.64 s" in lines


def test_the_table_has_activitynets_thresholds(trained):
    header = next(line for line in trained[1].splitlines() if line.startswith("mAP (%)"))
    assert header.split()[4:] == [*"0.5 0.55 0.6 0.65 0.7 0.75 0.8 0.85 0.9 0.95 avg".split()]


def test_predictions_are_scored_alike_on_the_official_form(trained, folder, succeed):
    best = max(
        map(json.loads, (trained[0] / "metrics.jsonl").read_text().splitlines()),
        key=lambda row: row["average"],
    )
    # The official evaluator counts the instances of the video without features, too.
    content = json.loads((folder / "activity_net.json").read_text())
    content["database"].pop(f"{13:011d}")
    truth = trained[0] / "gt.json"
    truth.write_text(json.dumps(content))
    printed = succeed(
        "evaluate",
        f"--ground_truth={truth}",
        f"--predictions={trained[0] / 'predictions.json'}",
        "--subset=validation",
        "--tiou=0.5:0.95:0.05",
        "--json",
    )
    assert json.loads(printed)["average"] == pytest.approx(best["average"], abs=1e-12)


@pytest.mark.parametrize("flagfile", FLAGFILES)
def test_flagfiles_say_whose_settings_they_are(flagfile):
    text = flagfile.read_text()
    assert "SETTINGS OF SIBLING CODE: the paper's are not published" in text.splitlines()[0]
    for flag in (
        "--top_k_divisor=4",
        "--class_threshold=0.1",
        "--tiou=0.5:0.95:0.05",
        "--feature_store=disk",
    ):
        assert flag in text.splitlines()


def test_videos_are_scored_a_few_at_a_time_to_the_same_detections(trained, folder, monkeypatch):
    settings, state = Workdir(trained[0]).load("last")
    dataset = load_activitynet(folder, in_memory=False)

    def detections(**fields):
        with Evaluator(dataset.test, settings.info, settings.config, **fields) as evaluator:
            return evaluator.detect(state), np.asarray(evaluator.score(state).fused)

    whole, whole_scores = detections(on_device=True)
    monkeypatch.setattr(evaluation, "_VIDEOS_AT_ONCE", 2)
    parts, part_scores = detections(on_device=False)
    np.testing.assert_allclose(part_scores, whole_scores, atol=1e-6)
    assert list(parts) == list(whole)
    for name, found in whole.items():
        np.testing.assert_allclose(np.stack(parts[name]), np.stack(found), atol=1e-5)


def test_the_doctor_prints_one_table(folder, succeed):
    printed = succeed("check_data", f"--flagfile={FLAGFILES[0]}", f"--data_dir={folder}")
    facts, table, examples, verdict = printed.rstrip("\n").split("\n\n")
    assert facts.splitlines()[1].startswith("training (subset training): 7 of 8 videos are used, with ")
    rows = {line[:38].strip(): line[38:].split(maxsplit=2) for line in table.splitlines()[2:]}
    assert rows["videos without features"] == ["1", "1", "left out, and counted in every report"]
    assert rows["streams of different lengths"] == ["0", "0"]
    assert f"videos without features: for example {7:011d}" in examples
    assert verdict == "this data set can be trained on"


def test_the_doctor_on_the_thumos14_layout_refuses_what_training_refuses(small_dataset, run, tmp_path):
    folder = tmp_path / "D"
    shutil.copytree(small_dataset, folder)
    gone = sorted((folder / "features" / "test" / "flow").iterdir())[0]
    gone.unlink()
    ended = run("check_data", f"--data_dir={folder}", "--json", "--novalues")
    assert (ended.returncode, ended.stderr) == (1, "")
    result = json.loads(ended.stdout)
    assert result["refused"]
    found = {f["what"]: f["counts"] for f in result["findings"]}
    assert found["videos without features"] == {"train": 0, "test": 1}

    content = json.loads((folder / "gt.json").read_text())
    first = next(name for name, entry in content["database"].items() if entry["subset"] == "train")
    content["database"][first]["subset"] = "test"
    (folder / "gt.json").write_text(json.dumps(content))
    shutil.rmtree(folder / "features" / "test")
    result = json.loads(run("check_data", f"--data_dir={folder}", "--json").stdout)
    found = {f["what"]: f["counts"] for f in result["findings"]}
    assert found["videos of another subset"] == {"train": 1, "test": 0}
    assert found["videos without features"] == {"train": 0, "test": 4}


def test_the_doctor_needs_a_data_set(tmp_path, fail):
    assert fail("check_data") == "--data_dir: is missing; expected a data set's folder"
    assert fail("check_data", f"--data_dir={tmp_path / 'none'}") == (
        f"{tmp_path / 'none'}: no such folder; expected a data set in it"
    )


def test_an_unfit_folder_is_named(tmp_path, fail):
    (tmp_path / "anno.json").write_text('{"database": {}}')
    message = fail("activitynet", f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'W'}", "--noreport")
    assert message == (
        f"{tmp_path / 'anno.json'}: has no video of subset 'training', only of none; expected some, or "
        "split_train.txt beside it"
    )
