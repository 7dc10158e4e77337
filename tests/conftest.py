"""A strict session: 8 virtual CPU devices, no silent promotion of ranks or dtypes."""

import gc
import os
import socket
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
pytest.register_assert_rewrite("tests.helpers")  # so that their failed assertions show what they compared


@pytest.fixture(autouse=True)
def strict_dtypes():
    """No mix of dtypes is promoted silently."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def standard_dtypes(strict_dtypes):
    """For tests that take steps of the optimiser: optax's Adam raises a float to its int32 step count."""
    with jax.numpy_dtype_promotion("standard"):
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


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory) -> Path:
    """A folder of compiled programs that all workers and processes of the session share, which saves time."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "compiled"
    folder.mkdir(exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Keeps a worker small: programs of a module's tests are of no use to the next module's."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def environment(compiled) -> dict[str, str]:
    """Variables of processes: one CPU device, and the compiled programs of the session."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return {**inherited, **cache, "JAX_PLATFORMS": "cpu"}


@pytest.fixture
def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
