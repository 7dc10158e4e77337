"""Sizes that no memory here can hold, seen before any work is done."""

import os
from pathlib import Path

import jax

from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.localization.rescoring import PARTS
from case_jax.refinement.settings import RefinementConfig
from case_jax.runs.hardware import Hardware
from case_jax.runs.settings import RunSettings

__all__ = ["check_examples", "check_memory"]

_SIZES = ("num_snippets", "hidden_dim", "num_clusters", "batch_size")
_CONTAINER = Path("/sys/fs/cgroup/memory.max")


def check_memory(settings: RunSettings, hardware: Hardware, *, num_seeds: int = 1) -> None:
    """Rejects sizes that cannot fit, counting only what training holds for certain.

    These are the model's embeddings with Adam's two moments, and one batch with its embedding. What fits here
    may still be too large.

    Args:
        settings: of the run.
        hardware: the devices that train.
        num_seeds: how many seeds train at once.

    Raises:
        InputError: naming the flag to blame.
    """
    config, widths = settings.config, settings.stream_widths.values()
    channels, hidden = sum(widths), config.hidden_dim
    model = 4 * 3 * num_seeds * hidden * (channels + config.num_clusters)
    rows = num_seeds * config.batch_size * config.num_snippets / hardware.mesh.size
    batch = 4 * rows * (channels + hidden * len(widths))
    room = _room(hardware)
    if model + batch <= room:
        return
    # What is furthest above its default is to blame.
    name = max(_SIZES, key=lambda name: getattr(config, name) / getattr(CaseConfig(), name))
    raise InputError(
        f"--{name}: is {getattr(config, name)}, so training needs {(model + batch) / 1e9:,.0f} GB; "
        f"expected sizes that fit into the {room / 1e9:,.0f} GB of memory here: --num_snippets, --batch_size,"
        " --hidden_dim, --num_clusters, --num_seeds"
    )


def check_examples(num_videos: int, width: int, config: RefinementConfig) -> None:
    """Rejects a second stage whose examples cannot fit into this host's memory.

    Args:
        num_videos: training videos.
        width: D, channels of all streams together.
        config: of the second stage.

    Raises:
        InputError: naming the flag that helps.
    """
    needed, room = 4 * num_videos * config.num_proposals * len(PARTS) * width, _room_of_host()
    if needed > room:
        raise InputError(
            f"--num_proposals: is {config.num_proposals}, so the examples of {num_videos:,} videos need "
            f"{needed / 1e9:,.0f} GB; expected a number with which they fit into the {room / 1e9:,.0f} GB of "
            "memory here"
        )


def _room(hardware: Hardware) -> float:
    """Bytes of memory of one device, or of this host where the device is a CPU."""
    device = next((d for d in hardware.mesh.devices.flat if d.process_index == jax.process_index()), None)
    stats = device.memory_stats() if device is not None and device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    return _room_of_host()


def _room_of_host() -> float:
    """Bytes of memory of this host, or of what this process may have of it."""
    limits = [float("inf")]
    try:
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    except (OSError, ValueError, AttributeError):  # a system that does not tell
        pass
    try:
        import resource

        address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
        if address_space != resource.RLIM_INFINITY:
            limits.append(float(address_space))
    except ImportError:  # Windows
        pass
    try:
        limits.append(float(_CONTAINER.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        pass
    return min(limits)
