"""What one run writes into its workdir while it trains."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from case_jax.evaluation.health import Health
from case_jax.evaluator import Evaluator
from case_jax.localization.detections import Detections, to_activitynet, write_predictions
from case_jax.runs import interrupted
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.events import Events, open_events
from case_jax.runs.kept import quality_of
from case_jax.runs.narrator import Narrator
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import Chunk
from case_jax.training.state import TrainState

__all__ = ["Record", "recording"]


@contextlib.contextmanager
def recording(
    settings: RunSettings,
    workdir: Workdir,
    store: CheckpointStore,
    narrator: Narrator,
    *,
    evaluated: int,
    step: int,
    title: str,
) -> Iterator["Record"]:
    """A `Record`, with the same arguments; only the first process writes events."""
    with contextlib.ExitStack() as stack:
        events = None
        if not jax.process_index():
            workdir.sweep()
            events = stack.enter_context(open_events(settings, workdir, narrator, step))
        yield Record(settings, workdir, store, events, narrator, evaluated=evaluated, step=step, title=title)


class Record:
    """Losses and evaluations of one run: `history.jsonl`, `metrics.jsonl`, checkpoints and events."""

    def __init__(
        self,
        settings: RunSettings,
        workdir: Workdir,
        store: CheckpointStore,
        events: Events | None,
        narrator: Narrator,
        *,
        evaluated: int,
        step: int,
        title: str,
    ):
        """Goes on where a run was left; rows of later steps are dropped.

        Args:
            settings: of the run.
            workdir: of the run.
            store: of its evaluated checkpoints.
            events: TensorBoard's, if any.
            narrator: is told one line an evaluation.
            evaluated: step of the latest evaluated checkpoint.
            step: where training goes on, ``evaluated`` or later.
            title: what each line begins with.
        """
        self._settings, self._workdir, self._store = settings, workdir, store
        self._events, self._narrator, self._title = events, narrator, title
        self._rows = [row for row in workdir.metrics() if row["step"] <= evaluated]
        self._history = [row for row in workdir.history() if row["step"] <= step]
        self._chunks = _chunks_since(self._history, evaluated)
        self._overtakes = workdir.interrupted.exists()

    @property
    def evaluated_step(self) -> int:
        """Step of the last evaluation, 0 before the first."""
        return self._rows[-1]["step"] if self._rows else 0

    @property
    def last(self) -> float | None:
        """Average mAP of the last evaluation, in [0, 1]."""
        return self._rows[-1]["average"] if self._rows else None

    @property
    def best(self) -> float | None:
        """The highest average mAP so far, in [0, 1]."""
        return max((row["average"] for row in self._rows), default=None)

    def add(self, chunk: Chunk) -> None:
        """Notes the metrics of some steps."""
        metrics = {name: float(value) for name, value in chunk.metrics.items()}
        row = {"step": chunk.step, "metrics": metrics}
        self._chunks.append((chunk.num_steps, metrics))
        self._history.append(row)
        if self._events is not None:
            self._events.losses(row)

    def take_losses(self) -> dict[str, float]:
        """Means of the metrics over the steps since they were last taken."""
        chunks, self._chunks = self._chunks, []
        steps = sum(num_steps for num_steps, _ in chunks)
        return {
            name: sum(num_steps * metrics[name] for num_steps, metrics in chunks) / steps
            for name in chunks[0][1]
        }

    def evaluated(
        self,
        step: int,
        state: TrainState,
        losses: Mapping[str, float],
        detections: Mapping[str, Detections],
        health: Health | None,
        by: Evaluator,
    ) -> None:
        """Writes the evaluation of a step.

        A process that is killed in between leaves a row without a checkpoint. Training then goes on from the
        checkpoint before, drops the row, and comes to the same result again.

        Args:
            step: steps taken.
            state: the state that was evaluated.
            losses: from `take_losses`.
            detections: test video -> `Detections`.
            health: of the state; None where it cannot be measured.
            by: the evaluator that found them.

        Raises:
            InputError: if a file cannot be written.
        """
        settings, workdir = self._settings, self._workdir
        result = by.map_of(detections, settings.tiou)
        row = {
            "step": step,
            "losses": losses,
            "tiou": result.tiou.tolist(),
            "map": result.per_tiou.tolist(),
            "average": result.average,
            **({} if health is None else {"health": health._asdict()}),
        }
        quality = quality_of(settings.keep, row)
        kept = all(quality > quality_of(settings.keep, before) for before in self._rows)
        if kept:
            write_predictions(workdir.predictions, to_activitynet(detections, settings.info.classes))
        self._rows.append(row)
        self.write_history(step)
        workdir.write_metrics(self._rows)
        if self._events is not None:
            self._events.evaluation(row)
        self._save(state, quality)
        outcome = f"average mAP {100 * result.average:.2f} %" + (f"  {settings.keep} so far" if kept else "")
        if health is not None and health.collapsed:
            outcome += f"  (separation {health.separation:.2f}: collapsed?)"
        self._narrator.say(f"{self._title}step {step:>6}  loss {losses['loss']:.4f}  {outcome}")

    def follow(self, state: TrainState) -> None:
        """Takes part in saving what the first process evaluated; for all other processes."""
        self._save(state, 0.0)

    def write_history(self, step: int) -> None:
        """Writes `history.jsonl` up to a step."""
        self._workdir.write_history([row for row in self._history if row["step"] <= step])

    def _save(self, state: TrainState, quality: float) -> None:
        if jax.process_count() > 1:
            told = multihost_utils.broadcast_one_to_all(np.float32(quality))
            quality = float(told) if jax.process_index() else quality
        self._store.save(state, quality=quality)
        if self._overtakes:
            self._store.wait()  # until then the interrupted state is the later one
            interrupted.forget(self._workdir)
            self._overtakes = False


def _chunks_since(
    history: Sequence[Mapping[str, Any]], evaluated: int
) -> list[tuple[int, Mapping[str, float]]]:
    """The rows after an evaluation: (steps, means of the metrics over them)."""
    begins = [0, *(row["step"] for row in history)]
    return [
        (row["step"] - begin, row["metrics"])
        for begin, row in zip(begins, history)
        if row["step"] > evaluated
    ]
