"""What goes wrong around a command, in one line: memory, devices, processes, limits of the system.

Libraries report these in exceptions of many kinds, from any depth. The line names the cause, and the flag or
the variable that helps.
"""

import errno
import os
import re
import sys
import traceback
from concurrent.futures.process import BrokenProcessPool

from absl import flags

from case_jax.commands.jax_variables import platform_missing
from case_jax.errors import InputError
from case_jax.words import listed

__all__ = ["LimitReached", "explained", "with_limit"]

# What makes a command need less memory, of which it names the flags that it has.
_SMALLER = (
    *("batch_size", "num_snippets", "hidden_dim", "num_clusters", "num_seeds", "clips_at_once", "window"),
    *("eval_workers", "num_workers", "side", "num_train", "num_test"),
)
_OTHERWISE = {
    "feature_store": "--feature_store=disk",
    "feature_dtype": "--feature_dtype=bfloat16",
    "in_memory": "--noin_memory",
    "num_shards": "--num_shards",
}

# How XLA, its collective operations and JAX's coordination say that another process does not answer.
_LOST = re.compile(
    "gloo|nccl|coordination service|barrier|heartbeat|connection (closed|reset)|unavailable|deadline",
    re.I,
)


class LimitReached(InputError):
    """A limit of the system, of open files or processes, is too low.

    Then threads of libraries may wait for ever for others that could not be started, so that a program which
    waits for its threads would not end.
    """


def explained(error: Exception, given: flags.FlagValues | None) -> InputError | None:
    """An error of the surroundings as bad input.

    Args:
        error: what a command raised.
        given: its flags; None where they were not parsed.

    Returns:
        The error in one line; None if it has another cause, which is then a bug.
    """
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return _out_of_memory(text, given)
    if isinstance(error, BrokenProcessPool):
        return InputError(
            "--eval_workers: a process that localises has ended, as the system does where memory is short; "
            "expected memory for each, so try fewer, or 0 for none"
        )
    if isinstance(error, OSError):
        return _of_system(error, given)
    if type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError"):
        if "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower():
            return _out_of_memory(_first_sentence(text), given)
        if _together(given) and _LOST.search(text):
            return InputError(
                f"--coordinator: another process has gone, or does not answer ({_first_sentence(text)}); "
                "expected all --num_processes to run; the same commands go on from the last evaluation"
            )
    if isinstance(error, RuntimeError):
        if "can't start new thread" in text:
            return _too_many_processes(text, given)
        if match := re.match(r"Worker process was terminated unexpectedly with exit code (-?\d+)", text):
            return _lost_worker(int(match[1]))
    return platform_missing(error)


def with_limit(error: InputError) -> InputError:
    """The error, and where it tells of too many open files, also what raises their number."""
    if os.strerror(errno.EMFILE) in str(error) and not isinstance(error, LimitReached):
        return LimitReached(f"{error} (ulimit -n raises the limit)")
    return error


def _out_of_memory(text: str, given: flags.FlagValues | None) -> InputError:
    """Memory of the host or of a device is too small."""
    kinds = {} if given is None else {name: given[name].flag_type() for name in given}
    smaller = [f"--{name}" for name in _SMALLER if kinds.get(name) == "int"]
    ways = [f"a smaller {listed(smaller, 'or')}"] if smaller else []
    ways += [flag for name, flag in _OTHERWISE.items() if name in kinds]
    expected = listed(ways, "or") if ways else "more memory, or smaller files"
    return InputError(f"memory: there is too little of it ({text or 'out of memory'}); expected {expected}")


def _of_system(error: OSError, given: flags.FlagValues | None) -> InputError | None:
    """An error of the operating system that users can do something about."""
    reason = error.strerror or str(error)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return LimitReached(f"open files: there are too many ({reason}); expected a higher limit (ulimit -n)")
    if error.errno == errno.EAGAIN and error.filename is None:
        return _too_many_processes(reason, given)
    if error.errno == errno.ENOMEM:
        return _out_of_memory(reason, given)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
        if error.filename is None and (_printing(error) or not _workers(given)):
            return InputError(f"standard output: cannot be written ({reason}); expected room where it goes")
        if error.filename is None or str(error.filename).startswith("/dev/shm"):
            return InputError(
                f"/dev/shm: cannot be written ({reason}); expected room in it and in the folder of temporary "
                "files: docker run --shm-size=1g, or --num_workers=0 and --eval_workers=0"
            )
        return InputError(f"{error.filename}: cannot be written ({reason})")
    return None


def _printing(error: OSError) -> bool:
    """Whether standard output cannot be written, as far as that can be told."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if frames and frames[-1].f_globals.get("__name__", "").startswith(("case_jax.commands.", "rich.")):
        return True  # only they print
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        return True
    return False


def _workers(given: flags.FlagValues | None) -> list[str]:
    """The flags that ask for worker processes, or leave their number to the command."""
    names = ("num_workers", "eval_workers")
    return [name for name in names if given is not None and name in given and given[name].value != 0]


def _too_many_processes(reason: str, given: flags.FlagValues | None) -> InputError:
    workers = [
        f"--{name}=0" for name in ("num_workers", "eval_workers") if given is not None and name in given
    ]
    return LimitReached(
        f"processes and threads: no more can be started ({reason}); expected a higher limit "
        f"({listed(['ulimit -u', 'docker run --pids-limit', *workers], 'or')})"
    )


def _lost_worker(status: int) -> InputError:
    """A process that gathers batches has ended: for want of shared memory (SIGBUS), or of any (SIGKILL)."""
    return InputError(
        f"--num_workers: a process that gathers batches ended with status {status}; expected memory for each "
        "of them, also in /dev/shm (docker run --shm-size), so try fewer, or 0 for none"
    )


def _together(given: flags.FlagValues | None) -> bool:
    """Whether several processes train together."""
    return given is not None and "num_processes" in given and (given["num_processes"].value or 1) > 1


def _first_sentence(text: str) -> str:
    """The beginning of XLA's message, without what it knows of its own allocations."""
    text = re.split(r"\. |; |: while running|--------------------| \[", text)[0]
    return text if len(text) <= 200 else text[:197] + "..."
