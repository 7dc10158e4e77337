"""A run that is interrupted, at any moment, goes on to the very files of one that is not."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from case_jax.config import CaseConfig
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.evaluator import Evaluation, Evaluator
from case_jax.runs import train as training
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.settings import RunSettings
from case_jax.runs.signals import Interrupted, Interruption, noting_signals
from case_jax.runs.workdir import Workdir
from case_jax.training.parallel import make_mesh
from tests.conftest import ROOT
from tests.experiments.conftest import SMALL

CONFIG = CaseConfig(num_snippets=16, hidden_dim=8, num_clusters=4, batch_size=4, num_steps=30)
EVAL_EVERY = 14  # so reports come at 7, 14, 21, 28 and 30, evaluations at 14, 28 and 30
SEEDS = (3, 4)


@pytest.fixture(autouse=True)
def usual_dtypes(strict_dtypes):
    """Training takes steps of Adam, which raises a float to an integer."""
    with jax.numpy_dtype_promotion("standard"):
        yield


class Session:
    """Calls of `train` in this process, which a signal interrupts where a test says."""

    def __init__(self, monkeypatch, path: Path, seeds=SEEDS[:1], config=CONFIG):
        self._monkeypatch, self._seeds = monkeypatch, seeds
        self._dataset = make_synthetic_dataset(
            0, SyntheticSpec(num_train=8, num_test=4, num_classes=2, width=8)
        )
        self.workdirs = [Workdir(path / f"seed_{seed}") for seed in seeds]
        self.interruption = Interruption()
        self._fit = training.fit
        monkeypatch.setattr(training, "noting_signals", lambda **_: contextlib.nullcontext(self.interruption))
        self.resume(config)

    def resume(self, config=CONFIG) -> None:
        """The same command again, or one of other ``num_steps``."""
        settings = [
            RunSettings.of(config, self._dataset, seed=seed, eval_every=EVAL_EVERY, tiou=[0.1, 0.3])
            for seed in self._seeds
        ]
        self._runs = [training.Run(*run) for run in zip(settings, self.workdirs)]
        self.interruption = Interruption()

    def train(self, *, stop_at: int | None = None) -> str:
        """Trains, with a signal during the report of a step; what it prints."""

        def fit(*args, **kwargs):
            for report in self._fit(*args, **kwargs):
                if report.step == stop_at:
                    self.interruption.note(signal.SIGINT)
                yield report

        self._monkeypatch.setattr(training, "fit", fit)
        for run in self._runs:
            run.workdir.begin(run.settings)
        console = Console(file=io.StringIO(), soft_wrap=True, markup=False)
        training.train(self._runs, self._dataset, training.Hardware(make_mesh(jax.devices()[:1])), console)
        return console.file.getvalue()

    def interrupt(self, stop_at: int, *, saved: int | None = None) -> None:
        """Like `train`, but it must be interrupted, and saved at that step."""
        with pytest.raises(Interrupted) as raised:
            self.train(stop_at=stop_at)
        step = stop_at if saved is None else saved
        assert str(raised.value) == f"interrupted at step {step} of 30: saved; the same command goes on"
        assert raised.value.signal == signal.SIGINT
        self.resume()


@pytest.fixture
def session(monkeypatch, tmp_path) -> Session:
    return Session(monkeypatch, tmp_path / "run")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> list[Workdir]:
    """Finished runs of both seeds, trained one by one."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    with pytest.MonkeyPatch.context() as monkeypatch:
        for seed in SEEDS:
            Session(monkeypatch, folder, seeds=[seed]).train()
    return [Workdir(folder / f"seed_{seed}") for seed in SEEDS]


@pytest.fixture(scope="module")
def uninterrupted_together(tmp_path_factory) -> list[Workdir]:
    """The same seeds, trained at once."""
    folder = tmp_path_factory.mktemp("together")
    with pytest.MonkeyPatch.context() as monkeypatch:
        session = Session(monkeypatch, folder, seeds=SEEDS)
        session.train()
    return session.workdirs


@pytest.mark.parametrize("step", [7, 14, 21, 28, 30])
def test_interrupted_at_any_report(session, uninterrupted, step):
    session.interrupt(step)
    (workdir,) = session.workdirs
    assert saved_steps(workdir.interrupted) == {step}
    assert [row["step"] for row in workdir.metrics()] == [e for e in (14, 28) if e < step]
    assert saved_steps(workdir.checkpoints) == {e for e in (14, 28) if e < step}
    assert [row["step"] for row in workdir.history()] == [r for r in (7, 14, 21, 28, 30) if r <= step]
    assert f"going on from step {step}\n" in session.train()
    assert_same_run(workdir, uninterrupted[0])


