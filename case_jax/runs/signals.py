"""Signals that end a program: the first lets training stop where it can be resumed, a second ends it at once.

They are Ctrl-C (SIGINT), SIGTERM and SIGHUP, which a terminal or an ssh session sends when it is lost.
"""

import contextlib
import multiprocessing
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import NoReturn

from case_jax.terminals import OF_TERMINALS

__all__ = [
    "ENDING",
    "Interrupted",
    "Interruption",
    "end_at_once",
    "end_on_signals",
    "end_program",
    "noting_signals",
]

# Signals that end a program.
ENDING = (*OF_TERMINALS, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal ended the training.

    Attributes:
        signal: the signal; the exit status of a command is its number plus 128.
    """

    def __init__(self, number: int, message: str = "interrupted"):
        super().__init__(message)
        self.signal = signal.Signals(number)


class Interruption:
    """Whether a signal asks training to stop.

    Attributes:
        signal: the first signal that came; None before it.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None
        self._event = threading.Event()

    def note(self, number: int) -> None:
        """Asks training to stop because of a signal."""
        self.signal = signal.Signals(number)
        self._event.set()

    def noted(self, *, within: float = 0.0) -> bool:
        """Whether training is to stop.

        Args:
            within: seconds to wait for a signal.
        """
        return self._event.wait(within)


@contextlib.contextmanager
def noting_signals(*, patient: bool = True) -> Iterator[Interruption]:
    """Notes the first signal of `ENDING`. A second one ends the program at once, with 128 + its number.

    But not if the second one is SIGHUP, which comes twice where a terminal is lost.

    A thread listens for signals, because the main thread may be outside of Python for long, for instance
    while it compiles. SIGINT and SIGHUP are blocked in the main thread. That changes nothing for this
    process, but the processes that it starts inherit it: Ctrl-C and the end of a terminal reach workers, too,
    and must not end them while training needs them.

    Signals are left alone if this is called in another thread than the main one, and so is a signal that is
    ignored (as under `nohup`). A signal that nobody acted upon is raised again at the end.

    Args:
        patient: False to end the program at the first signal already.

    Yields:
        `Interruption`.
    """
    interruption = Interruption()
    heeded = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread() or not heeded:
        yield interruption
        return
    _start_resource_tracker()
    read, write = os.pipe()
    os.set_blocking(write, False)
    listener = threading.Thread(target=_listen, args=(read, heeded, interruption, patient), daemon=True)
    previous_fd = signal.set_wakeup_fd(write, warn_on_full_buffer=False)  # Python writes signals to it
    previous = {number: signal.signal(number, lambda *_: None) for number in heeded}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, OF_TERMINALS)
    listener.start()
    try:
        yield interruption
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(previous_fd)
        os.close(write)
        listener.join()
        os.close(read)
    if interruption.signal is not None:  # no `Interrupted` was raised, so nobody acted upon it
        signal.raise_signal(interruption.signal)


def _start_resource_tracker() -> None:
    """Starts the process that tidies up after workers. If a worker started it, it would unblock them there.

    It is kept from warning that a worker, ended by a signal, has not tidied up itself.
    """
    quiet = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(quiet)  # processes inherit these options
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


def _listen(read: int, heeded: list[int], interruption: Interruption, patient: bool) -> None:
    """In the listening thread: reads the numbers of signals from a pipe until it is closed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_TERMINALS)
    while byte := os.read(read, 1):
        if byte[0] not in heeded:
            continue
        if byte[0] not in (signal.SIGINT, signal.SIGTERM):
            if interruption.noted():
                continue  # a terminal that is lost sends it, and then the shell does, too
            _leave_terminal()
        if not patient:
            end_at_once(byte[0], "interrupted: the same command goes on from the last evaluation")
        if interruption.noted():
            end_at_once(byte[0], "interrupted again: not saved; the same command goes on from before")
        interruption.note(byte[0])


def _leave_terminal() -> None:
    """After SIGHUP the terminal is gone: printing on it would fail, so what is printed goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode):  # a lost terminal does not call itself one any more
                os.dup2(nowhere, stream)
    os.close(nowhere)


def end_on_signals() -> None:
    """From now on, the first signal of `ENDING` ends the program with one line and status 128 + its number.

    Call it in the main thread of a command that has nothing to save yet. The program ends without an
    exception, because a KeyboardInterrupt would get lost in callbacks of the garbage collector, abort the
    process in callbacks of compiled code, and make threads whose work is taken away print errors.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: end_at_once(number, "interrupted"))


def end_at_once(number: int, message: str) -> None:
    """Ends the program because of a signal, see `end_program`; the status is 128 + its number."""
    end_program(128 + number, message)


def end_program(status: int, message: str) -> NoReturn:
    """Ends the program whatever it is doing. No file is torn, because each is written beside and renamed.

    Args:
        status: its exit status.
        message: one line for standard error.
    """
    for worker in multiprocessing.active_children():
        worker.kill()
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(Exception):  # it may be in the middle of writing
            sys.stdout.flush()
    with contextlib.suppress(OSError):  # the terminal may be gone
        if sys.stdout is not None and sys.stdout.isatty():
            os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the progress line had hidden the cursor
        os.write(sys.stderr.fileno(), f"{message}\n".encode())
    os._exit(status)
