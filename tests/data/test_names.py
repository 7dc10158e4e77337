import unicodedata

import pytest

from case_jax.data.names import find_name, find_spelling, read_names, split_path
from tests.helpers.refusals import assert_refused, bad

DECOMPOSED = unicodedata.normalize("NFD", "café")  # as macOS writes the names of files


@pytest.mark.parametrize(
    "name, known, expected",
    [
        ("abc", {"abc", "v_abc"}, "abc"),
        ("abc", {"v_abc"}, "v_abc"),
        ("v_abc", {"abc"}, "abc"),
        ("v_abc", {"v_v_abc"}, "v_v_abc"),
        ("abc", {"abcd", "_abc"}, None),
        ("abc", set(), None),
        ("café", {DECOMPOSED}, DECOMPOSED),
        (DECOMPOSED, {"v_café"}, "v_café"),
        (f"v_{DECOMPOSED}", {"café"}, "café"),
        ("café", {"cafe"}, None),
    ],
)
def test_a_name_is_found_with_and_without_the_prefix_in_both_forms_of_accents(name, known, expected):
    assert find_name(name, known) == expected


def test_a_spelling_keeps_the_prefix():
    assert find_spelling("café", {DECOMPOSED, "v_café"}) == DECOMPOSED
    assert find_spelling("café", {"v_café"}) is None


def test_a_split_is_listed_beside_the_annotations(tmp_path):
    assert split_path(tmp_path, "test") == tmp_path / "split_test.txt"


@pytest.mark.parametrize(
    "content",
    [
        bad("LF", b"b\na\nc 1\n"),
        bad("CRLF", b"b\r\na\r\nc 1\r\n"),
        bad("CR", b"b\ra\rc 1"),
        bad("blank lines and spaces", b"\xef\xbb\xbfb\n\n  a\t\n\nc 1"),
        bad("byte order mark", b"\xef\xbb\xbf\r\nb\r\na\r\nc 1\r\n\r\n"),
    ],
)
def test_names_in_file_order_whatever_ends_a_line(content, tmp_path):
    (tmp_path / "split.txt").write_bytes(content)
    assert read_names(tmp_path / "split.txt") == ["b", "a", "c 1"]


@pytest.mark.parametrize(
    "content, wrong, expected",
    [
        bad("empty", b"", "no video", "name a line"),
        bad("blank lines", b"\xef\xbb\xbf\r\n \t\r\n", "no video", "name a line"),
        bad("a name twice", b"a\nb\n\n a \n", "'a' … 1 … 4", "once"),
        bad("a path upwards", b"a\n../x\n", "line 2 … '../x'", "path"),
        bad("an absolute path", b"/etc/passwd", "line 1 … '/etc/passwd'", "path"),
        bad("a Windows path", b"..\\x", r"'..\\x'", "path"),
        bad("the folder above", b"\n..\n", "line 2 … '..'", "path"),
        bad("the folder itself", b".\n", "line 1 … '.'", "path"),
        bad("NUL", b"a\0b", r"'a\x00b'", "path"),
        bad("latin-1", b"a\ncaf\xe9", "UTF-8", "name a line"),
        bad("UTF-16", "a\nb\n".encode("utf-16"), "UTF-8", "name a line"),
    ],
)
def test_names_that_cannot_be_used(content, wrong, expected, tmp_path):
    path = tmp_path / "split.txt"
    path.write_bytes(content)
    assert_refused(read_names, path, wrong, expected)
