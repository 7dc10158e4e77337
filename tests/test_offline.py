"""Nothing reaches for a network: not an import, not a whole run."""

import importlib.util
import pkgutil
import subprocess
import sys

import pytest

import benchmarks
import case_jax
import experiments
from tests.conftest import ROOT

# Ends the process at the first attempt, whatever would have caught an exception.
GUARD = """
import os, sys

def refuse(event, arguments):
    _, _, call = event.partition("socket.")
    if call in ("connect", "getaddrinfo", "gethostbyname", "sendto", "sendmsg"):
        print("network:", event, arguments, file=sys.stderr, flush=True)
        os._exit(99)

sys.addaudithook(refuse)
"""

# The programs share names of flags, so each is imported as if it were the first.
IMPORT_ALL = """
import importlib
from absl import flags

first = set(flags.FLAGS)
for name in sys.argv[1:]:
    for module in [m for m in sys.modules if m.partition(".")[0] in ("experiments", "benchmarks")]:
        del sys.modules[module]
    for flag in set(flags.FLAGS) - first:
        delattr(flags.FLAGS, flag)
    importlib.import_module(name)
print(len(sys.argv) - 1)
"""

RUN = """
import runpy

sys.argv[0] = "thumos"
runpy.run_module("experiments.thumos", run_name="__main__", alter_sys=False)
"""


def guarded(program, *arguments, environment):
    return subprocess.run(
        [sys.executable, "-c", GUARD + program, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )


def modules(package) -> list[str]:
    return [m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]


@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('127.0.0.1', 9))",
        "socket.getaddrinfo('example.org', 80)",
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))",
    ],
)
def test_the_guard_notices_an_attempt_that_is_caught(attempt, environment):
    program = f"import socket\ntry:\n    {attempt}\nexcept Exception:\n    pass\n"
    result = guarded(program, environment=environment)
    assert result.returncode == 99
    assert result.stderr.startswith("network: socket.")


def test_importing_every_module_opens_no_connection(environment):
    names = [*modules(case_jax), *modules(experiments), *modules(benchmarks)]
    if importlib.util.find_spec("torch") is None:  # an extra that the tests can do without
        names.remove("benchmarks.torch_step")
    assert {"case_jax.sinkhorn", "case_jax.data.host_batches", "experiments.thumos"} < set(names)
    result = guarded(IMPORT_ALL, *names, environment=environment)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == len(names)


def test_a_whole_run_opens_no_connection(environment, tmp_path):
    small = "--num_snippets=32 --hidden_dim=16 --num_clusters=4 --batch_size=4 --num_steps=2 --eval_every=2"
    flags = ["--synthetic", *small.split(), f"--workdir={tmp_path / 'run'}"]
    result = guarded(RUN, *flags, environment=environment)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "run" / "report.html").exists()
