"""Where and how a run computes changes no result."""

import contextlib
import subprocess

import jax
import pytest

from case_jax.data.thumos import write_dataset
from case_jax.errors import InputError
from case_jax.runs import hardware
from case_jax.runs.hardware import Hardware, Processes, connected, in_first_process
from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.helpers.commands import interruptible
from tests.helpers.refusals import assert_parts, refusal
from tests.helpers.runs import EVAL_EVERY, Training, assert_close_run, assert_same_run
from tests.helpers.small import BASELINE as NO_CLUSTERS
from tests.helpers.workdirs import BASELINE


def test_as_many_devices_as_divide_a_batch_are_taken():
    for batch_size, num_devices, taken in ((4, None, 4), (4, 3, 2), (3, None, 3), (7, 6, 1), (8, 100, 8)):
        where = Hardware.of(batch_size, num_devices, on_device=False)
        assert where.mesh.size == taken
        assert where == (where.mesh, False, 0, 0)
        assert list(where.mesh.devices.flat) == jax.devices()[:taken]


def test_one_process_is_connected_to_nothing():
    with connected(None):
        assert jax.process_count() == 1


def test_a_first_process_that_does_not_answer_is_named(free_port):
    address = f"localhost:{free_port}"

    def connect():
        with connected(Processes(address, 2, 1, patience=0.1)):
            pass

    assert_parts(refusal(connect), "--coordinator", f"{address} does not answer in 0.1 s", "--process_id=0")


def test_a_single_process_is_the_first_one():
    called = []
    in_first_process(lambda: called.append(True))
    assert called == [True]

    def refuse():
        raise InputError("--flag: is bad; expected good")

    assert refusal(in_first_process, refuse) == "--flag: is bad; expected good"


def test_other_processes_stop_if_the_first_one_refuses(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    told = []
    monkeypatch.setattr(hardware.multihost_utils, "broadcast_one_to_all", lambda mine: told.append(mine) or 1)
    message = refusal(in_first_process, lambda: pytest.fail("called in the second process"))
    assert_parts(message, "--process_id", "the first process refused", "what it says")
    assert told == [0]


@pytest.mark.slow
def test_workers_may_localise_meanwhile(dataset, tmp_path, uninterrupted):
    training = Training(tmp_path, dataset, eval_workers=2)
    training.train()
    assert_same_run(training.workdir, uninterrupted)


@pytest.fixture(scope="module")
def flags(dataset, tmp_path_factory):
    """A command that trains as the run `uninterrupted`."""
    folder = tmp_path_factory.mktemp("data")
    write_dataset(dataset, folder)
    return [
        *(f"--data_dir={folder}", "--seed=3", f"--eval_every={EVAL_EVERY}", "--tiou=0.1,0.3", "--noreport"),
        *("--num_snippets=16", "--hidden_dim=8", "--num_clusters=4", "--batch_size=4", "--num_steps=30"),
    ]


@contextlib.contextmanager
def two_processes(flags, environment, free_port):
    """The same training command twice, as two processes that train together."""
    together = [*flags, f"--coordinator=localhost:{free_port}", "--num_processes=2"]
    processes = [
        subprocess.Popen(
            interruptible("-m", "experiments.thumos", *together, f"--process_id={i}"),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def train_together(flags, environment, free_port):
    """What the first of two processes prints."""
    with two_processes(flags, environment, free_port) as processes:
        printed = []
        for process in processes:
            stdout, stderr = process.communicate(timeout=100)
            assert process.returncode == 0, stderr
            printed.append(stdout)
    assert "mAP" not in printed[1]  # only the first process reports
    return printed[0]


@pytest.mark.slow
def test_both_processes_stop_where_the_first_one_refuses(flags, tmp_path, environment, free_port):
    (tmp_path / "config.json").write_text("{}")
    with two_processes([*flags, f"--workdir={tmp_path}"], environment, free_port) as processes:
        told = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [2, 2], told
    assert f"error: {tmp_path / 'config.json'}: " in told[0]
    assert "error: --process_id: the first process refused the run; expected what it says" in told[1]


def assert_close_but_for_place(found, expected):
    """A run of the command knows where its data are, a run in this process does not."""
    found.begin(found.settings()._replace(data=None))
    assert_close_run(found, expected)


@pytest.mark.slow
def test_two_processes_train_as_one_go_on_and_may_read_from_disk(
    flags, tmp_path, environment, free_port, training
):
    """From memory up to step 12, from disk afterwards; without clusters, which take long to compile."""
    training.change(**NO_CLUSTERS, num_steps=24)
    training.train()
    flags = [*flags, *BASELINE, "--num_steps=24", f"--workdir={tmp_path / 'W'}"]
    printed = train_together([*flags, "--num_steps=12"], environment, free_port)
    assert "devices: 2 of 2, cpu" in printed
    printed = train_together([*flags, "--feature_store=disk", "--num_workers=0"], environment, free_port)
    assert "going on from step 12" in printed
    assert_close_but_for_place(Workdir(tmp_path / "W"), training.workdir)
