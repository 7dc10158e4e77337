"""Ctrl-C and SIGTERM: the first one lets training stop where it can go on from, a second one ends at once."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

__all__ = ["Interrupted", "Interruption", "end_on_signals", "noting_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal ended the command.

    Attributes:
        signal: which one; the exit status is 128 more.
    """

    def __init__(self, number: int, message: str = "interrupted"):
        super().__init__(message)
        self.signal = signal.Signals(number)


class Interruption:
    """Whether a signal asks training to stop.

    Attributes:
        signal: the first one; None before it.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None
        self._event = threading.Event()

    def note(self, number: int) -> None:
        """Asks training to stop."""
        self.signal = signal.Signals(number)
        self._event.set()

    def noted(self, *, within: float = 0.0) -> bool:
        """Whether training is to stop; waits for that up to so many seconds."""
        return self._event.wait(within)


@contextlib.contextmanager
def noting_signals(*, patient: bool = True) -> Iterator[Interruption]:
    """Notes the first SIGINT or SIGTERM; a second one ends the program at once, with status 130 or 143.

    A thread listens, since the main one may be busy for long outside of Python, compiling for instance. To
    have SIGINT blocked in the main thread changes nothing here, but the processes that it starts inherit
    it: Ctrl-C goes to workers, too, and must not end them while training still needs them.

    In another thread than the main one, signals are left alone. So is one that is ignored (`nohup`).

    Args:
        patient: otherwise the first signal ends the program at once already.

    Yields:
        `Interruption`.
    """
    interruption = Interruption()
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread() or not heeded:
        yield interruption
        return
    _start_resource_tracker()
    read, write = os.pipe()
    os.set_blocking(write, False)
    listener = threading.Thread(target=_listen, args=(read, heeded, interruption, patient), daemon=True)
    previous_fd = signal.set_wakeup_fd(write, warn_on_full_buffer=False)  # Python writes signals to it
    previous = {number: signal.signal(number, lambda *_: None) for number in heeded}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
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
    if interruption.noted():  # and nobody has acted upon it
        signal.raise_signal(interruption.signal)


def _start_resource_tracker() -> None:
    """Starts the process that tidies up after workers, which would unblock SIGINT if a worker started it.

    It does so without the warning that a signal ended a worker, which then has not tidied up itself.
    """
    quiet = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(quiet)  # processes are started with these
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


def _listen(read: int, heeded: list[int], interruption: Interruption, patient: bool) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    while byte := os.read(read, 1):
        if byte[0] not in heeded:
            continue
        if not patient:
            _end_at_once(byte[0], "interrupted: the same command goes on from the last evaluation")
        if interruption.noted():
            _end_at_once(byte[0], "interrupted again: not saved; the same command goes on from before")
        interruption.note(byte[0])


def end_on_signals() -> None:
    """From now on, the first SIGINT or SIGTERM ends the program with one line and status 130 or 143.

    For the main thread of a command, wherever it does nothing that it should save. An exception instead, as
    KeyboardInterrupt, would get lost in callbacks of the garbage collector, abort the process in callbacks
    of compiled code, and make threads complain whose work is taken away.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: _end_at_once(number, "interrupted"))


def _end_at_once(number: int, message: str) -> None:
    """Ends the program whatever it is doing; every file is written beside and renamed, so none is torn."""
    for worker in multiprocessing.active_children():
        worker.kill()
    if threading.current_thread() is threading.main_thread():
        with contextlib.suppress(Exception):  # unless it is just writing
            sys.stdout.flush()
    if sys.stdout.isatty():
        os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # a line that moves has hidden the cursor
    os.write(sys.stderr.fileno(), f"{message}\n".encode())
    os._exit(128 + number)
