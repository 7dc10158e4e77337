"""The flags that say where and how to compute. None of them changes a result."""

import contextlib
import functools
import importlib.util
import os
from collections.abc import Iterator

import jax
from absl import flags

from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.runs.hardware import Hardware, Processes
from case_jax.runs.hardware import connected as connected_to
from case_jax.runs.narrator import Narrator

__all__ = ["check_flags", "connected", "define_flags", "is_first_process"]


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags."""
    flags.DEFINE_enum(
        "feature_store",
        "device",
        ["device", "disk"],
        "keep all features on every device, or leave them on disk and gather batches ahead of training",
        flag_values=given,
    )
    flags.DEFINE_integer(
        "num_workers",
        2,
        "processes that gather batches, with --feature_store=disk",
        lower_bound=0,
        flag_values=given,
    )
    flags.DEFINE_integer(
        "eval_workers",
        None,
        "processes that localise and suppress while training goes on; 0 for none; default by cores",
        lower_bound=0,
        flag_values=given,
    )
    flags.DEFINE_integer(
        "num_devices",
        None,
        "devices that every batch is divided over; default as many as divide --batch_size evenly",
        lower_bound=1,
        flag_values=given,
    )
    flags.DEFINE_string(
        "coordinator", None, "host:port of the first process, where there are several", flag_values=given
    )
    flags.DEFINE_integer(
        "num_processes", None, "how many processes train together", lower_bound=1, flag_values=given
    )
    flags.DEFINE_integer(
        "process_id", None, "which of them this one is, from 0", lower_bound=0, flag_values=given
    )
    flags.DEFINE_float(
        "connect_timeout",
        300.0,
        "seconds in which all of them must have come",
        lower_bound=0.1,
        upper_bound=1e6,
        flag_values=given,
    )


def is_first_process(given: flags.FlagValues) -> bool:
    """Whether this process evaluates, writes and prints."""
    return not given.process_id


def check_flags(given: flags.FlagValues, *, num_seeds: int) -> None:
    """Rejects flags that contradict each other.

    Raises:
        InputError: naming the flag.
    """
    if given.feature_store == "disk":
        if given.synthetic:
            raise InputError("--feature_store: is disk; expected device with --synthetic, which has no files")
        if num_seeds > 1:
            raise InputError(f"--num_seeds: is {num_seeds}; expected 1 with --feature_store=disk")
        if not importlib.util.find_spec("grain"):
            raise InputError("--feature_store: disk needs grain; expected pip install '.[host]', or device")
    _processes(given)


def _processes(given: flags.FlagValues) -> Processes | None:
    """The processes that train together; None if there is only this one.

    Raises:
        InputError: if only some of the flags are given, or they contradict each other.
    """
    together = {name: given[name].value for name in ("coordinator", "num_processes", "process_id")}
    missing = [name for name, value in together.items() if value is None]
    if len(missing) == len(together):
        return None
    if missing:
        raise InputError(
            f"--{missing[0]}: is missing; expected --coordinator, --num_processes and --process_id together"
        )
    host, _, port = given.coordinator.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 2**16):
        raise InputError(f"--coordinator: is {given.coordinator!r}; expected host:port, as in 10.0.0.1:12345")
    if given.process_id >= given.num_processes:
        raise InputError(
            f"--process_id: is {given.process_id}; expected less than --num_processes={given.num_processes}"
        )
    return Processes(given.coordinator, given.num_processes, given.process_id, given.connect_timeout)


@contextlib.contextmanager
def connected(given: flags.FlagValues, config: CaseConfig, narrator: Narrator) -> Iterator[Hardware]:
    """Connects to the other processes, if there are any, and chooses the devices that the flags ask for.

    Raises:
        InputError: if not all processes come in time, or a batch cannot be divided over the devices.
    """
    processes = _processes(given)
    # The narrator of a process that is not the first one is silent.
    say = narrator.say if is_first_process(given) else functools.partial(print, flush=True)
    with connected_to(processes, say):
        devices = jax.devices()
        asked = given.num_devices or len(devices)
        if asked > len(devices):
            raise InputError(f"--num_devices: is {asked}; expected at most the {len(devices)} there are")
        if config.batch_size % asked and (given.num_devices or processes):
            raise InputError(
                f"--batch_size: is {config.batch_size}; expected a multiple of the {asked} devices"
            )
        hardware = Hardware.of(
            config.batch_size,
            asked,
            on_device=given.feature_store == "device",
            num_workers=given.num_workers,
            eval_workers=_eval_workers(given),
        )
        if len(devices) > 1:
            used = hardware.mesh.size
            narrator.say(f"devices: {used} of {len(devices)}, {devices[0].device_kind}")
        yield hardware


def _eval_workers(given: flags.FlagValues) -> int:
    """Worker processes of the numpy stage: by default half of the cores, and none where there are few."""
    if given.eval_workers is not None:
        return given.eval_workers
    cores = os.cpu_count() or 1
    return 0 if cores <= 2 else min(8, cores // 2)
