"""Errors of memory, processes and limits, each in one line with what helps."""

import errno
import os
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool

import jax
import numpy as np
import pytest
from absl import flags as absl_flags

from case_jax.commands import extract, train
from case_jax.commands.surroundings import LimitReached, explained, with_limit
from case_jax.errors import InputError
from tests.conftest import ROOT
from tests.helpers.commands import refusal
from tests.helpers.refusals import assert_parts, bad

LIST = "RESOURCE_EXHAUSTED: Out of memory allocating 96000000016 bytes. [tf-allocator-allocation-error='']"


def parsed(command, *arguments: str) -> absl_flags.FlagValues:
    given = absl_flags.FlagValues()
    command.define_flags(given)
    given(["command", *arguments])
    return given


TOGETHER = ["--coordinator=localhost:1", "--num_processes=2", "--process_id=0"]


def of_system(number, *names):
    return OSError(number, os.strerror(number), *names)


def too_large():
    try:
        np.zeros(2**46)
    except MemoryError as error:
        return error


@pytest.mark.parametrize(
    "error, arguments, named, wrong, expected",
    [
        bad("numpy", too_large(), [], "memory", "512. TiB", "--batch_size, --num_snippets"),
        bad("bare", MemoryError(), [], "memory", "out of memory", "--feature_store=disk"),
        bad(
            "XLA",
            jax.errors.JaxRuntimeError(LIST),
            [],
            "memory",
            "allocating 96000000016 bytes)",
            "--feature_dtype=bfloat16",
        ),
        bad("a fork", of_system(errno.ENOMEM), [], "memory", "Cannot allocate memory", "--eval_workers"),
        bad("files", of_system(errno.EMFILE, "a.npy"), [], "open files", "Too many open files", "ulimit -n"),
        bad("threads", RuntimeError("can't start new thread"), [], "processes", "thread", "ulimit -u"),
        bad("processes", of_system(errno.EAGAIN), [], "processes", "unavailable", "--num_workers=0"),
        bad("shm", of_system(errno.ENOSPC), [], "/dev/shm", "No space left", "--shm-size"),
        bad(
            "a worker",
            RuntimeError("Worker process was terminated unexpectedly with exit code -7. Search"),
            [],
            "--num_workers",
            "-7",
            "/dev/shm",
        ),
        bad("a pool", BrokenProcessPool("abruptly"), [], "--eval_workers", "ended", "fewer"),
        bad(
            "another host",
            jax.errors.JaxRuntimeError("INTERNAL: Gloo AllReduce failed: Connection closed by peer"),
            TOGETHER,
            "--coordinator",
            "gone … Gloo",
            "go on",
        ),
    ],
)
def test_the_cause_and_what_helps(error, arguments, named, wrong, expected):
    message = str(explained(error, parsed(train, *arguments)))
    assert message.isprintable()
    if named == "processes":
        named = "processes and threads"
    assert_parts(message, named, wrong, expected)


def test_only_flags_of_the_command_are_named():
    message = str(explained(MemoryError(), parsed(extract)))
    assert "--clips_at_once" in message or "--num_workers" in message or "--side" in message
    assert "--batch_size" not in message
    assert_parts(str(explained(MemoryError(), None)), "memory", "out of memory", "more memory")


def test_too_many_files_name_what_raises_their_number():
    error = InputError("a.npy: cannot be read (Too many open files); expected features")
    assert str(with_limit(error)) == f"{error} (ulimit -n raises the limit)"
    assert with_limit(with_limit(error)).args == with_limit(error).args
    assert isinstance(with_limit(error), LimitReached)
    other = InputError("a.npy: no such file; expected features")
    assert with_limit(other) is other


WAITING = """
import errno, os, sys, threading
from case_jax.commands import cli

class Command:
    def define_flags(given):
        pass

    def main(given):
        print("printed")
        threading.Thread(target=threading.Event().wait).start()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

cli.run(Command)
"""


def test_a_program_at_its_limit_ends_although_a_thread_waits_for_ever(environment):
    ended = subprocess.run(
        [sys.executable, "-c", WAITING], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert_parts(refusal(ended), "open files", "Too many open files", "ulimit -n")
    assert ended.stdout == "printed\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="how many files are open differs")
def test_training_ends_where_few_files_may_be_open(environment, tmp_path):
    """Threads of Orbax would wait for ever for others that open no file."""
    small = ["--num_steps=2", "--eval_every=2", "--num_snippets=16", "--batch_size=4", "--noreport"]
    command = [sys.executable, "-m", "experiments.thumos", "--synthetic", f"--workdir={tmp_path / 'run'}"]
    ended = subprocess.run(
        ["bash", "-c", 'ulimit -n 12; exec "$@"', "bash", *command, *small],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    message = refusal(ended)
    assert "Too many open files" in message
    assert message.endswith("(ulimit -n raises the limit)")


def test_a_full_disk_is_named_by_its_file():
    assert str(explained(of_system(errno.ENOSPC, "/data/x"), None)) == (
        "/data/x: cannot be written (No space left on device)"
    )


def test_standard_output_that_cannot_be_written_is_named(monkeypatch):
    """Where no worker can be the cause, or where it is plain to see."""
    named = "standard output: cannot be written (No space left on device); expected room where it goes"
    full = of_system(errno.ENOSPC)
    assert str(explained(full, None)) == named
    assert str(explained(full, parsed(train, "--num_workers=0", "--eval_workers=0"))) == named
    assert str(explained(full, parsed(train))).startswith("/dev/shm: ")
    with open("/dev/full", "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        print("printed")
        assert str(explained(full, parsed(train))) == named
        with pytest.raises(OSError):
            stdout.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_command_says_that_its_output_cannot_be_written(unbuffered, environment):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "experiments.evaluate", "--help"],
            cwd=ROOT,
            env={**environment, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert_parts(refusal(ended), "standard output", "No space left", "room")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        RuntimeError("a bug"),
        KeyError("a bug"),
        of_system(errno.ENOENT, "a"),
        jax.errors.JaxRuntimeError("INTERNAL: a bug"),
        jax.errors.JaxRuntimeError("UNAVAILABLE: only of several processes"),
    ],
)
def test_bugs_are_not_explained(error):
    assert explained(error, parsed(train)) is None
