"""How a command that goes from video to video ends on a signal."""

import contextlib
import signal
from collections.abc import Callable, Iterator

from case_jax.runs.signals import ENDING, end_at_once

__all__ = ["ending_on_signals"]


@contextlib.contextmanager
def ending_on_signals(done: Callable[[], str], save: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the program at once, and say what is done.

    Args:
        done: what is done, for the message, as in "3 of 7 videos are done".
        save: keeps what is not on disk yet; takes little time. Its errors are passed over.
    """

    def end(number: int, _) -> None:
        with contextlib.suppress(Exception):  # the signal may have come in the middle of a write
            save()
        end_at_once(number, f"interrupted: {done()}; the same command goes on with the others")

    heeded = [n for n in ENDING if signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, end) for number in heeded}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
