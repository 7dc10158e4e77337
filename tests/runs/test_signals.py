"""The first signal is noted, a second one ends the process at once."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest

from case_jax.runs.signals import Interrupted, Interruption, noting_signals
from tests.conftest import ROOT
from tests.helpers.commands import interruptible


@pytest.fixture(autouse=True)
def usual_handlers():
    """Signals end a process, as in a terminal: a suite that runs in the background ignores SIGINT."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield usual
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_interruption_is_the_first_signal():
    interruption = Interruption()
    assert not interruption.noted()
    assert not interruption.noted(within=0.001)
    assert interruption.signal is None
    interruption.note(signal.SIGTERM)
    assert interruption.noted()
    assert interruption.signal is signal.SIGTERM
    assert Interrupted(signal.SIGTERM).signal is signal.SIGTERM


def test_a_signal_is_noted_and_handlers_are_restored(usual_handlers):
    with contextlib.suppress(KeyboardInterrupt):
        with noting_signals() as interruption:
            assert (interruption.noted(), interruption.signal) == (False, None)
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.noted(within=60)
            assert interruption.signal == signal.SIGINT
        raise AssertionError("nobody acted upon the signal, and yet it was not raised again")
    assert {number: signal.getsignal(number) for number in usual_handlers} == usual_handlers
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(number):
    """As under `nohup`, or in the background of a shell."""
    signal.signal(number, signal.SIG_IGN)
    with noting_signals() as interruption:
        os.kill(os.getpid(), number)
        assert not interruption.noted(within=0.05)
        assert signal.getsignal(number) is signal.SIG_IGN


def test_a_lost_terminal_may_say_so_twice():
    """The kernel tells it, and a shell passes it on."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        with noting_signals() as interruption:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGHUP)
                assert interruption.noted(within=5)
                time.sleep(0.05)
            assert interruption.signal == signal.SIGHUP
            interruption.signal = None  # it is acted upon here
    finally:
        signal.signal(signal.SIGHUP, before)


LOST = """
import os, signal, sys
from case_jax.runs.signals import noting_signals
with noting_signals() as interruption:
    print("ready", flush=True)
    assert interruption.noted(within=60)
    print("nobody reads this", flush=True)  # an error on a terminal that is gone
    os.write(int(sys.argv[1]), interruption.signal.name.encode())
    os._exit(0)
"""


def test_a_lost_terminal_is_noted_and_printing_goes_on(environment):
    """As when an ssh session ends."""
    terminal, theirs = pty.openpty()
    read, write = os.pipe()
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, read)
        process = subprocess.Popen(
            # A session of its own whose terminal is theirs; it heeds SIGHUP even if this suite does not.
            [sys.executable, "-c", _IN_TERMINAL, sys.executable, "-c", LOST, str(write)],
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            pass_fds=[write],
            start_new_session=True,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        os.close(theirs)
        os.close(write)
        said = b""
        while not said.endswith(b"\n"):  # before that, the process may still be writing
            said += os.read(terminal, 100)
        assert said.strip() == b"ready"
        os.close(terminal)
        assert os.read(read, 100) == b"SIGHUP"
        assert process.wait(timeout=60) == 0


_IN_TERMINAL = (
    "import fcntl, os, signal, sys, termios; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


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


@contextlib.contextmanager
def busy_process(folder, environment, *, patient):
    path = folder / "script.py"
    path.write_text(BUSY.format(patient=patient))
    process = subprocess.Popen(
        interruptible(path),
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "busy\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(
    "first, second, status",
    [
        (signal.SIGINT, signal.SIGINT, 130),
        (signal.SIGTERM, signal.SIGTERM, 143),
        (signal.SIGHUP, signal.SIGTERM, 143),
    ],
)
def test_a_second_signal_ends_everything_at_once(tmp_path, environment, first, second, status):
    with busy_process(tmp_path, environment, patient=True) as process:
        process.send_signal(first)
        assert process.stdout.readline() == "noted\n"
        process.send_signal(second)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (status, "")
    assert stderr == "interrupted again: not saved; the same command goes on from before\n"


def test_of_several_processes_the_first_signal_ends_one(tmp_path, environment):
    with busy_process(tmp_path, environment, patient=False) as process:
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert stderr == "interrupted: the same command goes on from the last evaluation\n"
