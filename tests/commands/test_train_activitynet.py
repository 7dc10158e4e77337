"""Training and scoring on ActivityNet from the files as they are published."""

import json
from pathlib import Path

import numpy as np
import pytest

from case_jax import evaluator as evaluation
from case_jax.data.load import load_dataset
from case_jax.evaluator import Evaluator
from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.helpers.commands import succeed_here
from tests.helpers.workdirs import BASELINE, SMALL, best_of, metrics_of

pytestmark = pytest.mark.slow  # another shape of training to compile
FLAGFILE = ROOT / "experiments" / "flags" / "activitynet13.flags"


@pytest.fixture(scope="module")
def trained(activitynet, tmp_path_factory) -> tuple[Path, str]:
    """The workdir of a run, and what its training printed."""
    workdir = tmp_path_factory.mktemp("trained") / "W"
    flags = [f"--flagfile={FLAGFILE}", f"--data_dir={activitynet}", f"--workdir={workdir}"]
    return workdir, succeed_here("train", *flags, *SMALL, *BASELINE, "--num_steps=4", "--num_workers=0")


def test_training_says_how_many_videos_there_are(trained):
    lines = trained[1].splitlines()
    assert lines[0].startswith("training: 7 videos with ")
    assert lines[0].endswith(" instances (left out: 1 without features)")
    assert lines[1].startswith("test: 5 videos with ")
    assert "3 classes; streams rgb (6), flow (6); one snippet every 0.64 s" in lines


def test_the_table_has_activitynets_thresholds(trained):
    header = next(line for line in trained[1].splitlines() if line.startswith("mAP (%)"))
    assert header.split()[4:] == [*"0.5 0.55 0.6 0.65 0.7 0.75 0.8 0.85 0.9 0.95 avg".split()]


def test_predictions_are_scored_alike_on_the_official_file(trained, activitynet, tmp_path):
    # The official evaluator counts the instances of the video without features, too.
    content = json.loads((activitynet / "activity_net.json").read_text())
    content["database"].pop(f"{13:011d}")
    (tmp_path / "gt.json").write_text(json.dumps(content))
    printed = succeed_here(
        "evaluate",
        f"--ground_truth={tmp_path / 'gt.json'}",
        f"--predictions={trained[0] / 'predictions.json'}",
        "--subset=validation",
        "--tiou=0.5:0.95:0.05",
        "--json",
    )
    best = best_of(metrics_of(trained[0]))
    assert json.loads(printed)["average"] == pytest.approx(best["average"], abs=1e-12)


def test_videos_are_scored_a_few_at_a_time_to_the_same_detections(trained, activitynet, monkeypatch):
    settings, state = Workdir(trained[0]).load("last")
    dataset = load_dataset(activitynet, in_memory=False)

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
