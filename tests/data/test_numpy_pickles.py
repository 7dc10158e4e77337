"""Pickles of named numpy arrays: read, refused, and never run."""

import os
import pickle
import struct

import numpy as np
import pytest

from case_jax.data.numpy_pickles import read_pickled_arrays
from tests.helpers.files import ONES, Trap
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_refused, bad, refusal

NAMED = "pickle of named numpy arrays"
ARRAYS = {
    "params": {"layer": {"kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "bias": ONES[0]}},
    "rows": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "steps": np.array(7, np.int64),
    "none": np.zeros((0, 3), np.float16),
}


@pytest.mark.parametrize("protocol", [3, 4])
def test_reads_what_numpy_pickles(protocol, tmp_path):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(pickle.dumps(ARRAYS, protocol))
    found = read_pickled_arrays(path)
    layer = ARRAYS["params"]["layer"]
    expected = {("params", "layer", name): array for name, array in layer.items()}
    expected |= {(name,): ARRAYS[name] for name in ("rows", "steps", "none")}
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def global_of(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def changed(old, new, content=None):
    whole = pickle.dumps({"x": ONES} if content is None else content, 3)
    assert old in whole
    return whole.replace(old, new)


def change_numpys_dtype():
    """Opcodes that would make all later float32 in the process big-endian."""
    state = (
        pickle.dumps((3, ">", None, None, None, -1, -1, 0), 2)[2:-1]
        .replace(b"q\x00", b"")
        .replace(b"q\x01", b"")
    )
    return b"\x80\x02" + global_of("numpy", "dtype") + b"X\x02\0\0\0f4\x85R" + state + b"b."


@pytest.mark.parametrize(
    "content, wrong",
    [
        bad("empty", b"", "cannot be read ("),
        bad("text", b"hello", "cannot be read ("),
        bad("runs something", lambda: pickle.dumps(Trap()), "pathlib.Path.touch"),
        bad("os.system", b"\x80\x02" + global_of("os", "system") + b"X\x04\0\0\0true\x85R.", "os.system"),
        bad("numpy.load", b"\x80\x02" + global_of("numpy", "load") + b".", "numpy.load"),
        bad("no array", pickle.dumps({}), "holds no array"),
        bad("a list", pickle.dumps([1]), "a list in the place"),
        bad("names that are numbers", pickle.dumps({1: ONES}, 4), "a dict in the place"),
        bad("objects", pickle.dumps({"x": np.array([None])}, 4), "array of objects"),
        bad("text in arrays", pickle.dumps({"x": np.array(["a"])}, 4), "numbers of kind <U1"),
        bad("big-endian", pickle.dumps({"x": ONES.astype(">f4")}, 4), "numbers of kind >f4"),
        bad("a larger shape", changed(b"K\x04K\x03\x86", b"K\x04K\x04\x86"), "48 bytes"),
        bad("a dtype that is changed", change_numpys_dtype(), "_Dtype in the place"),
        bad("number 2^31", b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b"0N.", "2147483647"),
    ],
)
def test_files_that_cannot_be_used(content, wrong, tmp_path, trap):
    path = tmp_path / "weights.ckpt"
    path.write_bytes(content() if callable(content) else content)
    assert_refused(read_pickled_arrays, path, wrong, NAMED)
    assert np.dtype("f4").isnative
    path.write_bytes(pickle.dumps({"x": ONES}, 4))
    np.testing.assert_array_equal(read_pickled_arrays(path)["x",], ONES)


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path):
    whole = pickle.dumps(ARRAYS, 4)
    for cut in range(0, len(whole), 13):
        (tmp_path / "m.ckpt").write_bytes(whole[:cut])
        refusal(read_pickled_arrays, tmp_path / "m.ckpt")


@pytest.mark.parametrize("make, reason", PLACES)
def test_places_of_pickles(make, reason, tmp_path):
    path = tmp_path / "weights.ckpt"
    make(path)
    assert_refused(read_pickled_arrays, path, reason, NAMED)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "weights.ckpt")
    assert_refused(read_pickled_arrays, tmp_path / "weights.ckpt", "pipe", NAMED)
