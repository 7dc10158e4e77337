"""The flags that say where and how to compute; none of them changes a result."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator

import jax
from absl import flags
from rich.console import Console

from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.parallel import make_mesh
from experiments.train import Hardware

__all__ = ["check_flags", "connected", "define_flags", "is_first_process"]

FLAGS = flags.FLAGS


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
    if not missing and FLAGS.process_id >= FLAGS.num_processes:
        raise InputError(
            f"--process_id: is {FLAGS.process_id}; expected less than --num_processes={FLAGS.num_processes}"
        )


@contextlib.contextmanager
def connected(config: CaseConfig, console: Console) -> Iterator[Hardware]:
    """Connects to the other processes, if there are any, and says what the flags come to.

    Raises:
        InputError: if a batch cannot be divided over the devices.
    """
    if FLAGS.coordinator:
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
