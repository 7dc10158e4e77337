"""How a command that goes from video to video ends on a signal."""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

__all__ = ["ending_on_signals"]


@contextlib.contextmanager
def ending_on_signals(done: Callable[[], str], save: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the program at once, and say what is done.

    Args:
        done: what is done, for the message, as in "3 of 7 videos are done".
        save: keeps what is not on disk yet; takes little time. Its errors are passed over.
    """

    def end(number: int, _) -> NoReturn:
        for worker in multiprocessing.active_children():
            worker.kill()
        with contextlib.suppress(Exception):  # the signal may have come in the middle of a write
            save()
            sys.stdout.flush()
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the progress bar has hidden the cursor
        message = f"interrupted: {done()}; the same command goes on with the others\n"
        os.write(sys.stderr.fileno(), message.encode())
        os._exit(128 + number)

    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