def test_interrupted_again_and_again(session, uninterrupted):
    for step in (7, 14, 21, 28, 30):
        session.interrupt(step)
    session.train()
    assert_same_run(session.workdirs[0], uninterrupted[0])


def test_interrupted_while_the_device_is_ahead(session, uninterrupted, monkeypatch):
    """As on an accelerator, where the next steps run already when a report comes."""
    monkeypatch.setattr("case_jax.training.loop._runs_beside_the_host", lambda mesh: True)
    for step in (7, 28):
        session.interrupt(step)
    session.train()
    assert_same_run(session.workdirs[0], uninterrupted[0])


@pytest.mark.parametrize("before", [0, 7, 14])
def test_interrupted_before_any_step(session, uninterrupted, before):
    """While it reads or compiles, that is, also of a run that goes on and has an evaluation to do."""
    if before:
        session.interrupt(before)
    session.interruption.note(signal.SIGTERM)
    with pytest.raises(Interrupted) as raised:
        session.train()
    goes_on = "saved; the same command goes on" if before else "the same command begins anew"
    assert str(raised.value) == f"interrupted at step {before} of 30: {goes_on}"
    assert raised.value.signal == signal.SIGTERM
    session.resume()
    session.train()
    assert_same_run(session.workdirs[0], uninterrupted[0])


def test_a_pending_evaluation_is_finished(session, uninterrupted, monkeypatch):
    """Of step 14, by workers that have not come to its end when training is at step 21."""
    with monkeypatch.context() as patched:
        patched.setattr(Evaluation, "done", lambda self: False)
        session.interrupt(21)
    (workdir,) = session.workdirs
    assert [row["step"] for row in workdir.metrics()] == [14]
    assert (saved_steps(workdir.checkpoints), saved_steps(workdir.interrupted)) == ({14}, {21})
    session.train()
    assert_same_run(workdir, uninterrupted[0])


@pytest.mark.parametrize("step", [14, 30])
def test_interrupted_during_an_evaluation(session, uninterrupted, monkeypatch, step):
    with monkeypatch.context() as patched:
        start = Evaluator.start

        def start_and_note(self, state):
            if int(state.step) == step:
                session.interruption.note(signal.SIGINT)
            return start(self, state)

        patched.setattr(Evaluator, "start", start_and_note)
        session.interrupt(-1, saved=step)
    (workdir,) = session.workdirs
    assert workdir.metrics()[-1]["step"] == step
    assert not workdir.interrupted.exists()
    session.train()
    assert_same_run(workdir, uninterrupted[0])


@pytest.mark.parametrize("step", [14, 21])
def test_an_evaluation_whose_workers_the_signal_ended_is_done_again(
    session, uninterrupted, monkeypatch, step
):
    """SIGTERM to all processes; training was at ``step`` with the evaluation of 14 pending."""
    with monkeypatch.context() as patched:
        patched.setattr(Evaluation, "done", lambda self: False)

        def detections(self):
            session.interruption.note(signal.SIGINT)
            raise BrokenProcessPool

        patched.setattr(Evaluation, "detections", detections)
        session.interrupt(step, saved=14)
    (workdir,) = session.workdirs
    assert (saved_steps(workdir.checkpoints), saved_steps(workdir.interrupted)) == (set(), {14})
    assert workdir.history()[-1]["step"] == 14
    session.train()
    assert_same_run(workdir, uninterrupted[0])


def test_training_whose_workers_the_signal_ended_stops_at_the_report_before(session, uninterrupted):
    fit = session._fit
    session._fit = _ending_after(21, fit, note=session.interruption.note)
    session.interrupt(-1, saved=21)
    session._fit = fit
    session.train()
    assert_same_run(session.workdirs[0], uninterrupted[0])


def _ending_after(step, fit, *, note):
    """A fit whose workers come to an end, with or without a signal."""

    def ending(*args, **kwargs):
        for report in fit(*args, **kwargs):
            yield report
            if report.step == step:
                note(signal.SIGINT)
                raise RuntimeError("worker was ended")

    return ending


def test_workers_that_end_without_a_signal_are_an_error(session):
    session._fit = _ending_after(21, session._fit, note=lambda number: None)
    with pytest.raises(RuntimeError, match="worker was ended"):
        session.train()
    assert not session.workdirs[0].interrupted.exists()


def test_many_seeds_at_once_are_saved_at_the_same_step(monkeypatch, tmp_path, uninterrupted_together):
    session = Session(monkeypatch, tmp_path, seeds=SEEDS)
    for step in (7, 28):
        session.interrupt(step)
        assert [saved_steps(workdir.interrupted) for workdir in session.workdirs] == [{step}, {step}]
    session.train()
    for found, expected in zip(session.workdirs, uninterrupted_together):
        assert_same_run(found, expected)


