"""Variables of the environment, above all JAX_*, that would change what a seed means, or that cannot be read.

The packages of the commands and of the benchmarks import this module before jax, which reads the variables.
"""

import os
import re
import sys
import traceback
import types
from collections.abc import Callable, Mapping
from typing import Any

from case_jax.errors import InputError

__all__ = ["NUMBERS", "overrule", "platform_missing", "start_devices", "unreadable"]

# Option of JAX -> the value with which a seed means the same everywhere, which is JAX's own default. Its
# variable has the same name in capitals. What only says where and how to compute (JAX_PLATFORMS, the cache of
# compiled programs, XLA_FLAGS) stays as the user has it.
NUMBERS: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_default_matmul_precision": None,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_softmax_custom_jvp": False,
    "jax_high_dynamic_range_gumbel": False,
    "jax_disable_jit": False,
    "jax_disable_most_optimizations": False,
    "jax_no_tracing": False,
    "jax_no_execution": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_debug_key_reuse": False,
    "jax_transfer_guard": None,
}

# How JAX writes what is true or false.
_WORDS = {True: ("y", "yes", "t", "true", "on", "1"), False: ("n", "no", "f", "false", "off", "0")}


def _take() -> dict[str, str]:
    """Takes the variables of `NUMBERS` out of the environment, so that no worker process reads them."""
    return {option: os.environ.pop(option.upper()) for option in NUMBERS if option.upper() in os.environ}


_TAKEN = _take()  # option -> what its variable was when the commands were imported
# What changes nothing here, and ends a command where it cannot be read: figures go to files whatever the
# backend, and names of source files in compiled programs do not matter.
for _name in ("MPLBACKEND", "JAX_HLO_SOURCE_FILE_CANONICALIZATION_REGEX"):
    os.environ.pop(_name, None)


def overrule(say: Callable[[str], None]) -> None:
    """Tells which variables of `NUMBERS` are not heeded, if jax is in use.

    If they were, a seed would be another run where such a variable is set, and a run that goes on
    there would silently be neither of the two.

    Args:
        say: is told one line for each variable that would change an option of JAX.
    """
    given = {**_TAKEN, **_take()}
    if "jax" not in sys.modules:
        return
    import jax

    for option, text in given.items():
        value = NUMBERS[option]
        if text and option in jax.config.values and not _means(text, value):
            jax.config.update(option, value)  # in case that jax was imported before the commands
            say(f"{option.upper()}={text}: is not heeded; a seed means the same numbers everywhere")


def _means(text: str, value: Any) -> bool:
    """Whether JAX reads a text as a value."""
    return text.lower() in _WORDS[value] if isinstance(value, bool) else text == str(value)


def unreadable(error: BaseException) -> InputError | None:
    """An error of JAX or Flax about a variable that they cannot read in our words; None for any other."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_globals.get("__name__") not in ("jax._src.config", "flax.configurations"):
            continue
        known = frame.f_locals
        name = str(known.get("varname", known.get("name"))).upper()
        if name in os.environ:
            expected = _expected(frame.f_code.co_name, known)
            return InputError(f"{name}: is {os.environ[name]!r}; expected {expected}, or no such variable")
    return None


def _expected(reader: str, known: Mapping[str, Any]) -> str:
    """What a function of JAX or Flax takes, by its name and what it knows of the variable."""
    if "enum_values" in known:
        return f"one of {', '.join(known['enum_values'])}"
    if "enum_class" in known:
        members = known["enum_class"]
        return f"one of {', '.join(m.value if isinstance(m.value, str) else m.name.lower() for m in members)}"
    kinds = {"bool": "true or false", "int": "a whole number", "float": "a number"}
    return next((words for kind, words in kinds.items() if kind in reader), "a value that jax takes")


def _report(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """Reports what ends the program; a variable that cannot be read in one line, with status 2.

    Such an error comes where jax is imported, which is mostly before any command could catch it.
    """
    refused = unreadable(error)
    if refused is None:
        _report_as_before(kind, error, trace)
    else:
        print(f"error: {refused}", file=sys.stderr)
        sys.exit(2)


_report_as_before, sys.excepthook = sys.excepthook, _report


def start_devices() -> None:
    """Starts the devices that JAX_PLATFORMS names, if it does: without them, a command ends before any work.

    Raises:
        RuntimeError, AssertionError: JAX's own, see `platform_missing`.
    """
    if "jax" in sys.modules and os.environ.get("JAX_PLATFORMS", "") not in ("", "cpu"):
        import jax

        jax.devices()


def platform_missing(error: Exception) -> InputError | None:
    """An error of JAX about devices that are not there in our words; None for any other error."""
    if not isinstance(error, RuntimeError | AssertionError) or "jax" not in sys.modules:
        return None
    import jax

    reason = " ".join(str(error).split())
    if isinstance(error, AssertionError):  # a bare one, where there is no NVIDIA GPU
        *_, (last, _) = traceback.walk_tb(error.__traceback__)
        if last.f_globals.get("__name__") != "jax._src.xla_bridge":
            return None
        reason = "there is no such device"
    elif not re.match(
        "Unable to initialize backend|Unknown backend|Backend '.*' failed to initialize", reason
    ):
        return None
    asked = getattr(jax.config, "jax_platforms")  # noqa: B009, which mypy does not know
    reason = re.sub(r" \((set JAX_PLATFORMS|you may need).*", "", reason)
    if name := jax.config.values["jax_platform_name"]:  # an older variable
        return InputError(
            f"JAX_PLATFORM_NAME: is {name!r}, which does not start ({reason}); expected no such variable"
        )
    if not asked:
        return InputError(f"JAX_PLATFORMS: is not set, and the devices do not start ({reason}); expected cpu")
    jax.config.update("jax_platforms", None)
    try:
        there = ",".join(dict.fromkeys(device.platform for device in jax.devices()))
    except (RuntimeError, AssertionError):
        there = "cpu"
    return InputError(
        f"JAX_PLATFORMS: is {asked!r}, which does not start ({reason}); expected {there}, which is here, or "
        "no such variable"
    )
