import pickle

import numpy as np
import pytest

from case_jax.data.sources import Source, read_source
from tests.helpers.files import ONES, Trap, npy, npy_header, npz
from tests.helpers.refusals import assert_refused, bad

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)


def read(path):
    return read_source(Source(path))


@pytest.mark.parametrize(
    "array",
    [
        bad("float32", ROWS),
        bad("float16", (ONES * 0.5).astype(np.float16)),
        bad("float64", (ONES * 0.1).astype(np.float64)),
        bad("long double", (ONES * 0.1).astype(np.longdouble)),
        bad("int8", (ONES * -7).astype(np.int8)),
        bad("int64", (ONES * -(2**40)).astype(np.int64)),
        bad("uint8", (ONES * 255).astype(np.uint8)),
        bad("big-endian", (ONES * 0.1).astype(">f4")),
        bad("big-endian float64", np.linspace(-2, 2, 8).astype(">f8").reshape(2, 4)),
        bad("big-endian int16", (ONES * 300).astype(">i2")),
        bad("Fortran order", np.asfortranarray(ONES * [1, 2, 3])),
        bad("transposed", np.linspace(-2, 2, 8).astype(">f4").reshape(2, 4).T),
        bad("one row", ONES[:1]),
        bad("one channel", ONES[:, :1]),
        bad("subnormal", ONES * 1e-45),
    ],
)
def test_any_real_numbers_become_float32_in_c_order(array, tmp_path):
    (tmp_path / "v.npy").write_bytes(npy(array))
    found = read(tmp_path / "v.npy")
    assert type(found) is np.ndarray
    assert found.dtype == np.dtype("=f4")
    assert found.flags.c_contiguous
    assert found.flags.owndata
    np.testing.assert_array_equal(found, array.astype(np.float32))


NPY = ".npy … (snippets, channels)"


@pytest.mark.parametrize(
    "content, wrong, expected",
    [
        bad("empty file", b"", "cannot be read (", NPY),
        bad("cut in the magic", npy(ONES)[:4], "cannot be read (", NPY),
        bad("cut in the header", npy(ONES)[:50], "cannot be read (", NPY),
        bad("cut after the header", npy(ONES)[:128], "cannot be read (", NPY),
        bad("cut in the data", npy(ONES)[:-1], "cannot be read (", NPY),
        bad("wrong magic", b"\x92" + npy(ONES)[1:], "cannot be read (", NPY),
        bad("wrong version", npy(ONES)[:6] + b"\7" + npy(ONES)[7:], "cannot be read (", NPY),
        bad("text", b"1.0 2.0\n", "cannot be read (", NPY),
        bad("html page", b"<!DOCTYPE html><title>404</title>", "cannot be read (", NPY),
        bad("pickled objects", lambda: npy(np.array([[Trap()]], object)), "cannot be read (", NPY),
        bad("plain pickle", lambda: pickle.dumps(Trap()), "pickled objects", NPY),
        bad("npz by another name", npz(x=ONES), "archive", NPY),
        bad("npz of nothing", npz(), "archive", NPY),
        bad("10^9 rows promised", npy_header(shape="(1000000000, 1024)"), "cannot be read (", NPY),
        bad("2^64 rows promised", npy_header(shape="(18446744073709551616, 1)"), "cannot be read (", NPY),
        bad("product beyond 2^64", npy_header(shape="(4611686018427387904, 4)"), "cannot be read (", NPY),
        bad("negative rows", npy_header(shape="(-4, 3)"), "cannot be read (", NPY),
        bad("rows that are text", npy_header(shape="('4', 3)"), "cannot be read (", NPY),
        bad("header that is code", npy_header(shape="(print(1), 3)"), "cannot be read (", NPY),
        bad("header of 20 kB", npy_header(shape="(4, 3)" + " " * 20_000), "cannot be read (", NPY),
        bad("nested header", npy_header(shape="(" * 300 + ")" * 300), "cannot be read (", NPY),
        bad("unknown dtype", npy_header(descr="'<q9'"), "cannot be read (", NPY),
        bad("bool", npy(ONES > 0), "bool", NPY),
        bad("complex", npy(ONES * 1j), "complex64", NPY),
        bad("text values", npy(np.array([["1", "2"]])), "<U1", NPY),
        bad("dates", npy(np.zeros((2, 2), "<M8[s]")), "datetime64[s]", NPY),
        bad("records", npy(np.zeros((4, 3), [("x", "<f4")])), "[('x', '<f4')]", NPY),
        bad("no rows", npy(ONES[:0]), "shape (0, 3)", NPY),
        bad("no channels", npy(ONES[:, :0]), "shape (4, 0)", NPY),
        bad("one number", npy(np.float32(1)), "shape ()", NPY),
        bad("1-d", npy(ONES[0]), "shape (3,)", NPY),
        bad("3-d", npy(ONES[None]), "shape (1, 4, 3)", NPY),
        bad("NaN", npy(ONES * [1, np.nan, 1]), "snippet 0, channel 1 is nan", "finite"),
        bad("inf", npy(np.diag([1, np.inf])), "snippet 1, channel 1 is inf", "finite"),
        bad("beyond float32", npy(ONES.astype(np.float64) * -1e300), "channel 0 is -inf", "finite"),
    ],
)
def test_npy_files_that_cannot_be_used(content, wrong, expected, tmp_path, trap):
    path = tmp_path / "v.npy"
    path.write_bytes(content() if callable(content) else content)
    assert_refused(read, path, wrong, expected)
