"""Processes that train together meet before JAX connects them, and watch over each other until they part.

JAX itself waits for minutes without a word. Where a process does not come, or is lost later, it aborts the
others in a stack trace. Here each process holds a plain TCP connection to the first one: whoever waits says
so, and a process that is gone ends the others in one line.
"""

import contextlib
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from case_jax.errors import InputError

__all__ = ["Processes", "address_of", "met"]

_GREETING = "case_jax"
_PARTING = b"bye\n"
_LONGEST = 200  # bytes of a line
_GRACE = 3.0  # seconds in which a process may find its own words for what ended it


class Processes(NamedTuple):
    """Several processes, on one host or many, that train together."""

    coordinator: str  # host:port of the first process
    num_processes: int
    process_id: int  # of this process, from 0
    patience: float = 300.0  # seconds in which all of them must have come


@contextlib.contextmanager
def met(processes: Processes, say: Callable[[str], None], end: Callable[[str], None]) -> Iterator[None]:
    """Waits for all processes, then watches over them while the context lasts.

    Args:
        processes: the processes; each calls this.
        say: is told what this process waits for.
        end: ends the program at once, whatever it is doing, with a message. It is called in another thread,
            if a process goes away before the context ends.

    Raises:
        InputError: if not all of them come in time, or they do not fit together.
    """
    if processes.process_id:
        others = {0: _join(processes, say)}
    else:
        others = _gather(processes, say)
    parted = threading.Event()
    watching = (others, processes.num_processes, parted, end)
    watcher = threading.Thread(target=_watch, args=watching, daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:
        parted.set()  # without a word of parting, so that the others end, too
        raise
    else:
        parted.set()
        for connection in others.values():
            with contextlib.suppress(OSError):
                connection.sendall(_PARTING)
    finally:
        for connection in others.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # which also ends the watcher's wait
        watcher.join(timeout=1)
        for connection in others.values():
            connection.close()


def address_of(processes: Processes) -> tuple[str, int]:
    """Host and port of the first process."""
    host, _, port = processes.coordinator.rpartition(":")
    return host.strip("[]"), int(port)


def _join(processes: Processes, say: Callable[[str], None]) -> socket.socket:
    """Meets the first process: a connection to it, as soon as all others have come, too."""
    address, patience = processes.coordinator, processes.patience
    say(f"waiting for the first process at {address}, for at most {patience:g} s (--connect_timeout)")
    deadline = time.monotonic() + patience
    reason: object = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            connection = socket.create_connection(address_of(processes), timeout=max(0.01, min(5.0, left)))
        except OSError as error:
            reason = error
            time.sleep(min(0.5, left))
            continue
        with contextlib.ExitStack() as stack:
            stack.callback(connection.close)
            try:
                connection.sendall(f"{_GREETING} {processes.process_id} {processes.num_processes}\n".encode())
                connection.settimeout(max(0.01, deadline - time.monotonic()))
                answer = _line(connection)
            except TimeoutError:
                reason = "something is there, but no first process, or others are still missing"
                break
            except OSError as error:
                answer, reason = "", error
            if answer == "go":
                stack.pop_all()
                _keep_alive(connection)
                return connection
            _check_welcome(answer, processes)
            reason = "something else answers there" if answer else reason
        time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))
    raise InputError(
        f"--coordinator: {address} does not answer in {patience:g} s ({reason}); expected the process with "
        "--process_id=0 there, and all others"
    )


def _check_welcome(answer: str, processes: Processes) -> None:
    """Raises an InputError if the first process has said that this one does not fit."""
    match = re.fullmatch(rf"{_GREETING} (\d+)", answer)
    if match is None:
        return
    count, number = processes.num_processes, processes.process_id
    if int(match[1]) != count:
        raise InputError(f"--num_processes: is {count}; expected {match[1]}, as for the first process")
    raise InputError(f"--process_id: is {number}, as another process's; expected each number once")


def _gather(processes: Processes, say: Callable[[str], None]) -> dict[int, socket.socket]:
    """In the first process: connections to all others, by their number."""
    count, patience = processes.num_processes, processes.patience
    say(
        f"waiting for {count - 1} other process{'es' if count > 2 else ''} at {processes.coordinator}, "
        f"for at most {patience:g} s (--connect_timeout)"
    )
    deadline = time.monotonic() + patience
    here: dict[int, socket.socket] = {}
    with (
        contextlib.ExitStack() as stack,
        _listening(address_of(processes)[1], processes.coordinator) as listener,
    ):
        while _without_those_gone(here) < count - 1:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                missing = ", ".join(str(i) for i in range(1, count) if i not in here)
                raise InputError(
                    f"--num_processes: is {count}, and these did not come in {patience:g} s: {missing}; "
                    "expected a process with each --process_id and the same --coordinator"
                ) from None
            _without_those_gone(here)
            number = _welcome(connection, here, processes)
            if number is None:
                connection.close()
            else:
                here[number] = stack.enter_context(connection)
        for number, connection in here.items():
            try:
                connection.sendall(b"go\n")
                _keep_alive(connection)
            except OSError as error:
                raise InputError(
                    f"--num_processes: is {count}, and process {number} came and has gone "
                    f"({error.strerror}); expected all to run"
                ) from None
        stack.pop_all()
    return here


def _without_those_gone(here: dict[int, socket.socket]) -> int:
    """How many processes have come and still wait; the others are forgotten, and may come again."""
    with selectors.DefaultSelector() as selector:
        for number, connection in here.items():
            selector.register(connection, selectors.EVENT_READ, number)
        for key, _ in selector.select(timeout=0):  # those that wait say nothing
            here.pop(key.data).close()
    return len(here)


def _listening(port: int, address: str) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        raise InputError(
            f"--coordinator: {address} cannot be listened to here ({error.strerror}); expected a free port "
            "of this host"
        ) from None


def _welcome(connection: socket.socket, here: dict[int, socket.socket], processes: Processes) -> int | None:
    """The number of the process at the other end; None if it is no process of this training."""
    connection.settimeout(5.0)
    try:
        words = _line(connection).split()
        if len(words) != 3 or words[0] != _GREETING:
            return None
        number, count = int(words[1]), int(words[2])
        if count != processes.num_processes or number in here or not 0 < number < count:
            connection.sendall(f"{_GREETING} {processes.num_processes}\n".encode())
            return None
    except (OSError, ValueError):
        return None
    return number


def _line(connection: socket.socket) -> str:
    """What the other end says, up to a line break; "" if it closes before."""
    said = b""
    while not said.endswith(b"\n") and len(said) < _LONGEST:
        byte = connection.recv(1)
        if not byte:
            return ""
        said += byte
    return said.decode(errors="replace").strip()


def _keep_alive(connection: socket.socket) -> None:
    """Lets the system notice within about half a minute that a host is lost without a word."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):  # not everywhere
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _watch(
    others: dict[int, socket.socket], count: int, parted: threading.Event, end: Callable[[str], None]
) -> None:
    """In a thread: ends the program if one of the others goes away without a word of parting."""
    with selectors.DefaultSelector() as selector:
        for number, connection in others.items():
            selector.register(connection, selectors.EVENT_READ, number)
        while selector.get_map() and not parted.is_set():
            for key, _ in selector.select(timeout=1.0):
                assert isinstance(key.fileobj, socket.socket)
                try:
                    said = key.fileobj.recv(len(_PARTING))
                except OSError:
                    said = b""
                selector.unregister(key.fileobj)
                if not said and not parted.wait(_GRACE):
                    end(
                        f"--coordinator: process {key.data} of {count} has gone; expected all to run (the "
                        "same commands go on from the last evaluation)"
                    )
