"""A relay between JAX in this process and the first process, which outlives the first process.

JAX aborts a process in a stack trace as soon as its connection to the first one breaks. So the connection
goes through here, and stays open on this side: then there is time to end in one line, see
`case_jax.runs.meeting`.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

__all__ = ["relayed"]

_CHUNK = 2**16  # bytes
_PAUSE = 0.1  # seconds between tries to connect


@contextlib.contextmanager
def relayed(host: str, port: int, *, patience: float) -> Iterator[str]:
    """Relays connections to an address while the context lasts.

    Args:
        host: of the other end.
        port: of the other end.
        patience: seconds in which the other end must be there, once a connection asks for it.

    Yields:
        host:port of this machine, where connections are taken. After an error they stay open until the
        program ends, because JAX would abort it before it can say what is wrong.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []  # connections stay open as long as this list
        taking = threading.Thread(target=_take, args=(listener, (host, port), patience, kept), daemon=True)
        taking.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
            ended = True
        except BaseException:
            ended = False
            raise
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            taking.join(timeout=1)
            if ended:
                for connection in kept:
                    connection.close()


def _take(
    listener: socket.socket, address: tuple[str, int], patience: float, kept: list[socket.socket]
) -> None:
    """In a thread: takes connections until the listener is shut down."""
    while True:
        try:
            ours, _ = listener.accept()
        except OSError:
            return
        kept.append(ours)
        threading.Thread(target=_connect, args=(ours, address, patience, kept), daemon=True).start()


def _connect(
    ours: socket.socket, address: tuple[str, int], patience: float, kept: list[socket.socket]
) -> None:
    """In a thread: connects to the other end, and passes on what it says; another thread what we say."""
    deadline = time.monotonic() + patience
    while True:
        try:
            theirs = socket.create_connection(address, timeout=5)
            break
        except OSError:
            if time.monotonic() > deadline:
                ours.close()
                return
            time.sleep(_PAUSE)
    theirs.settimeout(None)
    kept.append(theirs)
    threading.Thread(target=_pass_on, args=(ours, theirs), daemon=True).start()
    _pass_on(theirs, ours)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    """Passes bytes on until the source ends. The target then stays open, so that nobody takes notice."""
    with contextlib.suppress(OSError):
        while said := source.recv(_CHUNK):
            target.sendall(said)
