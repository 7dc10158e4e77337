import json

import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.evaluation.health import Health
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.localization.detections import Detections
from case_jax.runs import interrupted
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.record import Record, recording
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import Chunk
from tests.helpers.runs import SETTINGS, Listener, saved_steps


class Judge:
    """In place of an evaluator: the average mAP is the score of the first detection."""

    def map_of(self, detections, tiou):
        (found,) = detections.values()
        per_class = np.full((2, len(tiou)), found.score[0])
        return DetectionMap(np.array(tiou), ("Jump", "Run"), per_class)


def found(average):
    return {"v": Detections(np.array([0]), np.array([1.0]), np.array([2.0]), np.array([average]))}


class Recorded:
    """A record, its store and what it says, on a workdir that goes on at a step."""

    def __init__(self, workdir, *, evaluated=0, step=0, keep="best"):
        self.listener = Listener()
        self.store = CheckpointStore(workdir.checkpoints)
        self.record = Record(
            SETTINGS._replace(keep=keep),
            workdir,
            self.store,
            None,
            self.listener,
            evaluated=evaluated,
            step=step,
            title="seed 0  ",
        )

    def add(self, step, num_steps, loss):
        self.record.add(Chunk(step, state_at(step), num_steps, {"loss": loss}))

    def evaluate(self, step, average, health=None):
        losses = self.record.take_losses()
        self.record.evaluated(step, state_at(step), losses, found(average), health, Judge())
        self.store.wait()


def state_at(step):
    return SETTINGS.fresh_state().replace(step=jnp.int32(step))


@pytest.fixture
def workdir(tmp_path):
    workdir = Workdir(tmp_path)
    workdir.begin(SETTINGS)
    return workdir


def test_an_evaluation_is_written(workdir):
    recorded = Recorded(workdir)
    assert (recorded.record.evaluated_step, recorded.record.last, recorded.record.best) == (0, None, None)
    recorded.add(2, 2, 6.0)
    recorded.add(3, 1, 3.0)
    recorded.evaluate(3, 0.25)
    assert workdir.metrics() == [
        {"step": 3, "losses": {"loss": 5.0}, "tiou": [0.5], "map": [0.25], "average": 0.25}  # (2 * 6 + 3) / 3
    ]
    assert workdir.history() == [{"step": 2, "metrics": {"loss": 6.0}}, {"step": 3, "metrics": {"loss": 3.0}}]
    assert saved_steps(workdir.checkpoints) == {3}
    assert json.loads(workdir.predictions.read_text())["results"]["v"][0]["score"] == 0.25
    assert recorded.listener.lines == ["seed 0  step      3  loss 5.0000  average mAP 25.00 %  best so far"]
    assert (recorded.record.evaluated_step, recorded.record.last, recorded.record.best) == (3, 0.25, 0.25)


def test_predictions_are_those_of_the_best_step(workdir):
    recorded = Recorded(workdir)
    for step, average in ((1, 0.5), (2, 0.5), (3, 0.25)):
        recorded.add(step, 1, 1.0)
        recorded.evaluate(step, average)
    assert json.loads(workdir.predictions.read_text())["results"]["v"][0]["score"] == 0.5
    assert [line.endswith("best so far") for line in recorded.listener.lines] == [True, False, False]
    assert (recorded.record.last, recorded.record.best) == (0.25, 0.5)


def test_the_healthiest_may_be_kept_in_place_of_the_best(workdir):
    recorded = Recorded(workdir, keep="healthiest")
    for step, average, separation in ((1, 0.1, 0.15), (2, 0.2, 0.25), (3, 0.3, 0.25), (4, 0.4, 0.05)):
        recorded.add(step, 1, 1.0)
        recorded.evaluate(step, average, Health(separation, separation / 4, 0.5, 0.5))
    assert recorded.store.best_step == 2
    assert json.loads(workdir.predictions.read_text())["results"]["v"][0]["score"] == 0.2
    assert workdir.metrics()[1]["health"] == {
        "separation": 0.25, "agreement": 0.0625, "foreground": 0.5, "certainty": 0.5,
    }  # fmt: skip
    ends = [line.split("%  ")[-1] for line in recorded.listener.lines]
    assert ends[:2] == ["healthiest so far"] * 2
    assert "healthiest" not in ends[2] + ends[3]
    assert ends[3].endswith("(separation 0.05: collapsed?)")
    again = Recorded(workdir, evaluated=2, step=2, keep="healthiest")
    again.add(3, 1, 1.0)
    again.evaluate(3, 0.9, Health(0.2, 0.05, 0.5, 0.5))
    assert json.loads(workdir.predictions.read_text())["results"]["v"][0]["score"] == 0.2


def test_a_resumed_record_drops_later_rows_and_keeps_losses_since_the_evaluation(workdir):
    recorded = Recorded(workdir)
    for step in (2, 4, 6):
        recorded.add(step, 2, float(step))
        recorded.evaluate(step, step / 10)
    again = Recorded(workdir, evaluated=2, step=4)
    assert (again.record.evaluated_step, again.record.last, again.record.best) == (2, 0.2, 0.2)
    again.add(5, 1, 10.0)
    assert again.record.take_losses() == {"loss": (2 * 4.0 + 10.0) / 3}
    again.record.write_history(5)
    assert [row["step"] for row in workdir.history()] == [2, 4, 5]


def test_history_may_be_written_up_to_a_step(workdir):
    recorded = Recorded(workdir)
    for step in (2, 4, 6):
        recorded.add(step, 2, 1.0)
    recorded.record.write_history(4)
    assert [row["step"] for row in workdir.history()] == [2, 4]


def test_a_checkpoint_overtakes_the_interrupted_state(workdir):
    interrupted.save(workdir, state_at(2))
    recorded = Recorded(workdir, step=2)
    recorded.add(3, 1, 1.0)
    assert workdir.interrupted.exists()
    recorded.evaluate(3, 0.5)
    assert not workdir.interrupted.exists()


def test_other_processes_save_what_the_first_one_evaluated(workdir):
    recorded = Recorded(workdir)
    recorded.record.follow(state_at(3))
    recorded.store.wait()
    assert saved_steps(workdir.checkpoints) == {3}
    assert workdir.metrics() == []


def test_recording_sweeps_the_folder_and_closes_the_events(workdir):
    (workdir.path / ".metrics.jsonl.k1ll3d").write_text("{")
    with (
        CheckpointStore(workdir.checkpoints) as store,
        recording(SETTINGS, workdir, store, Listener(), evaluated=0, step=0, title="") as record,
    ):
        record.add(Chunk(2, state_at(2), 2, {"loss": 1.0}))
    assert not (workdir.path / ".metrics.jsonl.k1ll3d").exists()
    (events,) = workdir.events.iterdir()
    assert b"train/loss" in events.read_bytes()
