"""The table of formats, and the readers of .npy and .csv files."""

import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from case_jax.data.formats import (
    ARRAY_FORMATS,
    CONTAINER_FORMATS,
    FORMATS,
    Source,
    check_finite,
    describe_formats,
    find_array,
    find_container,
    format_of,
    list_arrays,
    list_keys,
    open_source,
    read_source,
    without_ending,
    write_features,
)
from tests.helpers.files import ONES, Trap, npy, npy_header, npz, write_array
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
ENDINGS = [ending for form in FORMATS for ending in form.endings]
ARRAY_ENDINGS = [ending for form in ARRAY_FORMATS for ending in form.endings]


def read(path):
    return read_source(Source(path))


def csv(rows):
    return "".join(",".join(f"{v:g}" for v in row) + "\n" for row in rows)


def write(path, array, key="v"):
    """Writes an array in the format of the path's ending."""
    if path.suffix in ARRAY_ENDINGS:
        write_array(path, array)
        return
    with h5py.File(path, "w") as file:
        file[key] = array


# The table


def test_every_ending_is_of_one_format():
    assert len(set(ENDINGS)) == len(ENDINGS)
    assert all(ending.startswith(".") for ending in ENDINGS)
    assert {*ARRAY_FORMATS, *CONTAINER_FORMATS} == set(FORMATS)
    assert not set(ARRAY_FORMATS) & set(CONTAINER_FORMATS)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_is_read_and_checked(ending, tmp_path):
    path = tmp_path / f"v{ending}"
    write(path, ROWS)
    source = Source(path, None if ending in ARRAY_ENDINGS else "v")
    found = read_source(source)
    np.testing.assert_array_equal(found, ROWS, strict=True)
    np.testing.assert_array_equal(open_source(source._replace(columns=(1, 3, 3))), ROWS[:, 1:])
    assert isinstance(open_source(source), np.memmap) == format_of(path).mapped
    broken = ROWS.copy()
    broken[2, 1] = np.nan
    write(path, broken)
    assert_parts(refusal(read_source, source), source, "snippet 2, channel 1 is nan", "finite")


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_is_taken_off_a_name(ending):
    assert without_ending(f"v.1{ending}") == "v.1"


def test_other_endings_stay_and_are_read_as_the_first_format(tmp_path):
    assert without_ending("v_1.5") == "v_1.5"
    assert without_ending(".npy") == ".npy"
    (tmp_path / "labels").write_bytes(npy(ROWS))
    np.testing.assert_array_equal(read(tmp_path / "labels"), ROWS)


def test_formats_in_words():
    words = describe_formats()
    assert words.startswith(".npy, .csv")
    assert words.endswith(" or HDF5")
    assert all(form.name in words for form in FORMATS)


def test_an_array_is_found_in_the_first_format_that_is_there(tmp_path):
    assert find_array(tmp_path, "v.1") == tmp_path / f"v.1{ARRAY_ENDINGS[0]}"  # the one to miss
    for ending in reversed(ARRAY_ENDINGS):
        path = tmp_path / f"v.1{ending}"
        write(path, ROWS)
        assert find_array(tmp_path, "v.1") == path


def test_arrays_of_a_folder_by_name(tmp_path):
    for name in ("b.npy", "a.npy", "a.csv", "c.csv", "d.h5", "e.txt"):
        (tmp_path / name).touch()
    found, repeated = list_arrays(tmp_path)
    assert list(found) == ["a", "b", "c"]
    assert [path.name for path in found.values()] == ["a.npy", "b.npy", "c.csv"]
    assert repeated == ["a"]
    assert list_arrays(tmp_path / "gone") == ({}, [])


@pytest.mark.parametrize("ending", sorted(set(ENDINGS) - set(ARRAY_ENDINGS)))
def test_a_container_is_found_and_its_keys_listed(ending, tmp_path):
    assert find_container(tmp_path, "rgb") is None
    write(tmp_path / f"rgb{ending}", ROWS, key="v")
    assert find_container(tmp_path, "rgb") == tmp_path / f"rgb{ending}"
    assert list_keys(tmp_path / f"rgb{ending}") == ["v"]


def test_a_file_of_one_array_has_no_keys(tmp_path):
    with pytest.raises(ValueError, match="one array"):
        list_keys(tmp_path / "v.npy")


def test_a_container_needs_a_key(tmp_path):
    write(tmp_path / "f.h5", ROWS)
    assert_refused(read, tmp_path / "f.h5", "HDF5", ".npy")


# Columns and values


def test_columns_are_a_part_of_the_channels(tmp_path):
    path = tmp_path / "v.npy"
    path.write_bytes(npy(ROWS))
    np.testing.assert_array_equal(open_source(Source(path, columns=(1, 3, 3))), ROWS[:, 1:3])
    for columns in ((0, 2, 4), (0, 1, 2)):
        message = refusal(read_source, Source(path, columns=columns))
        assert_parts(message, path, "3 channels", str(columns[2]))


