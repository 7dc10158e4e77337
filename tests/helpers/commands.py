"""Commands as tests run them: in this process, or in one of their own where a process is the point."""

import contextlib
import importlib
import io
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
from absl import logging

from case_jax.commands import cli
from case_jax.runs.signals import ENDING
from tests.conftest import ROOT

__all__ = [
    "Ended",
    "as_users_have_it",
    "interruptible",
    "refusal",
    "refuse_here",
    "run_here",
    "run_process",
    "succeed_here",
]


class Ended(NamedTuple):
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


def run_here(module: str, *arguments: object) -> Ended:
    """Runs a command in this process, as `python -m MODULE ARGUMENTS` would.

    One device is used, dtypes and ranks are promoted as users have it, and signals are handled as before
    afterwards.

    Args:
        module: of `case_jax.commands`, or a dotted name such as "experiments.ablations.__main__".
        *arguments: of the command line.
    """
    command = importlib.import_module(module if "." in module else f"case_jax.commands.{module}")
    stdout, stderr = io.StringIO(), io.StringIO()
    with as_users_have_it(), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            cli.run(command, [module, *map(str, arguments)])
            status = 0
        except SystemExit as end:
            status = end.code or 0
    return Ended(int(status), stdout.getvalue(), stderr.getvalue())


def succeed_here(module: str, *arguments: object) -> str:
    """Like `run_here`, but the command must succeed; returns what it printed on standard output."""
    ended = run_here(module, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def refuse_here(module: str, *arguments: object) -> str:
    """Like `run_here`, but the command must refuse its input; returns the `refusal`."""
    return refusal(run_here(module, *arguments))


def refusal(ended: Ended | subprocess.CompletedProcess) -> str:
    """The one line with which a command refused its input, without "error: " before it."""
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: "), ended.stderr
    assert ended.stderr.endswith("\n"), ended.stderr
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr.removeprefix("error: ").removesuffix("\n")


def run_process(
    module: str, *arguments: object, environment: Mapping[str, str], timeout: float = 120
) -> subprocess.CompletedProcess:
    """Runs `python -m experiments.MODULE ARGUMENTS` in a process of its own, in the checkout."""
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)],
        cwd=ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def interruptible(*arguments: object) -> list[str]:
    """The command line of a Python that heeds SIGINT and SIGHUP, as in ``interruptible("-m", "module")``.

    A suite that runs in the background of a shell ignores SIGINT, and every process that it starts inherits
    that. (A ``preexec_fn`` could undo it, but JAX warns where a process forks.)
    """
    heed = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); "
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    return [sys.executable, "-c", heed, *map(str, arguments)]


@contextlib.contextmanager
def as_users_have_it() -> Iterator[None]:
    """One device, and dtypes and ranks promoted as users have it; afterwards all is as before."""
    handlers = {number: signal.getsignal(number) for number in ENDING}
    unraisable, verbosity = sys.unraisablehook, logging.get_verbosity()
    devices = jax.devices
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        jax.devices = lambda *backend: devices(*backend)[:1]  # the session has several virtual ones
        try:
            yield
        finally:
            jax.devices = devices
            sys.unraisablehook = unraisable
            logging.set_verbosity(verbosity)
            for number, handler in handlers.items():
                signal.signal(number, handler)
