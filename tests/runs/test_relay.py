import socket
import threading
import time

import pytest

from case_jax.runs.relay import relayed


def connected_to(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def received(connection, count):
    said = b""
    while len(said) < count:
        said += connection.recv(count)
    return said


@pytest.fixture
def server(free_port):
    with socket.create_server(("127.0.0.1", free_port)) as server:
        server.settimeout(20)
        yield server


def test_bytes_pass_in_both_directions(server, free_port):
    sent = bytes(range(256)) * 2000
    with relayed("127.0.0.1", free_port, patience=20) as address, connected_to(address) as ours:
        theirs, _ = server.accept()
        with theirs:
            for source, target in ((ours, theirs), (theirs, ours)):
                sending = threading.Thread(target=source.sendall, args=(sent,))
                sending.start()
                assert received(target, len(sent)) == sent
                sending.join()


def test_the_other_end_may_come_later(free_port):
    with relayed("127.0.0.1", free_port, patience=20) as address, connected_to(address) as ours:
        ours.sendall(b"early")
        time.sleep(0.05)
        with socket.create_server(("127.0.0.1", free_port)) as server:
            theirs, _ = server.accept()
            with theirs:
                assert received(theirs, 5) == b"early"


def test_this_end_does_not_notice_that_the_other_has_gone(server, free_port):
    with relayed("127.0.0.1", free_port, patience=20) as address, connected_to(address) as ours:
        server.accept()[0].close()
        ours.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ours.recv(1)
    ours.close()


def test_it_ends_where_nobody_comes(free_port):
    with relayed("127.0.0.1", free_port, patience=0.1) as address, connected_to(address) as ours:
        assert ours.recv(1) == b""
