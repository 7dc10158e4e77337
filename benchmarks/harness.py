"""What every benchmark shares: timing in turn, the table, and the last line of JSON."""

import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from case_jax.errors import InputError
from case_jax.report.tables import format_table

__all__ = ["finish", "in_turn", "milliseconds", "require_packages", "seconds_of"]


def in_turn(
    contestants: Mapping[str, Callable[[], Any]], *, repeats: int, warmup: int = 1
) -> dict[str, float]:
    """Median seconds of each contestant, called one after the other, again and again.

    A shared machine's speed drifts; who runs in turn drifts together, so that ratios hold.

    Args:
        contestants: name -> function to call; what it returns is waited for.
        repeats: how often each is timed.
        warmup: how often each is called before, for compilation.

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
    """Wall seconds of one call, its result waited for."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def milliseconds(seconds: float) -> str:
    """Seconds as text in milliseconds, three digits."""
    return f"{1000 * seconds:.3g}" if seconds < 1 else f"{1000 * seconds:,.0f}"


def require_packages(flag: str, extra: str, **packages: str) -> None:
    """Refuses peers that are not installed.

    Args:
        flag: the flag that asked for them.
        extra: which extra of the project installs them.
        **packages: peer -> package to import.

    Raises:
        InputError: naming the peer.
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
    """Prints the table and, last, the JSON line.

    Args:
        benchmark: its name.
        rows: the table, a header first.
        ours_s: our seconds in the main comparison.
        peer: with whom; None where nobody was asked.
        peer_s: its seconds.
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
