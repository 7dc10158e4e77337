"""Parts that benchmarks share: common flags, timing in turn, the table, and the last line of JSON."""

import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from absl import flags

from case_jax.errors import InputError
from case_jax.report.tables import format_table

__all__ = [
    "define_repeats",
    "define_width",
    "finish",
    "in_turn",
    "milliseconds",
    "peers_from_flags",
    "require_packages",
    "seconds_of",
]


def define_repeats(given: flags.FlagValues, default: int) -> None:
    """The flag --repeats."""
    flags.DEFINE_integer("repeats", default, "timed runs of each", lower_bound=1, flag_values=given)


def define_width(given: flags.FlagValues, default: int = 1024) -> None:
    """The flag --width."""
    flags.DEFINE_integer(
        "width", default, "channels of each of the two streams", lower_bound=1, flag_values=given
    )


def peers_from_flags(given: flags.FlagValues, known: Sequence[str]) -> list[str]:
    """The peers that --peers names; an empty flag gives none.

    Args:
        given: the parsed flags.
        known: every name that the flag may hold.

    Raises:
        InputError: if the flag holds another name.
    """
    peers = [peer for peer in given.peers if peer]
    if not set(peers) <= set(known):
        raise InputError(f"--peers: is {','.join(peers)}; expected some of {', '.join(known)}")
    return peers


def in_turn(
    contestants: Mapping[str, Callable[[], Any]], *, repeats: int, warmup: int = 1
) -> dict[str, float]:
    """Median seconds of each contestant, called one after the other, again and again.

    The speed of a shared machine drifts. Contestants that run in turn drift together, so their ratios hold.

    Args:
        contestants: name -> function to call; the timing waits until its arrays are computed.
        repeats: how often each is timed.
        warmup: how often each is called beforehand, so that compilation is not timed.

    Returns:
        Name -> median of its seconds.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(warmup):
        for call in contestants.values():
            jax.block_until_ready(call())
    for _ in range(repeats):
        for name, call in contestants.items():
            times[name].append(seconds_of(call))
    return {name: statistics.median(values) for name, values in times.items()}


def seconds_of(call: Callable[[], Any]) -> float:
    """Wall-clock seconds of one call, until its arrays are computed."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def milliseconds(seconds: float) -> str:
    """Seconds as text in milliseconds, with three digits."""
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:,.0f}"


def require_packages(flag: str, extra: str, **packages: str) -> None:
    """Checks that the packages of the peers are installed.

    Args:
        flag: the flag that asked for the peers.
        extra: the extra of the project that installs them.
        **packages: peer -> package to import.

    Raises:
        InputError: if a package is missing; the message names its peer.
    """
    for peer, package in packages.items():
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"--{flag}: {peer} needs {package}; expected pip install '.[{extra}]', or --{flag} without it"
            )


def finish(
    benchmark: str,
    rows: Sequence[Sequence[str]],
    *,
    ours_s: float,
    peer: str | None,
    peer_s: float | None,
    **more: Any,
) -> None:
    """Prints the table, and the JSON line last.

    Args:
        benchmark: its name.
        rows: the table; its first row is the header.
        ours_s: our seconds in the main comparison.
        peer: name of the peer in the main comparison; None without one.
        peer_s: the peer's seconds.
        **more: further fields of the JSON object.
    """
    print(format_table(rows))
    device = jax.devices()[0]
    facts = {
        "benchmark": benchmark,
        "ours_s": ours_s,
        "peer": peer,
        "peer_s": peer_s,
        "ratio": None if peer_s is None else ours_s / peer_s,
        **more,
        "backend": device.platform,
        "device": device.device_kind,
        "cores": os.cpu_count(),
        "jax": jax.__version__,
    }
    print(json.dumps(facts))