def test_seeds_of_which_one_is_not_saved_go_back_together(monkeypatch, tmp_path, uninterrupted_together):
    session = Session(monkeypatch, tmp_path, seeds=SEEDS)
    session.interrupt(21)
    shutil.rmtree(session.workdirs[1].interrupted)
    assert "going on from step 14\n" in session.train()
    for found, expected in zip(session.workdirs, uninterrupted_together):
        assert_same_run(found, expected)


def _cut(workdir: Workdir) -> str:
    for path in (workdir.interrupted / "21" / "default").rglob("d/*"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return CANNOT_BE_RESTORED


def _remove_all_files(workdir: Workdir) -> str:
    for path in list((workdir.interrupted / "21").rglob("*")):
        if path.is_file():
            path.unlink()
    return CANNOT_BE_RESTORED


def _cut_history(workdir: Workdir) -> str:
    workdir.write_history(workdir.history()[:-1])
    return (
        "{path}/history.jsonl: does not lead from step 14 to 21; expected the losses up to "
        "{path}/interrupted/21"
    )


CANNOT_BE_RESTORED = (
    r"{path}/interrupted/21: cannot be restored \(.+\); expected a checkpoint of this run's settings"
)


@pytest.mark.parametrize("damage", [_cut, _remove_all_files, _cut_history])
def test_what_was_saved_and_is_damaged_is_not_used(session, uninterrupted, damage):
    session.interrupt(21)
    (workdir,) = session.workdirs
    message = damage(workdir)
    printed = session.train()
    (line,) = [line for line in printed.splitlines() if line.startswith("not used: ")]
    assert re.fullmatch("not used: " + message.format(path=re.escape(str(workdir.path))), line)
    assert "going on from step 14\n" in printed
    assert_same_run(workdir, uninterrupted[0])


@pytest.mark.parametrize("again", [7, 21])
def test_a_damaged_state_is_replaced_by_the_next_one(session, uninterrupted, again):
    session.interrupt(7)
    (workdir,) = session.workdirs
    shutil.rmtree(workdir.interrupted / "7" / "default")
    session.interrupt(again)
    assert saved_steps(workdir.interrupted) == {again}
    session.train()
    assert_same_run(workdir, uninterrupted[0])


def test_a_state_that_an_evaluation_has_overtaken_is_not_used(session, uninterrupted, tmp_path):
    """As if the process had been killed between saving the evaluation and removing it."""
    session.interrupt(7)
    (workdir,) = session.workdirs
    kept = shutil.copytree(workdir.interrupted, tmp_path / "kept")
    session.interrupt(21)
    shutil.rmtree(workdir.interrupted)
    shutil.copytree(kept, workdir.interrupted)
    assert "going on from step 14\n" in session.train()
    assert_same_run(workdir, uninterrupted[0])
    shutil.copytree(kept, workdir.interrupted)
    assert "going on from step 30\n" in session.train()  # there already
    assert_same_run(workdir, uninterrupted[0])


def test_killed_in_the_evaluation_of_an_interrupted_state(session, uninterrupted):
    """Its line in metrics.jsonl is there, the checkpoint is not."""
    session.interrupt(14)
    (workdir,) = session.workdirs
    workdir.write_metrics(uninterrupted[0].metrics()[:1])
    (workdir.path / ".metrics.jsonl.k1ll3d").write_text('{"st')
    (workdir.checkpoints / "14.orbax-checkpoint-tmp").mkdir()
    session.train()
    assert_same_run(workdir, uninterrupted[0])


def test_a_run_that_is_to_be_shorter_does_not_go_on_from_beyond_its_end(session):
    session.interrupt(21)
    session.resume(CaseConfig(**{**vars(CONFIG), "num_steps": 15}))
    assert "going on from step 14\n" in session.train()
    (workdir,) = session.workdirs
    assert saved_steps(workdir.checkpoints) == {14, 15}
    assert not workdir.interrupted.exists()


def test_the_first_signal_is_noted_and_handlers_are_restored():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with contextlib.suppress(KeyboardInterrupt):
        with noting_signals() as interruption:
            assert (interruption.noted(), interruption.signal) == (False, None)
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.noted(within=60)
            assert interruption.signal == signal.SIGINT
        raise AssertionError("nobody acted upon it, and yet it was not raised")
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()


def test_a_signal_that_is_acted_upon_is_not_raised_again():
    acting = []
    with contextlib.suppress(Interrupted), noting_signals() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        acting.append(interruption.noted(within=60))
        raise Interrupted(interruption.signal)
    assert acting == [True]


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    during = []

    def in_thread():
        with noting_signals():
            during.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert during == [before]


# A main thread that is busy, and a worker that keeps the pipes open for as long as it lives.
BUSY = """
import multiprocessing, sys, time
from case_jax.runs.signals import noting_signals
if __name__ == "__main__":
    with noting_signals(patient={patient}) as interruption:
        multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,)).start()
        print("busy", flush=True)
        interruption.noted(within=600)
        print("noted", flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_everything_at_once(tmp_path, environment, number, status):
    process = _start_script(tmp_path, BUSY.format(patient=True), environment)
    _wait_for(process, "busy")
    process.send_signal(number)
    _wait_for(process, "noted")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (status, "")
    assert stderr == "interrupted again: not saved; the same command goes on from before\n"


def test_of_several_processes_the_first_signal_ends_one(tmp_path, environment):
    process = _start_script(tmp_path, BUSY.format(patient=False), environment)
    _wait_for(process, "busy")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert stderr == "interrupted: the same command goes on from the last evaluation\n"


def _start_script(folder: Path, text: str, environment: dict[str, str]) -> subprocess.Popen:
    """A script of its own, which finds the experiments though they are not installed."""
    path = folder / "script.py"
    path.write_text(text)
    return _start([str(path)], {**environment, "PYTHONPATH": str(ROOT)})


LONG = [flag for flag in SMALL if not flag.startswith("--eval_every")] + [
    "--eval_every=14",
    "--num_steps=420",
]
INTERRUPTED = re.compile(r"interrupted at step (\d+) of 420: (saved; the same command goes on)\n")


WITH_WORKERS = ["--feature_store=disk", "--num_workers=1", "--eval_workers=1"]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory, small_dataset, succeed) -> tuple[list[str], Workdir, str]:
    """Flags, the workdir of a run of 420 steps, and what it printed."""
    workdir = tmp_path_factory.mktemp("long") / "workdir"
    flags = [f"--data_dir={small_dataset}", *LONG]
    return flags, Workdir(workdir), succeed("thumos", *flags, f"--workdir={workdir}")


@pytest.mark.parametrize(
    "where, number, status",
    [
        ([], signal.SIGINT, 130),
        pytest.param(WITH_WORKERS, signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(WITH_WORKERS, signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_all_processes_interrupted_at_whatever_step(
    long_run, tmp_path, environment, succeed, where, number, status
):
    flags, expected, printed = long_run
    workdir = Workdir(tmp_path / "workdir")
    command = ["-m", "experiments.thumos", *flags, *where, f"--workdir={workdir.path}"]
    # As soon as it says what it trains on; after the first evaluation; after a later one.
    for line in ("model:", "step ", "step "):
        process = _start(command, environment)
        _wait_for(process, line)
        os.killpg(process.pid, number)  # as Ctrl-C does: workers included
        stdout, stderr = process.communicate(timeout=300)
        assert process.returncode == status, stderr
        assert re.fullmatch(INTERRUPTED, stderr) or stderr == (
            "interrupted at step 0 of 420: the same command begins anew\n"
        )
        assert "\x1b" not in stdout
    assert_same_table(succeed("thumos", *flags, *where, f"--workdir={workdir.path}"), printed)
    assert_same_run(workdir, expected)


def test_of_two_processes_that_train_together_one_is_interrupted(long_run, tmp_path, environment, free_port):
    flags = [
        *long_run[0],
        f"--workdir={tmp_path}",
        f"--coordinator=localhost:{free_port}",
        "--num_processes=2",
    ]
    processes = [
        _start(["-m", "experiments.thumos", *flags, f"--process_id={i}"], environment) for i in range(2)
    ]
    try:
        _wait_for(processes[0], "step ")
        processes[0].send_signal(signal.SIGINT)
        _, stderr = processes[0].communicate(timeout=60)
        assert processes[0].returncode == 130
        assert stderr == "interrupted: the same command goes on from the last evaluation\n"
        assert not (tmp_path / "interrupted").exists()
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _start(arguments: list[str], environment: dict[str, str]) -> subprocess.Popen:
    """A Python process in a group of its own."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for(process: subprocess.Popen, beginning: str) -> None:
    """Reads up to a line of standard output."""
    for line in process.stdout:
        if line.startswith(beginning):
            return
    raise AssertionError(f"no line begins with {beginning!r}: {process.communicate()}")


def assert_same_table(found: str, expected: str) -> None:
    found, expected = (text[text.index("mAP (%)") :] for text in (found, expected))
    assert found == expected


def saved_steps(folder: Path) -> set[int]:
    """Steps of checkpoints; everything in the folder must be one."""
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
    for step in steps:
        states = []
        for workdir in (found, expected):
            with CheckpointStore(workdir.checkpoints, read_only=True) as store:
                state = store.restore(template, step)
                states.append((state.replace(key=jax.random.key_data(state.key)), store.best_step))
        (ours, our_best), (theirs, their_best) = states
        assert our_best == their_best
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
