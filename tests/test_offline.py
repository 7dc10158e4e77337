"""Nothing reaches for a network: not an import, not a whole run."""

import importlib.util
import pkgutil
import subprocess
import sys

import pytest

import benchmarks
import case_jax
import experiments
from case_jax.data.thumos import write_dataset
from tests.conftest import ROOT
from tests.helpers.runs import make_dataset

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

# Imports every module, and then trains, evaluates and reports.
IMPORT_AND_RUN = """
import importlib
from case_jax.commands import main

data, folder, *names = sys.argv[1:]
for name in names:
    importlib.import_module(name)
small = "--num_snippets=32 --hidden_dim=16 --num_clusters=4 --batch_size=4 --num_steps=2 --eval_every=2"
main(["case-jax", "train", f"--data_dir={data}", *small.split(), f"--workdir={folder}"])
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
def test_importing_every_module_and_a_whole_run_open_no_connection(environment, tmp_path):
    names = [*modules(case_jax), *modules(experiments), *modules(benchmarks)]
    names = [name for name in names if not name.endswith("__main__")]
    if importlib.util.find_spec("torch") is None:  # an extra that the tests can do without
        names = [name for name in names if not name.startswith("benchmarks.torch_")]
    assert {"case_jax.sinkhorn", "case_jax.data.host_batches", "experiments.thumos"} < set(names)
    write_dataset(make_dataset(), tmp_path / "data")
    folders = [str(tmp_path / name) for name in ("data", "run")]
    ended = guarded(IMPORT_AND_RUN, *folders, *names, environment=environment)
    assert ended.returncode == 0, ended.stderr
    assert "mAP (%)" in ended.stdout
    assert (tmp_path / "run" / "report.html").exists()
