"""The flags that say where and how to compute; none of them changes a result."""

import contextlib
import importlib.util
import os
import socket
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils
from rich.console import Console

from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.runs.train import Hardware
from case_jax.training.parallel import make_mesh

__all__ = ["check_flags", "connected", "define_flags", "in_first_process", "is_first_process"]

FLAGS = flags.FLAGS
_PATIENCE = 300.0  # seconds


def define_flags() -> None:
    """The flags."""
    flags.DEFINE_enum(
        "feature_store",
        "device",
        ["device", "disk"],
        "keep all features on every device, or leave them on disk and gather batches ahead of training",
    )
    flags.DEFINE_integer(
        "num_workers", 2, "processes that gather batches, with --feature_store=disk", lower_bound=0
    )
    flags.DEFINE_integer(
        "eval_workers",
        None,
        "processes that localise and suppress while training goes on; 0 for none; default by cores",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "num_devices",
        None,
        "devices that every batch is divided over; default as many as divide --batch_size evenly",
        lower_bound=1,
    )
    flags.DEFINE_string("coordinator", None, "host:port of the first process, where there are several")
    flags.DEFINE_integer("num_processes", None, "how many processes train together", lower_bound=1)
    flags.DEFINE_integer("process_id", None, "which of them this one is, from 0", lower_bound=0)


def is_first_process() -> bool:
    """Whether this process evaluates, writes and prints."""
    return not FLAGS.process_id


def check_flags(*, num_seeds: int) -> None:
    """Refuses flags that contradict each other.

    Raises:
        InputError: naming the flag.
    """
    if FLAGS.feature_store == "disk":
        if FLAGS["synthetic"].value:
            raise InputError("--feature_store: is disk; expected device with --synthetic, which has no files")
        if num_seeds > 1:
            raise InputError(f"--num_seeds: is {num_seeds}; expected 1 with --feature_store=disk")
        if not importlib.util.find_spec("grain"):
            raise InputError("--feature_store: disk needs grain; expected pip install '.[host]', or device")
    together = {name: FLAGS[name].value for name in ("coordinator", "num_processes", "process_id")}
    missing = [name for name, value in together.items() if value is None]
    if missing and len(missing) < len(together):
        raise InputError(
            f"--{missing[0]}: is missing; expected --coordinator, --num_processes and --process_id together"
        )
    host, _, port = (FLAGS.coordinator or "").rpartition(":")
    if not missing and not (host and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError(f"--coordinator: is {FLAGS.coordinator!r}; expected host:port, as in 10.0.0.1:12345")
    if not missing and FLAGS.process_id >= FLAGS.num_processes:
        raise InputError(
            f"--process_id: is {FLAGS.process_id}; expected less than --num_processes={FLAGS.num_processes}"
        )


def in_first_process(call: Callable[[], None]) -> None:
    """Calls a function in the first process; where it refuses its input there, every process stops.

    Raises:
        InputError: what the function raised, or elsewhere, that it did.
    """
    refused = None
    if is_first_process():
        try:
            call()
        except InputError as error:
            refused = error
    if jax.process_count() > 1:
        stop = multihost_utils.broadcast_one_to_all(np.int32(refused is not None))
        if stop and refused is None:
            refused = InputError("--process_id: the first process refused the run; expected what it says")
    if refused is not None:
        raise refused


@contextlib.contextmanager
def connected(config: CaseConfig, console: Console) -> Iterator[Hardware]:
    """Connects to the other processes, if there are any, and says what the flags come to.

    Raises:
        InputError: if a batch cannot be divided over the devices.
    """
    if FLAGS.coordinator:
        _await_coordinator()
        jax.distributed.initialize(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
    try:
        devices = jax.devices()
        asked = FLAGS.num_devices or len(devices)
        if asked > len(devices):
            raise InputError(f"--num_devices: is {asked}; expected at most the {len(devices)} there are")
        if config.batch_size % asked and (FLAGS.num_devices or FLAGS.coordinator):
            raise InputError(
                f"--batch_size: is {config.batch_size}; expected a multiple of the {asked} devices"
            )
        while config.batch_size % asked:
            asked -= 1
        if len(devices) > 1:
            console.print(f"devices: {asked} of {len(devices)}, {devices[0].device_kind}", highlight=False)
        eval_workers = FLAGS.eval_workers
        if eval_workers is None:
            cores = os.cpu_count() or 1
            eval_workers = 0 if cores <= 2 else min(8, cores // 2)
        yield Hardware(
            make_mesh(devices[:asked]),
            on_device=FLAGS.feature_store == "device",
            num_workers=FLAGS.num_workers,
            eval_workers=eval_workers,
        )
    finally:
        if FLAGS.coordinator:
            jax.distributed.shutdown()


def _await_coordinator() -> None:
    """Waits until the first process listens, as long as JAX would; JAX itself ends in a stack trace."""
    if is_first_process():
        return
    host, _, port = FLAGS.coordinator.rpartition(":")
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise InputError(
                    f"--coordinator: {FLAGS.coordinator} does not answer ({error}); expected the process "
                    "with --process_id=0 there"
                ) from None
            time.sleep(0.5)
