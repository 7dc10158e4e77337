"""Training in a workdir: evaluate meanwhile, keep the best, resume where it stopped; one seed or many."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from case_jax import parallel
from case_jax.checkpoints import CheckpointStore
from case_jax.data.dataset import Dataset, DatasetInfo
from case_jax.errors import InputError
from case_jax.evaluation import Evaluation, Evaluator
from case_jax.localization.detections import to_activitynet, write_predictions
from case_jax.model import count_macs, count_parameters
from case_jax.training import Report, TrainState, fit, select_seed, stack_seeds
from case_jax.workdir import RunSettings, Workdir

__all__ = ["Hardware", "Run", "describe", "train"]


class Hardware(NamedTuple):
    """Where and how to compute; nothing here changes a result."""

    mesh: Mesh  # devices that every batch is divided over
    on_device: bool = True  # features on every device; otherwise the host gathers batches from disk
    num_workers: int = 0  # processes that gather batches, if not on_device
    eval_workers: int = 0  # processes of the numpy stage of evaluation


class Run(NamedTuple):
    """One seed's run."""

    settings: RunSettings
    workdir: Workdir  # must have begun with these settings


def train(
    runs: Sequence[Run],
    dataset: Dataset,
    hardware: Hardware,
    console: Console,
    *,
    title: str = "training",
    narrate: bool = True,
) -> None:
    """Trains all runs at once to ``num_steps``; what was interrupted goes on from its last checkpoint.

    Runs that are there already are left as they are.

    An evaluation writes `predictions.json` if it is the best one, then `history.jsonl` (the losses on the
    way), its line in `metrics.jsonl`, and then the checkpoint. A run interrupted in between goes back to the
    checkpoint before, drops the lines after it, and comes to the same result again.

    Where there are several hosts, every one of them calls this; the first one evaluates and writes.

    Args:
        runs: of the same settings but for their seeds.
        dataset: on what.
        hardware: where.
        console: for progress.
        title: what the progress bar calls it.
        narrate: whether to say what runs, and every evaluation, in lines of their own.

    Raises:
        InputError: if some runs have trained and others have not.
    """
    settings = runs[0].settings
    config, eval_every = settings.config, settings.eval_every
    with contextlib.ExitStack() as stack:
        stores = [stack.enter_context(CheckpointStore(run.workdir.checkpoints)) for run in runs]
        unfinished = [i for i, store in enumerate(stores) if config.num_steps not in store.steps]
        if unfinished:  # otherwise the last one is looked at once more, and nothing is trained
            runs, stores = [runs[i] for i in unfinished], [stores[i] for i in unfinished]
        titled = len(unfinished) > 1
        state = _start(runs, stores, hardware.mesh)
        said = console if narrate else Console(quiet=True)
        describe(settings, _one_seed(state, 0), dataset, said)
        step = int(np.max(parallel.local_copy(state.step)))
        if step:
            said.print(f"going on from step {step}")
        evaluator = stack.enter_context(_evaluator(settings, dataset, hardware))
        records = [
            stack.enter_context(_recording(run, store, step, said, title=titled))
            for run, store in zip(runs, stores)
        ]
        show = stack.enter_context(_progress(console, title, step, config.num_steps))
        train_videos = [video.features for video in dataset.train.videos]
        reports = fit(
            state,
            dataset.train.pack(settings.info.streams, config.feature_dtype)
            if hardware.on_device
            else train_videos,
            dataset.train.video_labels(settings.info.classes),
            report_every=_report_every(eval_every),
            mesh=hardware.mesh,
            on_device=hardware.on_device,
            num_workers=hardware.num_workers,
        )
        pending = None
        for report in reports:
            for seed, record in enumerate(records):
                record.add(_one_seed_report(report, seed))
            pending = _finish_if_done(pending)
            show(report.step, float(np.mean(report.metrics["loss"])), [r.best for r in records])
            if report.step % eval_every and report.step != config.num_steps:
                continue
            if pending is not None:
                pending = pending.finish()
            pending = _finish_if_done(_Pending(report.step, report.state, records, evaluator))
        if pending is not None:
            pending.finish()
            show(config.num_steps, float(np.mean(report.metrics["loss"])), [r.best for r in records])


