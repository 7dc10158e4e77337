import numpy as np
import pytest

from case_jax.data.sources import Source, read_source
from tests.helpers.files import ONES, npy
from tests.helpers.refusals import assert_refused, bad


def read(path):
    return read_source(Source(path))


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


@pytest.mark.parametrize(
    "content",
    [
        bad("pandas", b"0,1,2\n1.0,2.0,3.0\n4.0,5.0,6.0\n"),
        bad("pandas, of whole numbers", b"0,1,2\n1,2,3\n4,5,6\n"),
        bad("pandas, with its index", b",0,1,2\n0,1.0,2.0,3.0\n1,4.0,5.0,6.0\n"),
        bad("an index of names", b",a,b,c\nfirst,1,2,3\nsecond,4,5,6\n"),
        bad("R", b'"","V1","V2","V3"\n"1",1,2,3\n"2",4,5,6\n'),
        bad("CRLF", b"0,1,2\r\n1,2,3\r\n4,5,6\r\n"),
    ],
)
def test_the_columns_names_are_no_snippet(content, tmp_path):
    (tmp_path / "v.csv").write_bytes(content)
    expected = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(read(tmp_path / "v.csv"), expected, strict=True)


@pytest.mark.parametrize(
    "content, first",
    [
        bad("one snippet alone", b"0,1,2\n", [0, 1, 2]),
        bad("other numbers", b"0,1,3\n1,2,3\n", [0, 1, 3]),
        bad("no whole numbers", b"0.0,1.0,2.0\n1.0,2.0,3.0\n", [0, 1, 2]),
        bad("from 1 on", b"1,2,3\n1,2,3\n", [1, 2, 3]),
        bad("lines that count on", b"0,1,2\n3,4,5\n", [0, 1, 2]),
        bad("one column that counts", b"0\n1\n", [0]),
        bad("two columns of 0 and 1", b"0,1\n1,0\n", [0, 1]),
    ],
)
def test_a_first_line_that_may_be_a_snippet_is_one(content, first, tmp_path):
    (tmp_path / "v.csv").write_bytes(content)
    assert read(tmp_path / "v.csv")[0].tolist() == first


def test_a_column_of_numbers_beside_its_index(tmp_path):
    (tmp_path / "v.csv").write_bytes(b",0\n0,1\n1,2\n")
    assert read(tmp_path / "v.csv").tolist() == [[1], [2]]


def test_few_columns_are_named_by_numbers_above_other_numbers(tmp_path):
    (tmp_path / "v.csv").write_bytes(b"0,1\n0.5,-1.5\n")
    assert read(tmp_path / "v.csv").tolist() == [[0.5, -1.5]]


def test_rows_beside_an_index_are_equally_long(tmp_path):
    (tmp_path / "v.csv").write_bytes(b",0,1\n0,1,2\n1,3,4,5\n")
    assert_refused(read, tmp_path / "v.csv", "cannot be read (", ".csv")
