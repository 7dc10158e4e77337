"""A training that is interrupted at any moment goes on to the very files of one that is not."""

import json
import signal
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.evaluator import Evaluation, Evaluator
from case_jax.method.cost import count_macs, count_parameters
from case_jax.runs import train as module
from case_jax.runs.signals import Interrupted
from case_jax.runs.train import describe
from tests.helpers.runs import (
    FILES,
    TOGETHER,
    Training,
    assert_close_run,
    assert_same_run,
    contents,
    saved_steps,
)


def test_a_training_fills_its_workdir(uninterrupted):
    assert {path.name for path in uninterrupted.path.iterdir()} == FILES
    assert [row["step"] for row in uninterrupted.history()] == [6, 12, 18, 24, 30]
    rows = uninterrupted.metrics()
    assert [row["step"] for row in rows] == [12, 24, 30]
    for row in rows:
        assert list(row) == ["step", "losses", "tiou", "map", "average", "health"]
        assert row["average"] == pytest.approx(np.mean(row["map"]))
    best = max(rows, key=lambda row: row["average"])["step"]
    assert saved_steps(uninterrupted.checkpoints) == {24, 30, best}
    assert int(uninterrupted.load("best")[1].step) == best
    predictions = json.loads(uninterrupted.predictions.read_text())
    assert len(predictions["results"]) == 4  # test videos


@pytest.mark.slow
def test_a_training_says_what_it_trains_and_how_far_it_is(training, dataset, uninterrupted):
    listener = training.listen()
    state = training.runs[0].settings.fresh_state()
    assert listener.lines[:4] == describe(training.runs[0].settings, state, dataset)
    averages = [row["average"] for row in uninterrupted.metrics()]
    evaluations = [line for line in listener.lines if "average mAP" in line]
    assert len(evaluations) == 3
    for line, row in zip(evaluations, uninterrupted.metrics(), strict=True):
        assert line.startswith(f"step {row['step']:>6}  loss {row['losses']['loss']:.4f}  average mAP ")
    assert [step for step, *_ in listener.shown] == [6, 12, 18, 24, 30, 30]
    assert listener.shown[0][2:] == ([None], [None])  # nothing was evaluated yet
    assert listener.shown[-1][2:] == ([averages[-1]], [max(averages)])


def test_what_runs_is_described(dataset, training):
    settings = training.runs[0].settings
    state = settings.fresh_state()
    training_line, test_line, data_line, model_line = describe(settings, state, dataset)
    assert training_line == f"training: {dataset.train.population}"
    assert test_line == f"test: {dataset.test.population}"
    assert data_line == "2 classes; streams rgb (8), flow (8); one snippet every 0.64 s"
    macs = count_macs(state.network, settings.stream_widths, 16)
    parameters = count_parameters(state.params)
    assert model_line == (
        f"model: {parameters / 1e6:.3f} M parameters, {macs / 1e9:.3f} GMACs for 16 snippets"
    )


def test_a_finished_run_is_left_as_it_is(training, finished):
    before = contents(finished.path)
    said = training.train()
    assert "going on from step 30" in said
    assert not any("average mAP" in line for line in said)
    assert contents(finished.path) == before


@pytest.mark.slow
def test_a_run_made_longer_equals_the_long_run(training, uninterrupted):
    training.interrupt(18)
    training.change(num_steps=12)
    training.train()
    assert not training.workdir.interrupted.exists()  # at 12 the shorter run has finished
    training.change(num_steps=30)
    assert "going on from step 12" in training.train()
    assert_same_run(training.workdir, uninterrupted)


@pytest.mark.parametrize("step", [12, *(pytest.param(step, marks=pytest.mark.slow) for step in [30])])
def test_interrupted_after_any_chunk_of_steps(training, uninterrupted, step):
    training.interrupt(step)
    workdir = training.workdir
    assert saved_steps(workdir.interrupted) == {step}
    assert [row["step"] for row in workdir.metrics()] == [e for e in (12, 24) if e < step]
    assert saved_steps(workdir.checkpoints) == {e for e in (12, 24) if e < step}
    assert [row["step"] for row in workdir.history()] == [r for r in (6, 12, 18, 24, 30) if r <= step]
    assert f"going on from step {step}" in training.train()
    assert_same_run(workdir, uninterrupted)


@pytest.mark.slow
def test_interrupted_again_and_again(training, uninterrupted):
    for step in (6, 12, 18, 24, 30):
        training.interrupt(step)
    training.train()
    assert_same_run(training.workdir, uninterrupted)


@pytest.mark.slow
def test_interrupted_while_the_device_is_ahead(training, uninterrupted, monkeypatch):
    """As on an accelerator, where the next steps already run when a chunk is handed out."""
    monkeypatch.setattr("case_jax.training.parallel.runs_beside_the_host", lambda mesh: True)
    training.interrupt(18)
    training.train()
    assert_same_run(training.workdir, uninterrupted)