def _start(runs: Sequence[Run], stores: Sequence[CheckpointStore], mesh: Mesh) -> TrainState:
    """The state of all runs at the latest step that all of them have saved, on every device."""
    furthest = max(store.latest_step or 0 for store in stores)
    common = set.intersection(*(set(store.steps) for store in stores))
    # Who was interrupted in the first evaluation starts anew, to the same result.
    if not common and furthest > runs[0].settings.eval_every:
        behind = next(run for run, store in zip(runs, stores) if furthest not in store.steps)
        raise InputError(
            f"{behind.workdir.path}: is not as far as the other seeds ({furthest} steps); expected seeds "
            "that began together, or to train it by itself, with a --workdir of its own"
        )
    fresh = [parallel.replicate(run.settings.fresh_state(), mesh) for run in runs]
    if common:
        fresh = [store.restore(state, max(common)) for store, state in zip(stores, fresh)]
    return fresh[0] if len(fresh) == 1 else stack_seeds(fresh)


def _evaluator(settings: RunSettings, dataset: Dataset, hardware: Hardware):
    """On the first host; the others have nothing to evaluate."""
    if jax.process_index():
        return contextlib.nullcontext()
    return Evaluator(
        dataset.test,
        settings.info,
        settings.config,
        num_workers=hardware.eval_workers,
        on_device=hardware.on_device,
    )


def _one_seed(state: TrainState, seed: int) -> TrainState:
    return select_seed(state, seed) if state.step.ndim else state


def _one_seed_report(report: Report, seed: int) -> Report:
    if not report.state.step.ndim:
        return report
    return report._replace(metrics={name: float(v[seed]) for name, v in report.metrics.items()})


class _Pending:
    """The evaluation of a step, whose numpy stage may still be going on."""

    def __init__(
        self, step: int, state: TrainState, records: Sequence["_Record"], evaluator: Evaluator | None
    ):
        self._step, self._records, self._evaluator = step, records, evaluator
        self._losses = [record.take_losses() for record in records]
        self._states = [_one_seed(state, seed) for seed in range(len(records))]
        self._evaluations: list[Evaluation] = []
        if evaluator is not None:
            self._evaluations = [evaluator.start(parallel.local_copy(state)) for state in self._states]

    def done(self) -> bool:
        """Whether `finish` would not wait."""
        return all(evaluation.done() for evaluation in self._evaluations)

    def finish(self) -> None:
        """Waits, and records what came out."""
        for i, (record, state, losses) in enumerate(zip(self._records, self._states, self._losses)):
            if self._evaluator is None:
                record.follow(state)
            else:
                record.evaluated(self._step, state, losses, self._evaluations[i], self._evaluator)


def _finish_if_done(pending: _Pending | None) -> _Pending | None:
    """Records an evaluation that has come to its end; several hosts must agree on when, so they wait."""
    if pending is not None and jax.process_count() == 1 and pending.done():
        return pending.finish()
    return pending


