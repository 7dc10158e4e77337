import dataclasses
import json
from unittest import mock

import pytest

from case_jax.evaluator import Evaluator
from case_jax.localization.detections import to_activitynet
from case_jax.runs.outcome import evaluate_run
from case_jax.runs.run import Run
from case_jax.runs.workdir import Workdir
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.runs import make_dataset


@pytest.fixture
def run(uninterrupted, dataset):
    return Run(uninterrupted.settings(), uninterrupted, dataset)


@pytest.fixture
def evaluator(run):
    with Evaluator(run.dataset.test, run.dataset.info, run.settings.config) as evaluator:
        yield evaluator


def test_results_are_those_that_training_recorded(run, evaluator):
    outcome = evaluate_run(run, evaluator, tiou=run.settings.tiou)
    rows = run.workdir.metrics()
    best = max(rows, key=lambda row: row["average"])
    assert list(outcome.results) == ["last (step 30)", f"best (step {best['step']})"]
    for result, row in zip(outcome.results.values(), (rows[-1], best)):
        assert result.per_tiou.tolist() == row["map"]
    assert int(outcome.state.step) == best["step"]
    predictions = to_activitynet(outcome.detections, run.settings.info.classes)
    assert json.loads(json.dumps(predictions)) == json.loads(run.workdir.predictions.read_text())
    assert outcome.scores is not None
    assert len(outcome.scores.video) == 4  # test videos
    assert outcome.last_scores is not None
    last = evaluator.localize(outcome.last_scores, outcome.state).detections()
    assert evaluator.map_of(last, run.settings.tiou).per_tiou.tolist() == rows[-1]["map"]


def test_a_checkpoint_that_is_both_is_evaluated_once(run, evaluator):
    load = Workdir.load
    with (
        mock.patch.object(Workdir, "load", lambda self, which, mesh: load(self, "last", mesh=mesh)),
        mock.patch.object(Evaluator, "score", autospec=True, side_effect=Evaluator.score) as score,
    ):
        outcome = evaluate_run(run, evaluator, tiou=(0.5,))
    assert list(outcome.results) == ["last (step 30)", "best (step 30)"]
    assert score.call_count == 1


def test_other_settings_can_be_tried(run, evaluator):
    def surer(config):
        return dataclasses.replace(config, class_threshold=0.9, proposal_thresholds=(0.9,))

    tried = evaluate_run(run, evaluator, tiou=(0.5,), config=surer)
    assert tried.settings == run.settings
    assert tried.state.config == surer(run.settings.config)
    found, usual = (
        sum(d.label.size for d in outcome.detections.values())
        for outcome in (tried, evaluate_run(run, evaluator, tiou=(0.5,)))
    )
    assert found < usual


def test_processes_other_than_the_first_have_no_results(run):
    outcome = evaluate_run(run, None, tiou=(0.5,))
    assert (outcome.results, outcome.scores, outcome.detections) == ({}, None, {})


def test_data_of_other_classes_are_refused(run, evaluator):
    dataset = make_dataset()
    dataset = dataclasses.replace(dataset, info=dataclasses.replace(dataset.info, classes=("Swim", "Dive")))
    message = refusal(lambda: evaluate_run(dataclasses.replace(run, dataset=dataset), evaluator, tiou=(0.5,)))
    assert_parts(message, run.workdir.path, "other classes", "data set")
