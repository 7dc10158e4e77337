"""Processes that train together, played by threads of this one."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from case_jax.errors import InputError
from case_jax.runs import meeting
from case_jax.runs.meeting import Processes, met
from tests.helpers.refusals import assert_parts, refusal


class Party:
    """What processes 0 to N - 1 come to: what each was told, and how it ended."""

    def __init__(self, port: int, count: int):
        self.address, self.count = f"localhost:{port}", count
        self.said: list[tuple[int, str]] = []
        self.ended: list[tuple[int, str]] = []
        self._pool = ThreadPoolExecutor(8)

    def send(self, number, *, patience=20.0, count=None, body=lambda: "done"):
        """Process ``number`` in a thread; its future result is the body's."""

        def live():
            processes = Processes(self.address, count or self.count, number, patience)
            with met(
                processes,
                lambda line: self.said.append((number, line)),
                lambda line: self.ended.append((number, line)),
            ):
                return body()

        return self._pool.submit(live)


@pytest.fixture
def party(free_port, monkeypatch):
    monkeypatch.setattr(meeting, "_GRACE", 0.1)

    def of(count):
        return Party(free_port, count)

    return of


def test_all_meet_and_part_whoever_comes_first(party):
    company = party(3)
    together = threading.Barrier(3)
    waiting = [company.send(2, body=together.wait)]
    time.sleep(0.05)  # the first process is not there yet
    waiting += [company.send(number, body=together.wait) for number in (0, 1)]
    assert {future.result(timeout=20) for future in waiting} == {0, 1, 2}
    said = dict(company.said)
    assert said[0].startswith(f"waiting for 2 other processes at {company.address}, for at most 20 s")
    assert said[1].startswith(f"waiting for the first process at {company.address}, for at most 20 s")
    assert company.ended == []


def test_the_port_is_free_again_after_the_meeting(party, free_port):
    """JAX listens there next."""
    company = party(2)

    def listen():
        with socket.create_server(("", free_port)):
            return "listened"

    futures = [company.send(0, body=listen), company.send(1, body=lambda: time.sleep(0.1))]
    assert futures[0].result(timeout=20) == "listened"
    futures[1].result(timeout=20)


def test_a_first_process_that_does_not_come_is_named(party):
    company = party(2)
    message = refusal(company.send(1, patience=0.2).result)
    assert_parts(message, "--coordinator", f"{company.address} does not answer in 0.2 s", "--process_id=0")


@pytest.mark.parametrize(
    "answer, wrong", [(b"", "something is there"), (b"HTTP/1.1 400\r\n", "something else")]
)
def test_something_else_at_the_address_is_no_first_process(party, free_port, answer, wrong):
    with socket.create_server(("localhost", free_port)) as other:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = other.accept()
                    connections.append(connection)
                    connection.sendall(answer)

        connections = []
        threading.Thread(target=serve, daemon=True).start()
        message = refusal(party(2).send(1, patience=0.3).result)
        other.shutdown(socket.SHUT_RDWR)
        for connection in connections:
            connection.close()
    assert_parts(message, "--coordinator", f"does not answer … {wrong}", "--process_id=0")


def test_others_that_do_not_come_are_named(party):
    company = party(4)
    first, third = company.send(0, patience=0.9), company.send(2, patience=1.0)
    assert_parts(refusal(first.result), "--num_processes", "4 … in 0.9 s: 1, 3", "--process_id")
    with pytest.raises(InputError):
        third.result()


def test_a_process_that_comes_again_takes_its_place(party, free_port):
    company = party(3)
    futures = [company.send(0)]
    with contextlib.closing(_connection(free_port)) as lost:
        lost.sendall(b"case_jax 1 3\n")
    futures += [company.send(1), company.send(2)]
    assert [future.result(timeout=20) for future in futures] == ["done"] * 3


@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\n\r\n", b"case_jax 1\n", b"case_jax x y\n", b"\xff" * 300]
)
def test_others_that_knock_are_sent_away(party, free_port, said):
    company = party(2)
    first = company.send(0)
    with contextlib.closing(_connection(free_port)) as stranger:
        stranger.sendall(said)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(10) == b""
    company.send(1).result(timeout=20)
    first.result(timeout=20)


@pytest.mark.parametrize(
    "number, count, named, wrong, expected",
    [(1, 3, "--num_processes", "3", "2, as for the first"), (2, 2, "--process_id", "2", "once")],
)
def test_processes_that_do_not_fit_together(party, number, count, named, wrong, expected):
    company = party(2)
    first = company.send(0)
    message = refusal(company.send(number, count=count).result)
    assert_parts(message, named, wrong, expected)
    company.send(1).result(timeout=20)  # the first one still waits
    first.result(timeout=20)


def test_a_port_that_is_taken_is_named(party, free_port):
    with socket.create_server(("", free_port)):
        company = party(2)
        message = refusal(company.send(0).result)
    assert_parts(message, "--coordinator", f"{company.address} cannot be listened to", "free port")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_process_that_is_lost_ends_the_others(party, lost):
    company = party(2)

    def fail():
        raise InputError("--flag: is bad; expected good")

    def wait():
        deadline = time.monotonic() + 10
        while not company.ended and time.monotonic() < deadline:
            time.sleep(0.01)

    futures = [company.send(number, body=fail if number == lost else wait) for number in (0, 1)]
    futures[1 - lost].result(timeout=20)
    assert refusal(futures[lost].result) == "--flag: is bad; expected good"
    ((number, message),) = company.ended
    assert number == 1 - lost
    assert_parts(message, "--coordinator", f"process {lost} of 2 has gone", "go on")


def test_a_process_may_say_itself_what_ends_it(party, monkeypatch):
    """Where all are refused for the same reason, each says so."""
    monkeypatch.setattr(meeting, "_GRACE", 5.0)
    company = party(2)

    def fail(seconds):
        time.sleep(seconds)
        raise InputError("--flag: is bad; expected good")

    futures = [company.send(number, body=lambda number=number: fail(0.2 * number)) for number in (0, 1)]
    assert {refusal(future.result) for future in futures} == {"--flag: is bad; expected good"}
    assert company.ended == []


def test_a_process_that_goes_as_all_have_come_is_named(party, free_port, monkeypatch):
    def lose(here):
        for connection in here.values():
            connection.shutdown(socket.SHUT_WR)  # so that a write to it fails
        return len(here)

    monkeypatch.setattr(meeting, "_without_those_gone", lose)
    first = party(2).send(0)
    with contextlib.closing(_connection(free_port)) as lost:
        lost.sendall(b"case_jax 1 2\n")
        message = refusal(first.result)
    assert_parts(message, "--num_processes", "2 … process 1 came and has gone (Broken pipe)", "all to run")


def _connection(port):
    deadline = time.monotonic() + 10
    while True:
        try:
            return socket.create_connection(("localhost", port), timeout=5)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
