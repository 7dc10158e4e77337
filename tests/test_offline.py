"""Nothing reaches for a network: no import here, and no whole run in `tests/test_packaging.py`."""

import importlib.util
import pkgutil
import subprocess
import sys

import pytest

import benchmarks
import case_jax
import experiments
from tests.conftest import ROOT
from tests.helpers.network import GUARD

IMPORT = """
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def guarded(program, *arguments, environment):
    return subprocess.run(
        [sys.executable, "-c", GUARD + program, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


def modules(package) -> list[str]:
    return [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


def test_the_guard_notices_attempts_that_are_caught(environment):
    attempts = [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('example.org', 80)",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))",
    ]
    for attempt in attempts:
        program = f"import socket\ntry:\n    {attempt}\nexcept Exception:\n    pass\n"
        ended = guarded(program, environment=environment)
        assert ended.returncode == 99, attempt
        assert ended.stderr.startswith("network: socket.")


@pytest.mark.slow
def test_importing_every_module_opens_no_connection(environment):
    names = [*modules(case_jax), *modules(experiments), *modules(benchmarks)]
    names = [name for name in names if not name.endswith("__main__")]
    if importlib.util.find_spec("torch") is None:  # an extra that the tests can do without
        names = [name for name in names if not name.startswith("benchmarks.torch_")]
    assert {"case_jax.sinkhorn", "case_jax.data.host_batches", "experiments.thumos"} < set(names)
    ended = guarded(IMPORT, *names, environment=environment)
    assert ended.returncode == 0, ended.stderr
