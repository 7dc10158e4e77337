"""A strict session: 8 virtual CPU devices, no silent promotion of ranks or dtypes."""

import ctypes
import gc
import os
import pickle
import re
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


# Folders whose tests share trainings: one worker runs them all. Elsewhere a worker runs a whole file.
_TOGETHER = ("tests/commands", "tests/runs", "tests/report", "tests/experiments/ablations", "tests/faults")
# Files of long tests that share nothing: each test goes to whichever worker is free.
_APART = (
    "tests/benchmarks/test_benchmarks.py",
    "tests/evaluation/test_exact_oracle.py",
)
_SLOW_SECONDS = 900  # limit of a slow test, fixtures included
_LARGE = 1.2e9  # bytes


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        """A worker takes a whole folder or file, so that shared trainings and programs are made once."""

        def _split_scope(self, nodeid: str) -> str:
            return _place_of(nodeid)

    return ByPlace(config, log)


def _place_of(nodeid: str) -> str:
    """The folder or file whose tests one worker runs, or one test that any worker runs."""
    file, _, _ = nodeid.partition("::")
    folder, _, _ = file.rpartition("/")
    if folder in _TOGETHER:
        return folder
    return nodeid if file in _APART else file


def pytest_collection_modifyitems(items):
    """Whole folders first, single tests last: begun late, a folder would keep one worker alone at the end."""

    def order(item) -> int:
        place = _place_of(item.nodeid)
        if place in _TOGETHER:
            return 0
        return 1 if place != item.nodeid else 2 + _APART.index(place.partition("::")[0])

    items.sort(key=order)


def pytest_itemcollected(item):
    if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
        item.add_marker(pytest.mark.timeout(_SLOW_SECONDS))


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
    """A folder of compiled programs that all workers and processes of the session share, which saves time.

    Several sessions share the folder that JAX's own variable names.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or folder / "compiled")
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Keeps a worker below 2 GB: JAX would keep the programs of all modules."""
    yield
    if _resident_bytes() > _LARGE:
        jax.clear_caches()
        gc.collect()
        _return_free_memory()


def _return_free_memory() -> None:
    """Gives the system what `free` keeps: else the process seems large, and forgets, after every module."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)


def _resident_bytes() -> int:
    """Memory that this process has now; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@pytest.fixture(scope="session")
def environment(compiled) -> dict[str, str]:
    """Variables of processes: one CPU device, and the compiled programs of the session."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    # How much XLA optimises stays as it is given.
    xla = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"]).strip()
    return {**os.environ, **cache, "XLA_FLAGS": xla, "JAX_PLATFORMS": "cpu"}


@pytest.fixture
def trap(tmp_path_factory, monkeypatch):
    """Arms `Trap`, which must not be sprung."""
    from tests.helpers.files import Trap

    path = tmp_path_factory.mktemp("trap") / "sprung"
    monkeypatch.setattr(Trap, "path", path)
    pickle.loads(pickle.dumps(Trap()))
    assert path.exists()  # it works
    path.unlink()
    yield
    assert not path.exists()


@pytest.fixture
def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
