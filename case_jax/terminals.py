"""What a terminal sends to all its processes, workers among them: Ctrl-C (SIGINT), its end (SIGHUP)."""

import signal

__all__ = ["OF_TERMINALS", "ignore_terminal"]

# Windows has no SIGHUP.
OF_TERMINALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name))


def ignore_terminal() -> None:
    """Makes a worker ignore what its terminal sends; the main process answers it, and ends its workers."""
    for number in OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN)
