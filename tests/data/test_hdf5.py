import h5py
import numpy as np
import pytest

from case_jax.data.hdf5 import list_keys, read_data_set
from case_jax.data.sources import Source, read_source
from tests.helpers.files import ONES, npy
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file of data sets that can and that cannot be used; read only."""
    folder = tmp_path_factory.mktemp("hdf5")
    with h5py.File(folder / "rgb.h5", "w") as file:
        file["good"] = ONES
        file["group/c3d"] = ONES.astype(np.float16)
        file["two/x"], file["two/y"] = ONES, ONES
        file["inner/linked"] = h5py.SoftLink("/good")
        file["via"] = h5py.ExternalLink("/etc/hostname", "x")
        file["nothing"] = h5py.Empty("f4")
        file["scalar"] = 1.5
        file["flat"] = ONES[0]
        file["empty"] = ONES[:0]
        file["text"] = np.array([[b"a"]])
        file["nan"] = ONES * np.nan
        file["soft"] = h5py.SoftLink("/good")
        file["outside"] = h5py.ExternalLink("/etc/hostname", "x")
        np.zeros(12, np.float32).tofile(folder / "raw")
        file.create_dataset("raw", (4, 3), "f4", external=[(str(folder / "raw"), 0, 48)])
        # 4 TB that no file holds, and 1 GB of zeros from less than one thousandth of it.
        file.create_dataset("huge", (10**9, 1024), "f4", chunks=(1, 1024))
        file.create_dataset("sparse", (2**18, 1024), "f4", chunks=(1, 1024))[0] = 1
    return folder / "rgb.h5"


def test_data_sets_and_groups_of_one(path):
    for key in ("good", "group", "two/x"):
        np.testing.assert_array_equal(read_data_set(path, key), ONES, strict=True)
    assert {"good", "group", "huge"} < set(list_keys(path))
    assert list_keys(path, "two") == ["x", "y"]
    assert list_keys(path, "good") == []
    assert_parts(refusal(list_keys, path, "via"), f"{path}: data set 'via'", "link", "in the file itself")


def test_the_only_data_set_needs_no_name(path, tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["features"], file["._x"] = ONES, ONES
    np.testing.assert_array_equal(read_data_set(tmp_path / "v.h5"), ONES, strict=True)
    assert_refused(read_data_set, path, "data sets ('", "one data set … per stream")


@pytest.mark.parametrize(
    "key, wrong, expected",
    [
        ("gone", "not there", "data set"),
        ("two", "group of 2 ('x', 'y')", "one data set … per stream"),
        ("two/z", "not there", "data set"),
        ("good/x", "not there", "data set"),
        ("inner/linked", "link", "in the file itself"),
        ("soft/x", "link", "in the file itself"),
        ("via/x", "link", "in the file itself"),
        ("nothing", "no numbers", "(snippets, channels)"),
        ("scalar", "shape ()", "(snippets, channels)"),
        ("flat", "shape (3,)", "(snippets, channels)"),
        ("text", "no numbers", "(snippets, channels)"),
        ("empty", "shape (0, 3)", "(snippets, channels)"),
        ("nan", "snippet 0, channel 0 is nan", "finite"),
        ("soft", "link", "in the file itself"),
        ("outside", "link", "in the file itself"),
        ("raw", "other files", "in the file itself"),
        ("huge", "(1000000000, 1024) … more than is stored", "(snippets, channels)"),
        ("sparse", "(262144, 1024) … more than is stored", "(snippets, channels)"),
    ],
)
def test_data_sets_that_cannot_be_used(path, key, wrong, expected):
    assert_parts(refusal(read_source, Source(path, key)), f"{path}: data set {key!r}", wrong, expected)


@pytest.mark.parametrize(
    "content",
    [
        bad("empty", b""),
        bad("text", b"no HDF5"),
        bad("npy", npy(ONES)),
        bad("cut", None),
        bad("only the magic", b"\x89HDF\r\n\x1a\n" + b"\0" * 50),
    ],
)
def test_files_that_are_not_hdf5(content, path, tmp_path):
    broken = tmp_path / "f.h5"
    broken.write_bytes(path.read_bytes()[:-9] if content is None else content)
    assert_refused(list_keys, broken, "cannot be read (", "HDF5 file")
    assert_refused(lambda p: read_data_set(p, "v"), broken, "cannot be read (", "HDF5 file")


def test_a_missing_file_is_named(tmp_path):
    assert_refused(list_keys, tmp_path / "gone.h5", "no such file", "HDF5 file")


def test_without_h5py_the_extra_is_named(path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    assert_refused(list_keys, path, "h5py", "'.[hdf5]'")


def test_data_sets_that_compress_well_are_read(tmp_path):
    zeros = np.zeros((2**12, 1024), np.float32)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.create_dataset("v", data=zeros, compression="gzip", compression_opts=9)
    assert (tmp_path / "f.h5").stat().st_size < zeros.nbytes / 300
    assert not read_data_set(tmp_path / "f.h5", "v").any()
