"""A mark changes with the features, whatever their files' times say, and with nothing else."""

import os
import shutil
import time

import h5py
import numpy as np
import pytest

from case_jax.data.fingerprints import mark_of_arrays, mark_of_files, spread
from case_jax.data.sources import Source

FLOAT32 = np.dtype(np.float32)


@pytest.fixture
def sources(tmp_path, rng):
    """Two streams of a video, of 40 snippets with 512 channels: larger than all places that are looked at."""
    for stream in ("rgb", "flow"):
        np.save(tmp_path / f"{stream}.npy", rng.random((40, 512), np.float32))
    return {stream: Source(tmp_path / f"{stream}.npy") for stream in ("rgb", "flow")}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def replace_with_old_times(path, array):
    """As `cp -p`, `rsync -a` and `tar x` do: other content under the times of before."""
    status = os.stat(path)
    np.save(path, array)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_the_mark_of_files_that_are_left_alone_stays(sources):
    mark = mark_of_files(sources)
    assert mark_of_files(sources) == mark
    assert mark.changed == max(os.stat(source.path).st_mtime_ns for source in sources.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[::-1],
        lambda x: 3 * x,
        lambda x: x / np.linalg.norm(x, axis=1, keepdims=True),
        lambda x: x[:-1],
        lambda x: x.astype(np.float64),
        lambda x: x.T,
        lambda x: np.roll(x, 1, axis=1),
    ],
)
def test_other_features_under_the_same_times_have_another_mark(change, sources):
    mark = mark_of_files(sources)
    path = sources["flow"].path
    replace_with_old_times(path, np.ascontiguousarray(change(np.load(path))))
    assert mark_of_files(sources).digest != mark.digest


def test_a_later_time_gives_another_mark(sources):
    mark = mark_of_files(sources)
    later = mark.changed + 1
    os.utime(sources["rgb"].path, ns=(later, later))
    assert mark_of_files(sources).digest != mark.digest
    assert mark_of_files(sources).changed == later


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 9000])
def test_the_first_and_the_last_byte_count_in_files_of_any_size(size, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(bytes(size))
    status = os.stat(path)
    marks = {mark_of_files({"rgb": Source(path)}).digest}
    for at in {0, size - 1} if size else ():
        content = bytearray(size)
        content[at] = 1
        path.write_bytes(content)
        os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
        marks.add(mark_of_files({"rgb": Source(path)}).digest)
    assert len(marks) == 1 + len({0, size - 1} if size else ())


def test_data_sets_in_one_file(tmp_path, rng):
    path = tmp_path / "features.h5"
    with h5py.File(path, "w") as file:
        for name in "ab":
            file[name] = rng.random((20, 8))
    a, b = ({"rgb": Source(path, name)} for name in "ab")
    mark = mark_of_files(a)
    assert mark.digest != mark_of_files(b).digest
    status = os.stat(path)
    with h5py.File(path, "r+") as file:
        file["a"][:] = 2 * file["a"][:]
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))
    assert mark_of_files(a).digest != mark.digest


def test_what_cannot_be_read_is_left_to_the_readers(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name in ("gone.npy", "pipe.npy", "."):
        assert mark_of_files({"rgb": Source(tmp_path / name)}).digest


def test_a_copy_elsewhere_has_the_same_mark_in_memory(sources, tmp_path):
    """Neither the files' place, time and format counts, nor whether features are in memory."""
    arrays = {stream: np.load(source.path) for stream, source in sources.items()}
    mapped = {stream: np.load(source.path, mmap_mode="r") for stream, source in sources.items()}
    mark = mark_of_arrays(arrays, 40, FLOAT32)
    assert mark_of_arrays(mapped, 40, FLOAT32) == mark
    double = {stream: array.astype(np.float64) for stream, array in arrays.items()}
    assert mark_of_arrays(double, 40, FLOAT32) == mark
    assert mark_of_arrays({s: a[:, ::-1] for s, a in arrays.items()}, 40, FLOAT32) != mark
    assert mark_of_arrays(arrays, 39, FLOAT32) != mark


@pytest.mark.parametrize("length, count", [(1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (1000, 4), (1000, 32)])
def test_places_are_spread_from_the_first_to_the_last(length, count):
    places = spread(length, count)
    assert places == sorted(set(places))
    assert (places[0], places[-1]) == (0, length - 1)
    assert len(places) == min(length, count)
    gaps = np.diff(places)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_marks_are_cheap(sources, tmp_path):
    """A thousand videos of two streams take a tenth of a second or two; the bound is for a busy machine."""
    many = []
    for i in range(50):
        many.append({s: Source(tmp_path / f"{s}{i}.npy") for s in sources})
        for stream, source in sources.items():
            shutil.copy(source.path, tmp_path / f"{stream}{i}.npy")
    began = time.process_time()
    for of_video in many:
        mark_of_files(of_video)
    assert time.process_time() - began < 50 * 2e-3
