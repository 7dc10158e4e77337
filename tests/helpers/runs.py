"""A small training in this process that a test can interrupt and resume, and comparisons of runs."""

import contextlib
import dataclasses
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.data.info import DatasetInfo
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.runs import train as training
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.hardware import Hardware
from case_jax.runs.narrator import Narrator
from case_jax.runs.run import Run
from case_jax.runs.settings import RunSettings
from case_jax.runs.signals import Interrupted, Interruption
from case_jax.runs.workdir import Workdir
from case_jax.training.parallel import make_mesh

__all__ = [
    "CONFIG",
    "EVAL_EVERY",
    "FILES",
    "SETTINGS",
    "TOGETHER",
    "Listener",
    "Training",
    "assert_close_run",
    "assert_same_run",
    "contents",
    "make_dataset",
    "saved_steps",
]

CONFIG = CaseConfig(num_snippets=16, hidden_dim=8, num_clusters=4, batch_size=4, num_steps=30)
EVAL_EVERY = 12  # so chunks of steps end at 6, 12, 18, 24 and 30, and evaluations come at 12, 24 and 30
TOGETHER = (3, 4)  # seeds that train at once
FILES = {
    *("config.json", "training_features.json", "metrics.jsonl", "history.jsonl", "checkpoints"),
    *("predictions.json", "events"),
}

# Of a run that is never trained.
SETTINGS = RunSettings(
    CaseConfig(num_snippets=8, hidden_dim=4, num_clusters=2, batch_size=2),
    DatasetInfo(classes=("Jump", "Run")),
    {"rgb": 3, "flow": 3},
    seed=0,
    eval_every=1,
    tiou=(0.5,),
)


def make_dataset() -> Dataset:
    """Eight videos to train on and four to test on, of two classes."""
    return make_synthetic_dataset(0, SyntheticSpec(num_train=8, num_test=4, num_classes=2, width=8))


class Listener(Narrator):
    """Keeps what a run says, and acts when a chunk of steps has ended.

    Attributes:
        lines: what was said.
        shown: the arguments of `Show` after each chunk.
    """

    def __init__(self, after_chunk=lambda step: None):
        self.lines: list[str] = []
        self.shown: list[tuple] = []
        self._after_chunk = after_chunk

    def say(self, text):
        self.lines.append(text)

    @contextlib.contextmanager
    def progress(self, title, step, num_steps) -> Iterator:
        def show(step, metrics, last, best):
            self.shown.append((step, metrics, last, best))
            self._after_chunk(step)

        yield show


class Training:
    """Calls of `train` in this process, on one device. A signal comes where a test says, and only there.

    Attributes:
        runs: one a seed, in the folders seed_3, seed_4 ...
        interruption: of the next call.
    """

    def __init__(self, folder: Path, dataset: Dataset, *, seeds: Sequence[int] = (3,), **options):
        """Begins the runs.

        Args:
            folder: holds a folder for each seed.
            dataset: to train and test on.
            seeds: seeds that train together.
            **options: other fields of `Hardware`.
        """
        settings = [
            RunSettings.of(CONFIG, dataset, seed=seed, eval_every=EVAL_EVERY, tiou=[0.1, 0.3])
            for seed in seeds
        ]
        self.runs = [Run(s, Workdir(folder / f"seed_{s.seed}"), dataset) for s in settings]
        self.interruption = Interruption()
        self._options = options

    @property
    def workdirs(self) -> list[Workdir]:
        return [run.workdir for run in self.runs]

    @property
    def workdir(self) -> Workdir:
        """The folder of the only seed."""
        (run,) = self.runs
        return run.workdir

    def change(self, **settings) -> None:
        """Changes fields of the method's settings for the next call."""
        self.runs = [
            dataclasses.replace(
                run,
                settings=run.settings._replace(config=dataclasses.replace(run.settings.config, **settings)),
            )
            for run in self.runs
        ]

    def listen(self, *, stop_at: int | None = None) -> Listener:
        """Trains to the end, or until a signal that comes at the end of a chunk of steps."""

        def after_chunk(step):
            if step == stop_at:
                self.interruption.note(signal.SIGINT)

        listener = Listener(after_chunk)
        for run in self.runs:
            run.workdir.begin(run.settings)
        hardware = Hardware(make_mesh(jax.devices()[:1]), **self._options)
        noting = contextlib.nullcontext(self.interruption)
        try:
            with mock.patch.object(training, "noting_signals", return_value=noting):
                training.train(self.runs, hardware, listener)
        finally:
            self.interruption = Interruption()
        return listener

    def train(self) -> list[str]:
        """Trains to the end; returns what was said."""
        return self.listen().lines

    def interrupt(self, stop_at: int | None, *, saved: int | None = None) -> None:
        """Trains up to a signal at the end of a chunk of steps (if a test does not send it otherwise).

        Args:
            stop_at: the step that the chunk ends with.
            saved: the step that must be saved, if that is another one.
        """
        with pytest.raises(Interrupted) as raised:
            self.listen(stop_at=stop_at)
        step = stop_at if saved is None else saved
        assert str(raised.value) == f"interrupted at step {step} of 30: saved; the same command goes on"
        assert raised.value.signal == signal.SIGINT


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder, TensorBoard's events aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "events"
    }


def saved_steps(folder: Path) -> set[int]:
    """Steps of the checkpoints in a folder, which must hold nothing else."""
    return {int(path.name) for path in folder.iterdir()} if folder.exists() else set()


def assert_same_run(found: Workdir, expected: Workdir) -> None:
    """The same files to the byte, the same checkpoints to the bit, and nothing else."""
    names = {path.name for path in expected.path.iterdir()}
    assert {path.name for path in found.path.iterdir()} == names
    for name in names - {"checkpoints", "events"}:
        assert (found.path / name).read_bytes() == (expected.path / name).read_bytes(), name
    steps = saved_steps(expected.checkpoints)
    assert saved_steps(found.checkpoints) == steps
    template = expected.settings().fresh_state()
    with (
        CheckpointStore(found.checkpoints, read_only=True) as ours,
        CheckpointStore(expected.checkpoints, read_only=True) as theirs,
    ):
        assert ours.best_step == theirs.best_step
        for step in steps:
            pairs = zip(_leaves(ours, template, step), _leaves(theirs, template, step), strict=True)
            assert all(a.tobytes() == b.tobytes() for a, b in pairs), step


def assert_close_run(found: Workdir, expected: Workdir, *, rtol: float = 1e-4) -> None:
    """The same evaluations and checkpoints to float tolerance."""
    assert found.settings() == expected.settings()
    for ours, theirs in zip(found.metrics(), expected.metrics(), strict=True):
        assert (ours["step"], ours["tiou"]) == (theirs["step"], theirs["tiou"])
        assert ours["losses"] == pytest.approx(theirs["losses"], rel=rtol, abs=1e-6)
        np.testing.assert_allclose(ours["map"], theirs["map"], rtol=rtol)
        assert ours["average"] == pytest.approx(theirs["average"], rel=rtol)
    for which in ("last", "best"):
        ours, theirs = found.load(which)[1], expected.load(which)[1]
        assert int(ours.step) == int(theirs.step)
        for a, b in zip(jax.tree.leaves(ours.params), jax.tree.leaves(theirs.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def _leaves(store: CheckpointStore, template, step: int) -> list[np.ndarray]:
    state = store.restore(template, step)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))]
