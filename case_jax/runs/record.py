"""What one run writes into its workdir while it trains."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from rich.console import Console

from case_jax.data.files import writing
from case_jax.errors import InputError
from case_jax.evaluator import Evaluator
from case_jax.localization.detections import Detections, to_activitynet, write_predictions
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import Chunk
from case_jax.training.state import TrainState

__all__ = [
    "Record",
    "forget_interrupted",
    "interrupted_steps",
    "recording",
    "restore_interrupted",
    "save_interrupted",
]


class Record:
    """Losses and evaluations of one run: `history.jsonl`, `metrics.jsonl`, checkpoints and events."""

    def __init__(
        self,
        settings: RunSettings,
        workdir: Workdir,
        store: CheckpointStore,
        events: "_Events | None",
        console: Console,
        *,
        evaluated: int,
        step: int,
        title: str,
    ):
        """Goes on where a run was left: rows of later steps are dropped.

        Args:
            settings: of the run.
            workdir: where.
            store: of its evaluated checkpoints.
            events: of TensorBoard, if any.
            console: for one line an evaluation.
            evaluated: step of the latest evaluated checkpoint.
            step: where training goes on, not before that one.
            title: what lines begin with.
        """
        self._settings, self._workdir, self._store = settings, workdir, store
        self._events, self._console, self._title = events, console, title
        self._rows = [row for row in workdir.metrics() if row["step"] <= evaluated]
        self._history = [row for row in workdir.history() if row["step"] <= step]
        self._reports = _reports(self._history, evaluated)
        self._overtakes = workdir.interrupted.exists()

    @property
    def evaluated_step(self) -> int:
        """Step of the last evaluation, 0 before the first."""
        return self._rows[-1]["step"] if self._rows else 0

    @property
    def last(self) -> float | None:
        """The average mAP of the last evaluation."""
        return self._rows[-1]["average"] if self._rows else None

    @property
    def best(self) -> float | None:
        """The highest average mAP so far."""
        return max((row["average"] for row in self._rows), default=None)

    def add(self, report: Chunk) -> None:
        """Notes the losses of some steps."""
        row = {"step": report.step, "metrics": report.metrics}
        self._reports.append((report.num_steps, report.metrics))
        self._history.append(row)
        if self._events is not None:
            self._events.losses(row)

    def take_losses(self) -> dict[str, float]:
        """Means of the losses since they were last taken."""
        reports, self._reports = self._reports, []
        steps = sum(num_steps for num_steps, _ in reports)
        return {
            name: sum(num_steps * metrics[name] for num_steps, metrics in reports) / steps
            for name in reports[0][1]
        }

    def evaluated(
        self,
        step: int,
        state: TrainState,
        losses: Mapping[str, float],
        detections: Mapping[str, Detections],
        by: Evaluator,
    ) -> None:
        """Writes the evaluation of a step."""
        settings, workdir = self._settings, self._workdir
        result = by.map_of(detections, settings.tiou)
        best = self.best is None or result.average > self.best
        row = {
            "step": step,
            "losses": losses,
            "tiou": result.tiou.tolist(),
            "map": result.per_tiou.tolist(),
            "average": result.average,
        }
        if best:
            write_predictions(workdir.predictions, to_activitynet(detections, settings.info.classes))
        self._rows.append(row)
        self.write_history(step)
        workdir.write_metrics(self._rows)
        if self._events is not None:
            self._events.evaluation(row)
        self._save(state, result.average)
        outcome = f"average mAP {100 * result.average:.2f} %" + ("  best so far" if best else "")
        line = f"{self._title}step {step:>6}  loss {losses['loss']:.4f}  {outcome}"
        self._console.print(line, highlight=False)

    def follow(self, state: TrainState) -> None:
        """On another host than the first: takes part in saving what that one evaluated."""
        self._save(state, 0.0)

    def write_history(self, step: int) -> None:
        """Writes the losses up to a step."""
        self._workdir.write_history([row for row in self._history if row["step"] <= step])

    def _save(self, state: TrainState, average: float) -> None:
        if jax.process_count() > 1:
            told = multihost_utils.broadcast_one_to_all(np.float32(average))
            average = float(told) if jax.process_index() else average
        self._store.save(state, average=average)
        if self._overtakes:
            self._store.wait()  # until then the interrupted state is the later one
            forget_interrupted(self._workdir)
            self._overtakes = False


def _reports(history: Sequence[Mapping[str, Any]], evaluated: int) -> list[tuple[int, Mapping[str, float]]]:
    """The reports since an evaluation: (steps, means of the metrics over them)."""
    begins = [0, *(row["step"] for row in history)]
    return [
        (row["step"] - begin, row["metrics"])
        for begin, row in zip(begins, history)
        if row["step"] > evaluated
    ]


@contextlib.contextmanager
def recording(
    settings: RunSettings,
    workdir: Workdir,
    store: CheckpointStore,
    console: Console,
    *,
    evaluated: int,
    step: int,
    title: str,
) -> Iterator[Record]:
    """A `Record`, with the same arguments; the first process writes events, too."""
    with contextlib.ExitStack() as stack:
        events = None
        if not jax.process_index():
            _sweep(workdir)
            events = stack.enter_context(_events(settings, workdir, console, step))
        yield Record(settings, workdir, store, events, console, evaluated=evaluated, step=step, title=title)


def _sweep(workdir: Workdir) -> None:
    """Removes what a killed process was writing beside the files."""
    for name in ("metrics.jsonl", "history.jsonl", "predictions.json"):
        for path in workdir.path.glob(f".{name}.*"):
            path.unlink()


def interrupted_steps(workdir: Workdir) -> list[int]:
    """Steps at which training was interrupted and saved since the last evaluation."""
    if not workdir.interrupted.is_dir():
        return []
    with CheckpointStore(workdir.interrupted, read_only=True) as store:
        return store.steps


def save_interrupted(workdir: Workdir, state: TrainState) -> None:
    """Saves a state between evaluations, and waits for it."""
    if any(step >= int(state.step) for step in interrupted_steps(workdir)):
        forget_interrupted(workdir)  # it was of no use
    with CheckpointStore(workdir.interrupted) as store:
        store.save(state)


def restore_interrupted(workdir: Workdir, template: TrainState, step: int, evaluated: int) -> TrainState:
    """The state saved at a step between evaluations.

    Args:
        workdir: of the run.
        template: as `CheckpointStore.restore`.
        step: which one.
        evaluated: the last evaluation before; the losses since then must be in `history.jsonl`.

    Raises:
        InputError: if it is damaged, or losses are missing.
    """
    with CheckpointStore(workdir.interrupted, read_only=True) as store:
        state = store.restore(template, step)
    steps = [0, *(row["step"] for row in workdir.history())]
    if not {step, evaluated} <= set(steps):
        raise InputError(
            f"{workdir.path / 'history.jsonl'}: does not lead from step {evaluated} to {step}; expected the "
            f"losses up to {workdir.interrupted / str(step)}"
        )
    return state


def forget_interrupted(workdir: Workdir) -> None:
    """Removes a state that an evaluated checkpoint has overtaken, or that cannot be restored."""
    if not jax.process_index():
        shutil.rmtree(workdir.interrupted, ignore_errors=True)  # what stays of it is never used again


@contextlib.contextmanager
def _events(
    settings: RunSettings, workdir: Workdir, console: Console, step: int
) -> Iterator["_Events | None"]:
    """Writes TensorBoard events, or says once that the package for it is not installed."""
    try:
        import tensorboardX  # noqa: F401, optional
    except ImportError:
        console.print("no TensorBoard events: tensorboardX is not installed (extra 'plots')")
        yield None
        return
    with contextlib.closing(_Events(settings, workdir, step)) as events:
        yield events


class _Events:
    """TensorBoard events of one run, written by the thread that trains: a report takes 0.04 ms."""

    _FLUSH_AFTER = 10.0  # seconds; TensorBoard itself looks every 30 s

    def __init__(self, settings: RunSettings, workdir: Workdir, step: int):
        """Begins a file; events that another one holds of steps after ``step`` are said to be void."""
        from tensorboardX import event_file_writer, proto, summary

        self._event, self._summary = proto.event_pb2.Event, proto.summary_pb2.Summary
        self._folder = workdir.path / "events"
        with writing(self._folder):
            self._folder.mkdir(exist_ok=True)
            # Readers sort files by name, in which there are seconds; a number sorts those of one second.
            number = f".{len(list(self._folder.iterdir())):06d}"
            self._writer = event_file_writer.EventsWriter(str(self._folder / "events"), number)
        log = proto.event_pb2.SessionLog(status=proto.event_pb2.SessionLog.START)
        self._write(step + 1 if step else 0, session_log=log)
        if not step:
            text = json.dumps(settings.as_json(), indent=1)
            self._write(0, summary=summary.text("settings", "    " + text.replace("\n", "\n    ")))
        self._flush()

    def losses(self, row: Mapping[str, Any]) -> None:
        """Events of a row of `history.jsonl`."""
        self._scalars(row["step"], {f"train/{name}": value for name, value in row["metrics"].items()})
        if time.monotonic() - self._flushed > self._FLUSH_AFTER:
            self._flush()

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """Events of a row of `metrics.jsonl`; all so far are on disk after it."""
        maps = {f"test/mAP_{tiou:g}": value for tiou, value in zip(row["tiou"], row["map"])}
        self._scalars(row["step"], {**maps, "test/average": row["average"]})
        self._flush()

    def close(self) -> None:
        """Writes what is left."""
        with writing(self._folder):
            self._writer.close()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        named = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step, summary=self._summary(value=named))

    def _write(self, step: int, **content) -> None:
        with writing(self._folder):
            self._writer.write_event(self._event(step=step, wall_time=time.time(), **content))

    def _flush(self) -> None:
        with writing(self._folder):
            self._writer.flush()
        self._flushed = time.monotonic()
