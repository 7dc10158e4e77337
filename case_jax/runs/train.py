"""Training in a workdir: evaluate meanwhile, keep the best, resume where it stopped; one seed or many."""

import contextlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import NamedTuple

import jax
from jax.sharding import Mesh
from rich.console import Console

from case_jax.commands.progress import Show, progress_line
from case_jax.data.dataset import Dataset
from case_jax.data.info import DatasetInfo
from case_jax.errors import InputError
from case_jax.evaluator import Evaluation, Evaluator
from case_jax.method.network import count_macs, count_parameters
from case_jax.runs import record as recorded
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.record import Record
from case_jax.runs.settings import RunSettings
from case_jax.runs.signals import Interrupted, Interruption, noting_signals
from case_jax.runs.workdir import Workdir
from case_jax.training import parallel
from case_jax.training.loop import Chunk, fit
from case_jax.training.state import TrainState, select_seed, stack_seeds

__all__ = ["Hardware", "Run", "describe", "train"]

# Where workers end, a signal to all processes may be why: seconds until we must have had it, too.
_GRACE = 1.0


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
    """Trains all runs at once to ``num_steps``; what was interrupted goes on where it was saved.

    Runs that are there already are left as they are.

    An evaluation writes `predictions.json` if it is the best one, then `history.jsonl` (the losses on the
    way), its line in `metrics.jsonl`, and then the checkpoint. A run that was killed in between goes back to
    the checkpoint before, drops the lines after it, and comes to the same result again.

    At Ctrl-C or SIGTERM training stops at the next report. Its state is saved in `interrupted/`, apart from
    the evaluated checkpoints, and `history.jsonl` is written up to there; the next evaluation removes it.

    Where there are several hosts, every one of them calls this; the first one evaluates and writes. A signal
    does not reach them at the same step, so it ends them without saving.

    Args:
        runs: of the same settings but for their seeds.
        dataset: on what.
        hardware: where.
        console: for progress.
        title: what the progress line calls it.
        narrate: whether to say what runs, and every evaluation, in lines of their own.

    Raises:
        InputError: if some runs have trained and others have not, another training is writing to a workdir,
            or none of its checkpoints can be restored.
        Interrupted: by a signal; it says where the runs go on.
    """
    settings = runs[0].settings
    num_steps = settings.config.num_steps
    with contextlib.ExitStack() as stack:
        interruption = stack.enter_context(noting_signals(patient=jax.process_count() == 1))
        if not jax.process_index():
            for run in runs:
                stack.enter_context(run.workdir.exclusive())
        stores = [stack.enter_context(CheckpointStore(run.workdir.checkpoints)) for run in runs]
        unfinished = [i for i, store in enumerate(stores) if num_steps not in store.steps]
        for i in set(range(len(runs))).difference(unfinished):
            recorded.forget_interrupted(runs[i].workdir)  # of no use any more
        if unfinished:  # otherwise what is there is described once more
            runs, stores = [runs[i] for i in unfinished], [stores[i] for i in unfinished]
        start = _start(runs, stores, hardware.mesh, console)
        said = console if narrate else Console(quiet=True)
        describe(settings, _one_seed(start.state, 0), dataset, said)
        if start.step:
            said.print(f"going on from step {start.step}")
        step = start.step
        if unfinished or step < num_steps:  # the last checkpoint may have turned out to be damaged
            records = [
                stack.enter_context(
                    recorded.recording(
                        *run,
                        store,
                        said,
                        evaluated=start.evaluated,
                        step=start.step,
                        title=f"seed {run.settings.seed:>3}  " if len(runs) > 1 else "",
                    )
                )
                for run, store in zip(runs, stores)
            ]
            evaluator = stack.enter_context(_evaluator(settings, dataset, hardware))
            show = stack.enter_context(progress_line(console, title, start.step, num_steps))
            reports = stack.enter_context(contextlib.closing(_fit(start.state, dataset, hardware, settings)))
            step, state = _train(start, reports, settings, records, evaluator, show, interruption)
            if interruption.noted() and step > max(start.step, records[0].evaluated_step):
                _save_interrupted(runs, stores, records, state)
        if interruption.noted():
            outcome = "saved; the same command goes on" if step else "the same command begins anew"
            message = f"interrupted at step {step} of {num_steps}: {outcome}"
            raise Interrupted(interruption.signal, message)


def _fit(
    state: TrainState, dataset: Dataset, hardware: Hardware, settings: RunSettings
) -> Generator[Chunk, None, None]:
    on_device, train = hardware.on_device, dataset.train
    return fit(
        state,
        train.pack(settings.info.streams, settings.config.feature_dtype)
        if on_device
        else [video.features for video in train.videos],
        train.video_labels(settings.info.classes),
        report_every=_report_every(settings.eval_every),
        mesh=hardware.mesh,
        on_device=on_device,
        num_workers=hardware.num_workers,
    )