def test_values_are_named_by_their_position_in_the_file():
    rows = np.array([[1, 2], [3, np.inf], [np.nan, 4]], np.float32)
    check_finite(rows[:1], "v.npy")
    assert_parts(refusal(check_finite, rows, "v.npy"), "v.npy", "snippet 1, channel 1 is inf", "finite")
    message = refusal(check_finite, rows[2:], "v.npy", [17])
    assert_parts(message, "v.npy", "snippet 17, channel 0 is nan", "finite")


def test_features_are_read_to_where_they_are_wanted(tmp_path):
    write_features(tmp_path / "new" / "v.npy", ROWS)
    out = np.zeros((4, 3), np.float64)
    assert read_source(Source(tmp_path / "new" / "v.npy"), out=out) is out
    np.testing.assert_array_equal(out, ROWS)


# .npy


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


@pytest.mark.parametrize("make, reason", PLACES)
@pytest.mark.parametrize("ending", ARRAY_ENDINGS)
def test_places_of_arrays(make, reason, ending, tmp_path):
    path = tmp_path / f"v{ending}"
    make(path)
    assert_refused(read, path, reason, ending)


@pytest.mark.parametrize("name", ["a" * 300 + ".npy", "a\0b.npy", "\ud800.npy"])
def test_names_that_no_array_has(name, tmp_path):
    assert "cannot be read (" in refusal(read, Path(tmp_path / name))


# .csv


@pytest.mark.parametrize(
    "content",
    [
        bad("plain", b"1,2\n3,4\n"),
        bad("no last line break", b"1,2\n3,4"),
        bad("CRLF", b"1,2\r\n3,4\r\n"),
        bad("byte order mark", b"\xef\xbb\xbf1,2\n3,4\n"),
        bad("a line of names", b"rgb1,rgb2\n1,2\n3,4\n"),
        bad("names and blank lines", b"a,b\n1,2\n\n3.0,4e0\n"),
        bad("spaces", b" 1 , 2\n3, 4\n"),
    ],
)
def test_csv_files_that_are_read(content, tmp_path):
    (tmp_path / "v.csv").write_bytes(content)
    np.testing.assert_array_equal(
        read(tmp_path / "v.csv"), np.array([[1, 2], [3, 4]], np.float32), strict=True
    )


@pytest.mark.parametrize(
    "content, wrong, expected",
    [
        bad("empty file", b"", "no numbers", ".csv"),
        bad("only names", b"a,b\n", "no numbers", ".csv"),
        bad("rows of other lengths", b"1,2\n3\n", "cannot be read (", ".csv"),
        bad("cut in a row", b"1,2\n3,4\n5,", "cannot be read (", ".csv"),
        bad("a broken row, not a line of names", b"1,abc\n3,4\n", "cannot be read (", ".csv"),
        bad("semicolons", b"1;2\n3;4\n", "cannot be read (", ".csv"),
        bad("text within", b"a,b\n1,2\n3,x\n", "cannot be read (", ".csv"),
        bad("latin-1", b"caf\xe9,b\n1,2\n", "cannot be read (", ".csv"),
        bad("not UTF-8 within", b"1,2\n\xff\xfe,4\n", "cannot be read (", ".csv"),
        bad("UTF-16", "1,2\n".encode("utf-16"), "cannot be read (", ".csv"),
        bad("NUL", b"1,2\n3,\0\n", "cannot be read (", ".csv"),
        bad("binary", npy(ONES), "cannot be read (", ".csv"),
        bad("NaN", b"1,2\nnan,4\n", "snippet 1, channel 0 is nan", "finite"),
        bad("beyond float32", b"1,2\n3,1e99\n", "snippet 1, channel 1 is inf", "finite"),
        bad("beyond float64", b"1,2\n3,-1e999\n", "snippet 1, channel 1 is -inf", "finite"),
    ],
)
def test_csv_files_that_cannot_be_used(content, wrong, expected, tmp_path, recwarn):
    path = tmp_path / "v.csv"
    path.write_bytes(content)
    assert_refused(read, path, wrong, expected)


def test_rescaled_csv_of_a_hundred_columns_has_snippets_in_columns(tmp_path):
    path, wide = tmp_path / "v.csv", np.arange(700).reshape(7, 100)
    path.write_text(csv(wide))
    np.testing.assert_array_equal(open_source(Source(path)), wide)
    np.testing.assert_array_equal(open_source(Source(path, rescaled=True)), wide.T)
    square = np.arange(10_000).reshape(100, 100)
    path.write_text(csv(square))
    np.testing.assert_array_equal(open_source(Source(path, rescaled=True)), square)


@pytest.mark.parametrize("name", ["v.csv", "f.h5"])
def test_pipes_are_not_waited_for(name, tmp_path):
    path = tmp_path / name
    os.mkfifo(path)
    assert_refused(list_keys if name == "f.h5" else read, path, "pipe", "file")
