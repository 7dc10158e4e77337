"""Training in a workdir: evaluate meanwhile, keep the best, resume where it stopped; one seed or many."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

import jax

from case_jax.data.dataset import Dataset
from case_jax.data.info import DatasetInfo
from case_jax.evaluator import Evaluation, Evaluator
from case_jax.method.cost import count_macs, count_parameters
from case_jax.runs import interrupted
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.hardware import Hardware, in_first_process
from case_jax.runs.lock import exclusive
from case_jax.runs.narrator import Narrator, Show
from case_jax.runs.record import Record, recording
from case_jax.runs.settings import RunSettings
from case_jax.runs.signals import Interrupted, Interruption, noting_signals
from case_jax.runs.start import Start, find_start
from case_jax.runs.training_features import note_features
from case_jax.training import parallel
from case_jax.training.loop import Chunk, fit
from case_jax.training.state import TrainState, select_seed
from case_jax.words import counted

if TYPE_CHECKING:
    from case_jax.runs.run import Run

__all__ = ["describe", "train"]

# A dead worker may mean that the whole process group was signalled. Seconds to wait for our own signal.
_GRACE = 1.0


def train(
    runs: Sequence[Run],
    hardware: Hardware,
    narrator: Narrator,
    *,
    title: str = "training",
    narrate: bool = True,
) -> None:
    """Trains all runs at once to ``num_steps``; an interrupted training goes on where it was saved.

    Runs that have finished already are left as they are.

    An evaluation writes `predictions.json` if it is the best one, then `history.jsonl` (the losses on the
    way), its line in `metrics.jsonl`, and then the checkpoint. A run that was killed in between goes back to
    the checkpoint before, drops the lines after it, and comes to the same result again.

    At Ctrl-C or SIGTERM training stops after the chunk of steps that is running. Its state is saved in
    `interrupted/`, apart from the evaluated checkpoints, and `history.jsonl` is written up to there; the next
    evaluation removes the state.

    Where there are several hosts, every one of them calls this; the first one evaluates and writes. A signal
    does not reach them at the same step, so it ends them without saving.

    Args:
        runs: runs on the same data set, with the same settings but for their seeds; they must have begun.
        hardware: devices and worker processes.
        narrator: is told how far training is.
        title: what the progress is called.
        narrate: whether the narrator is also told what runs, and of every evaluation.

    Raises:
        InputError: if some runs have trained and others have not, another training is writing to a workdir,
            no checkpoint of a run can be restored, or a run has trained on other features before.
        Interrupted: by a signal; it says where the runs go on.
        NonFiniteLossError: at the first metric that is not finite.
    """
    num_steps = runs[0].settings.config.num_steps
    with contextlib.ExitStack() as stack:
        interruption = stack.enter_context(noting_signals(patient=jax.process_count() == 1))
        if not jax.process_index():
            for run in runs:
                stack.enter_context(exclusive(run.workdir.path))
        stores = [stack.enter_context(CheckpointStore(run.workdir.checkpoints)) for run in runs]
        unfinished = [i for i, store in enumerate(stores) if num_steps not in store.steps]
        for i in set(range(len(runs))).difference(unfinished):
            interrupted.forget(runs[i].workdir)  # it is of no use any more
        if unfinished:  # otherwise the finished runs are only described
            runs, stores = [runs[i] for i in unfinished], [stores[i] for i in unfinished]
        start = find_start(runs, stores, hardware.mesh, narrator)
        said = narrator if narrate else Narrator()
        for line in describe(runs[0].settings, _one_seed(start.state, 0), runs[0].dataset):
            said.say(line)
        if start.step:
            said.say(f"going on from step {start.step}")
        step = start.step
        if unfinished or step < num_steps:  # the last checkpoint may have turned out to be damaged
            in_first_process(lambda: note_features(runs, going_on=start.step > 0))
            records = [
                stack.enter_context(_recording(run, store, said, start, one_of_many=len(runs) > 1))
                for run, store in zip(runs, stores)
            ]
            evaluator = stack.enter_context(_evaluator(runs[0], hardware))
            show = stack.enter_context(narrator.progress(title, start.step, num_steps))
            chunks = stack.enter_context(contextlib.closing(_fit(start.state, runs[0], hardware)))
            step, state = _train(start, chunks, runs[0].settings, records, evaluator, show, interruption)
            if interruption.noted() and step > max(start.step, records[0].evaluated_step):
                _save_interrupted(runs, stores, records, state)
        if interruption.signal is not None:
            outcome = "saved; the same command goes on" if step else "the same command begins anew"
            message = f"interrupted at step {step} of {num_steps}: {outcome}"
            raise Interrupted(interruption.signal, message)


def _recording(
    run: Run, store: CheckpointStore, narrator: Narrator, start: Start, *, one_of_many: bool
) -> contextlib.AbstractContextManager[Record]:
    return recording(
        run.settings,
        run.workdir,
        store,
        narrator,
        evaluated=start.evaluated,
        step=start.step,
        title=f"seed {run.settings.seed:>3}  " if one_of_many else "",
    )


def _fit(state: TrainState, run: Run, hardware: Hardware) -> Generator[Chunk, None, None]:
    settings, training = run.settings, run.dataset.train
    return fit(
        state,
        training.pack(settings.info.streams, settings.config.feature_dtype)
        if hardware.on_device
        else [video.features for video in training.videos],
        training.video_labels(settings.info.classes),
        report_every=_report_every(settings.eval_every),
        mesh=hardware.mesh,
        on_device=hardware.on_device,
        num_workers=hardware.num_workers,
    )


def _report_every(eval_every: int) -> int:
    """Steps in a chunk: about 10, and a divisor of ``eval_every``."""
    return max(d for d in range(1, 11) if eval_every % d == 0)


def _train(
    start: Start,
    chunks: Iterator[Chunk],
    settings: RunSettings,
    records: Sequence[Record],
    evaluator: Evaluator | None,
    show: Show,
    interruption: Interruption,
) -> tuple[int, TrainState]:
    """Trains and evaluates to the end, or until a signal comes.

    Returns:
        Where to go on: a step and its state.
    """

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
            pending = _unless_done(_Pending(step, state, records, evaluator))
        for chunk in _until_interrupted(chunks, interruption):
            step, state, metrics = chunk.step, chunk.state, chunk.metrics
            for seed, record in enumerate(records):
                record.add(_chunk_of_one_seed(chunk, seed))
            pending = _unless_done(pending)
            show_all()
            if is_due(step) and not interruption.noted():
                if pending is not None:
                    pending.finish()
                pending = _unless_done(_Pending(step, state, records, evaluator))
        if pending is not None:
            pending.finish()
        show_all()
    except BrokenProcessPool:
        if not interruption.noted(within=_GRACE):
            raise
        if pending is not None:  # its evaluation is lost, and has to be done again
            step, state = pending.step, pending.state
    return step, state


def _until_interrupted(chunks: Iterator[Chunk], interruption: Interruption) -> Iterator[Chunk]:
    while not interruption.noted():
        try:
            chunk = next(chunks)
        except StopIteration:
            return
        except RuntimeError:  # grain raises it for a worker that was ended
            if not interruption.noted(within=_GRACE):
                raise
            return
        yield chunk


def _save_interrupted(
    runs: Sequence[Run], stores: Sequence[CheckpointStore], records: Sequence[Record], state: TrainState
) -> None:
    """Saves the state that training goes on from, after everything that the evaluations before it wrote."""
    for store in stores:
        store.wait()
    for seed, (run, record) in enumerate(zip(runs, records)):
        of_seed = _one_seed(state, seed)
        record.write_history(int(of_seed.step))
        interrupted.save(run.workdir, of_seed)


def _evaluator(run: Run, hardware: Hardware) -> contextlib.AbstractContextManager[Evaluator | None]:
    """The evaluator in the first process; the others have nothing to evaluate."""
    if jax.process_index():
        return contextlib.nullcontext()
    return Evaluator(
        run.dataset.test,
        run.settings.info,
        run.settings.config,
        num_workers=hardware.eval_workers,
        on_device=hardware.on_device,
    )


def _one_seed(state: TrainState, seed: int) -> TrainState:
    return select_seed(state, seed) if state.step.ndim else state


def _chunk_of_one_seed(chunk: Chunk, seed: int) -> Chunk:
    if not chunk.state.step.ndim:
        return chunk
    return chunk._replace(metrics={name: float(v[seed]) for name, v in chunk.metrics.items()})  # type: ignore[index]


class _Pending:
    """The evaluation of a step, whose numpy stage may still be going on in worker processes."""

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
        """Waits for the evaluation, and records it."""
        detections = [evaluation.detections() for evaluation in self._evaluations]
        for i, (record, state, losses) in enumerate(zip(self._records, self._states, self._losses)):
            if self._evaluator is None:
                record.follow(state)
            else:
                health = self._evaluations[i].health
                record.evaluated(self.step, state, losses, detections[i], health, self._evaluator)


def _unless_done(pending: _Pending | None) -> _Pending | None:
    """Records an evaluation that has come to its end, and returns it if it has not.

    Several hosts must agree on when an evaluation is recorded, so there it stays pending until it is due.
    """
    if pending is not None and jax.process_count() == 1 and pending.done():
        pending.finish()
        return None
    return pending


def describe(settings: RunSettings, state: TrainState, dataset: Dataset) -> list[str]:
    """Lines that say what is about to run: the videos, the model's size and its cost.

    Args:
        settings: of the run.
        state: of one seed.
        dataset: what the run trains and tests on.
    """
    training = dataset.train
    widths, num_snippets = settings.stream_widths, settings.config.num_snippets
    streams = ", ".join(f"{name} ({width})" for name, width in widths.items())
    macs = count_macs(state.network, widths, num_snippets)
    return [
        f"training: {training.population}",
        f"test: {dataset.test.population}",
        f"{counted(len(settings.info.classes), 'class')}; streams {streams}; {_snippet_time(settings.info)}",
        f"model: {count_parameters(state.params) / 1e6:.3f} M parameters, "
        f"{macs / 1e9:.3f} GMACs for {num_snippets} snippets",
        *([f"note: {training.missing_contrast}"] if training.missing_contrast else []),
    ]


def _snippet_time(info: DatasetInfo) -> str:
    if info.rescaled:
        return "snippets as long as the video's duration tells"
    return f"one snippet every {info.seconds_per_snippet:g} s"
