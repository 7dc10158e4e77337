"""Where and how a run computes: devices, worker processes, several hosts. Nothing here changes a result."""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from case_jax.errors import InputError
from case_jax.runs.meeting import Processes, address_of, met
from case_jax.runs.relay import relayed
from case_jax.runs.signals import end_program
from case_jax.training.parallel import make_mesh

__all__ = ["Hardware", "Processes", "connected", "in_first_process"]


class Hardware(NamedTuple):
    """Devices and worker processes of a run."""

    mesh: Mesh  # devices that every batch is divided over
    on_device: bool = True  # features on every device; otherwise the host gathers batches from disk
    num_workers: int = 0  # processes that gather batches, if not on_device
    eval_workers: int = 0  # processes of the numpy stage of evaluation

    @classmethod
    def of(cls, batch_size: int, num_devices: int | None = None, **options) -> "Hardware":
        """The largest part of all devices that divides a batch evenly.

        Args:
            batch_size: B, videos in a batch.
            num_devices: how many devices to use at most; default all of all hosts.
            **options: the other fields.
        """
        devices = jax.devices()
        count = min(num_devices or len(devices), len(devices))
        while batch_size % count:
            count -= 1
        return cls(make_mesh(devices[:count]), **options)


@contextlib.contextmanager
def connected(processes: Processes | None, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Connects this process to the others while the context lasts.

    If another one is lost meanwhile, this program ends at once with status 2: nothing can be computed without
    it.

    Args:
        processes: the processes; None where there is only this one.
        say: is told what this process waits for.

    Raises:
        InputError: if not all processes come in time.
    """
    if processes is None:
        yield
        return
    with met(processes, say, lambda message: end_program(2, f"error: {message}")):
        host, port = address_of(processes)
        with relayed(host if processes.process_id else "127.0.0.1", port, patience=processes.patience) as way:
            # Where http_proxy is set, gRPC would ask the proxy even for this machine, and wait in vain.
            jax.config.update("jax_check_proxy_envs", False)  # it warns of that
            os.environ.setdefault("no_grpc_proxy", f"{os.environ.get('no_proxy', '')},127.0.0.1".lstrip(","))
            jax.distributed.initialize(
                way,
                processes.num_processes,
                processes.process_id,
                initialization_timeout=math.ceil(processes.patience),
                coordinator_bind_address=f"[::]:{port}",
            )
            yield
            jax.distributed.shutdown()  # waits for the others, so not where this one has failed


def in_first_process(call: Callable[[], object]) -> None:
    """Calls a function in the first process. If it refuses its input there, every process stops.

    Raises:
        InputError: in the first process the function's own error, in the others one that says so.
    """
    refused = None
    if not jax.process_index():
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
