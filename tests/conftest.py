"""A strict session: 8 virtual CPU devices, no silent promotion of ranks or dtypes."""

import os
import sys
from pathlib import Path

import pytest

# Before jax is imported anywhere.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ["JAX_PLATFORMS"] = "cpu"

import jax

jax.config.update("jax_numpy_rank_promotion", "raise")

# optax's Adam raises a float to its int32 step count, so tests that take optimiser steps cannot be strict.
TAKES_STEPS = {
    "test_training",
    "test_evaluation",
    "test_workdir",
    "test_checkpoints",
    "test_html",
    "test_figures",
}


@pytest.fixture(autouse=True)
def strict_dtypes(request):
    module = request.node.path.stem
    with jax.numpy_dtype_promotion("standard" if module in TAKES_STEPS else "strict"):
        yield


ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
sys.path.insert(0, str(ROOT))


def _shared(part: str) -> Path:
    path = SHARED / part
    if not path.is_dir():
        pytest.skip(f"{part} is not beside the project (../shared/{part})")
    return path


@pytest.fixture(scope="session")
def golden() -> Path:
    """Arrays of the published code."""
    return _shared("golden")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets."""
    return _shared("data")