class _Record:
    """What one run writes."""

    def __init__(
        self, run: Run, store: CheckpointStore, step: int, write_events, console: Console, title: bool
    ):
        self._run, self._store, self._write_events, self._console = run, store, write_events, console
        self._title = f"seed {run.settings.seed:>3}  " if title else ""
        self._rows = [row for row in run.workdir.metrics() if row["step"] <= step]
        self._history = [row for row in run.workdir.history() if row["step"] <= step]
        self._reports: list[Report] = []

    @property
    def best(self) -> float | None:
        """The highest average mAP so far."""
        return max((row["average"] for row in self._rows), default=None)

    def add(self, report: Report) -> None:
        """Notes the losses of some steps."""
        self._reports.append(report)

    def take_losses(self) -> dict[str, float]:
        """Means of the losses since they were last taken."""
        reports, self._reports = self._reports, []
        self._history += [{"step": report.step, "metrics": report.metrics} for report in reports]
        steps = sum(report.num_steps for report in reports)
        return {
            name: sum(report.num_steps * report.metrics[name] for report in reports) / steps
            for name in reports[0].metrics
        }

    def evaluated(
        self, step: int, state: TrainState, losses: Mapping[str, float], evaluation: Evaluation, by: Evaluator
    ) -> None:
        """Writes the evaluation of a step."""
        settings, workdir = self._run.settings, self._run.workdir
        detections = evaluation.detections()
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
        workdir.write_history([r for r in self._history if r["step"] <= step])
        workdir.write_metrics(self._rows)
        self._save(state, result.average)
        self._write_events(row)
        outcome = f"average mAP {100 * result.average:.2f} %" + ("  best so far" if best else "")
        line = f"{self._title}step {step:>6}  loss {losses['loss']:.4f}  {outcome}"
        self._console.print(line, highlight=False)

    def follow(self, state: TrainState) -> None:
        """On another host than the first: takes part in saving what that one evaluated."""
        self._save(state, 0.0)

    def _save(self, state: TrainState, average: float) -> None:
        if jax.process_count() > 1:
            told = multihost_utils.broadcast_one_to_all(np.float32(average))
            average = float(told) if jax.process_index() else average
        self._store.save(state, average=average)


@contextlib.contextmanager
def _recording(
    run: Run, store: CheckpointStore, step: int, console: Console, *, title: bool
) -> Iterator[_Record]:
    with contextlib.ExitStack() as stack:
        write_events = None
        if not jax.process_index():
            write_events = stack.enter_context(_event_writer(run.workdir, console))
        yield _Record(run, store, step, write_events, console, title)


def describe(settings: RunSettings, state: TrainState, dataset: Dataset, console: Console) -> None:
    """Says what is about to run: populations, model size and cost."""
    network, widths = state.network, settings.stream_widths
    num_snippets = settings.config.num_snippets
    lines = [
        f"{title}: {split.population}"
        for title, split in (("training", dataset.train), ("test", dataset.test))
    ]
    streams = ", ".join(f"{name} ({width})" for name, width in widths.items())
    macs = count_macs(network, widths, num_snippets)
    lines += [
        f"{len(settings.info.classes)} classes; streams {streams}; {_snippet_time(settings.info)}",
        f"model: {count_parameters(state.params) / 1e6:.3f} M parameters, "
        f"{macs / 1e9:.3f} GMACs for {num_snippets} snippets",
    ]
    for line in lines:
        console.print(line, highlight=False)


def _snippet_time(info: DatasetInfo) -> str:
    if info.rescaled:
        return "snippets as long as the video's duration tells"
    return f"one snippet every {info.seconds_per_snippet:g} s"


def _report_every(eval_every: int) -> int:
    """Steps between progress reports: about 10, and a divisor of ``eval_every``."""
    return max(d for d in range(1, 11) if eval_every % d == 0)


@contextlib.contextmanager
def _progress(console: Console, title: str, step: int, num_steps: int) -> Iterator[Any]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(
            title, total=num_steps, completed=step, status="compiling" if step < num_steps else ""
        )

        def show(step: int, loss: float, best: Sequence[float | None]) -> None:
            known = [b for b in best if b is not None]
            mean = f"  best mAP {100 * sum(known) / len(known):.1f} %" if known else ""
            status = f"loss {loss:.3f}{mean}"
            progress.update(task, completed=step, status=status)

        yield show


@contextlib.contextmanager
def _event_writer(workdir: Workdir, console: Console) -> Iterator[Any]:
    """Writes TensorBoard events, or says once that the package for it is not installed."""
    try:
        import tensorboardX  # optional
    except ImportError:
        console.print("no TensorBoard events: tensorboardX is not installed (extra 'plots')")
        yield lambda row: None
        return
    with tensorboardX.SummaryWriter(str(workdir.path / "events")) as writer:

        def write(row: Mapping[str, Any]) -> None:
            for name, value in row["losses"].items():
                writer.add_scalar(f"train/{name}", value, row["step"])
            for tiou, value in zip(row["tiou"], row["map"]):
                writer.add_scalar(f"test/mAP_{tiou:g}", value, row["step"])
            writer.add_scalar("test/average", row["average"], row["step"])
            writer.flush()

        yield write