def _train(
    start: "_Start",
    reports: Iterator[Chunk],
    settings: RunSettings,
    records: Sequence[Record],
    evaluator: Evaluator | None,
    show: Show,
    interruption: Interruption,
) -> tuple[int, TrainState]:
    """Trains and evaluates to the end, or until interrupted: where to go on, as a step and its state."""

    def is_due(step: int) -> bool:
        return step > start.evaluated and (
            step % settings.eval_every == 0 or step == settings.config.num_steps
        )

    def show_all() -> None:
        show(step, metrics, [r.last for r in records], [r.best for r in records])

    step, state, metrics = start.step, start.state, {}
    pending = None
    try:
        if is_due(step) and not interruption.noted():  # it was interrupted before this evaluation
            pending = _finish_if_done(_Pending(step, state, records, evaluator))
        for report in _until_interrupted(reports, interruption):
            step, state, metrics = report.step, report.state, report.metrics
            for seed, record in enumerate(records):
                record.add(_one_seed_report(report, seed))
            pending = _finish_if_done(pending)
            show_all()
            if is_due(step) and not interruption.noted():
                if pending is not None:
                    pending = pending.finish()
                pending = _finish_if_done(_Pending(step, state, records, evaluator))
        if pending is not None:
            pending.finish()
        show_all()
    except BrokenProcessPool:
        if not interruption.noted(within=_GRACE):
            raise
        if pending is not None:  # its evaluation is lost, and has to be done again
            step, state = pending.step, pending.state
    return step, state


def _until_interrupted(reports: Iterator[Chunk], interruption: Interruption) -> Iterator[Chunk]:
    while not interruption.noted():
        try:
            report = next(reports)
        except StopIteration:
            return
        except RuntimeError:  # so does grain call it that a worker was ended
            if not interruption.noted(within=_GRACE):
                raise
            return
        yield report


def _save_interrupted(
    runs: Sequence[Run], stores: Sequence[CheckpointStore], records: Sequence[Record], state: TrainState
) -> None:
    """Saves what training goes on from, after all that the evaluations before it have written."""
    for store in stores:
        store.wait()
    for seed, (run, record) in enumerate(zip(runs, records)):
        of_seed = _one_seed(state, seed)
        record.write_history(int(of_seed.step))
        recorded.save_interrupted(run.workdir, of_seed)


class _Start(NamedTuple):
    """Where training begins or goes on."""

    state: TrainState  # of all runs, on every device
    step: int  # of that state
    evaluated: int  # the latest step that all runs have evaluated, at most ``step``; 0 for none


def _start(runs: Sequence[Run], stores: Sequence[CheckpointStore], mesh: Mesh, console: Console) -> _Start:
    """The latest step that all runs have saved."""
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
    evaluated = max(common, default=0)
    interrupted = set.intersection(*(set(recorded.interrupted_steps(run.workdir)) for run in runs))
    for step in sorted(interrupted, reverse=True):
        if not furthest < step <= runs[0].settings.config.num_steps:
            continue
        try:
            states = [
                recorded.restore_interrupted(run.workdir, state, step, evaluated)
                for run, state in zip(runs, fresh)
            ]
            return _Start(_stacked(states), step, evaluated)
        except InputError as error:
            console.print(f"not used: {error}", highlight=False)
    states, evaluated = _restore_evaluated(stores, sorted(common, reverse=True), fresh, console)
    return _Start(_stacked(states), evaluated, evaluated)


def _restore_evaluated(
    stores: Sequence[CheckpointStore], steps: Sequence[int], fresh: Sequence[TrainState], console: Console
) -> tuple[Sequence[TrainState], int]:
    """The states of the latest of some steps that can be restored, and it; fresh ones where there are none.

    Checkpoints that turn out to be damaged are set aside, unless all are.
    """
    damaged: list[tuple[CheckpointStore, int, InputError]] = []
    for step in steps:
        states = []
        for store, state in zip(stores, fresh):
            try:
                states.append(store.restore(state, step))
            except InputError as error:
                damaged.append((store, step, error))
                break
        if len(states) < len(fresh):
            if jax.process_count() > 1:  # the others may have restored it
                break
            continue
        for store, broken, error in damaged:
            console.print(f"not used: {error}; kept as {store.set_aside(broken)}", highlight=False)
        return states, step
    if damaged:
        raise damaged[0][2]
    return fresh, 0


def _stacked(states: Sequence[TrainState]) -> TrainState:
    return states[0] if len(states) == 1 else stack_seeds(states)


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


def _one_seed_report(report: Chunk, seed: int) -> Chunk:
    if not report.state.step.ndim:
        return report
    return report._replace(metrics={name: float(v[seed]) for name, v in report.metrics.items()})


class _Pending:
    """The evaluation of a step, whose numpy stage may still be going on."""

    def __init__(self, step: int, state: TrainState, records: Sequence[Record], evaluator: Evaluator | None):
        self.step, self.state = step, state
        self._records, self._evaluator = records, evaluator
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
        detections = [evaluation.detections() for evaluation in self._evaluations]
        for i, (record, state, losses) in enumerate(zip(self._records, self._states, self._losses)):
            if self._evaluator is None:
                record.follow(state)
            else:
                record.evaluated(self.step, state, losses, detections[i], self._evaluator)


def _finish_if_done(pending: _Pending | None) -> _Pending | None:
    """Records an evaluation that has come to its end; several hosts must agree on when, so they wait."""
    if pending is not None and jax.process_count() == 1 and pending.done():
        return pending.finish()
    return pending


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