@pytest.mark.parametrize("before", [6, *(pytest.param(step, marks=pytest.mark.slow) for step in [0])])
def test_interrupted_before_any_step(training, uninterrupted, before):
    """While it reads or compiles; also in a run that goes on and has an evaluation to do."""
    if before:
        training.interrupt(before)
    training.interruption.note(signal.SIGTERM)
    with pytest.raises(Interrupted) as raised:
        training.train()
    goes_on = "saved; the same command goes on" if before else "the same command begins anew"
    assert str(raised.value) == f"interrupted at step {before} of 30: {goes_on}"
    assert raised.value.signal == signal.SIGTERM
    training.train()
    assert_same_run(training.workdir, uninterrupted)


@pytest.mark.slow
def test_a_pending_evaluation_is_finished(training, uninterrupted, monkeypatch):
    """Workers still evaluate step 12 when training is at step 18."""
    with monkeypatch.context() as patched:
        patched.setattr(Evaluation, "done", lambda self: False)
        training.interrupt(18)
    workdir = training.workdir
    assert [row["step"] for row in workdir.metrics()] == [12]
    assert (saved_steps(workdir.checkpoints), saved_steps(workdir.interrupted)) == ({12}, {18})
    training.train()
    assert_same_run(workdir, uninterrupted)


@pytest.mark.parametrize("step", [12, pytest.param(30, marks=pytest.mark.slow)])
def test_interrupted_during_an_evaluation(training, uninterrupted, monkeypatch, step):
    with monkeypatch.context() as patched:
        start = Evaluator.start

        def start_and_note(self, state):
            if int(state.step) == step:
                training.interruption.note(signal.SIGINT)
            return start(self, state)

        patched.setattr(Evaluator, "start", start_and_note)
        training.interrupt(None, saved=step)
    assert training.workdir.metrics()[-1]["step"] == step
    assert not training.workdir.interrupted.exists()
    training.train()
    assert_same_run(training.workdir, uninterrupted)


@pytest.mark.parametrize("step", [12, pytest.param(18, marks=pytest.mark.slow)])
def test_an_evaluation_whose_workers_died_of_the_signal_is_done_again(
    training, uninterrupted, monkeypatch, step
):
    """SIGTERM went to all processes; training was at ``step`` with the evaluation of step 12 pending."""
    with monkeypatch.context() as patched:
        patched.setattr(Evaluation, "done", lambda self: False)

        def detections(self):
            training.interruption.note(signal.SIGINT)
            raise BrokenProcessPool

        patched.setattr(Evaluation, "detections", detections)
        training.interrupt(step, saved=12)
    workdir = training.workdir
    assert (saved_steps(workdir.checkpoints), saved_steps(workdir.interrupted)) == (set(), {12})
    assert workdir.history()[-1]["step"] == 12
    training.train()
    assert_same_run(workdir, uninterrupted)


def test_an_evaluation_whose_workers_died_without_a_signal_is_an_error(training, monkeypatch):
    def detections(self):
        raise BrokenProcessPool("a worker died")

    monkeypatch.setattr(module, "_GRACE", 0.01)
    monkeypatch.setattr(Evaluation, "detections", detections)
    with pytest.raises(BrokenProcessPool, match="a worker died"):
        training.train()
    assert not training.workdir.interrupted.exists()


def _dying_after(step, note):
    """`fit` whose workers die after a step."""

    def fit(*arguments, **options):
        for chunk in original(*arguments, **options):
            yield chunk
            if chunk.step == step:
                note(signal.SIGINT)
                raise RuntimeError("a worker died")

    original = module.fit
    return fit


@pytest.mark.slow
def test_training_whose_workers_died_of_the_signal_stops_at_the_chunk_before(
    training, uninterrupted, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(module, "fit", _dying_after(18, training.interruption.note))
        training.interrupt(None, saved=18)
    training.train()
    assert_same_run(training.workdir, uninterrupted)


def test_workers_that_died_without_a_signal_are_an_error(training, monkeypatch):
    monkeypatch.setattr(module, "_GRACE", 0.01)
    monkeypatch.setattr(module, "fit", _dying_after(18, lambda number: None))
    with pytest.raises(RuntimeError, match="a worker died"):
        training.train()
    assert not training.workdir.interrupted.exists()


@pytest.mark.slow
def test_many_seeds_at_once_are_saved_at_the_same_step(dataset, tmp_path, together):
    training = Training(tmp_path, dataset, seeds=TOGETHER)
    training.interrupt(18)
    assert [saved_steps(workdir.interrupted) for workdir in training.workdirs] == [{18}, {18}]
    training.train()
    for found, expected in zip(training.workdirs, together):
        assert_same_run(found, expected)


@pytest.mark.slow
def test_one_of_many_seeds_is_its_own_run(together, uninterrupted):
    first, second = together
    assert_close_run(first, uninterrupted)
    assert first.metrics() != second.metrics()


def test_only_one_training_at_a_time_writes_to_a_workdir(training, finished):
    with module.exclusive(finished.path):
        before = contents(finished.path)
        with pytest.raises(InputError, match=rf"^{finished.path}: another training is writing to it"):
            training.train()
        assert contents(finished.path) == before
