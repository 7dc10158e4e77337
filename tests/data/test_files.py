"""Reading text and JSON from any place and of any content; writing so that no file is ever half-written."""

import os
import threading
from pathlib import Path

import pytest

from case_jax.data.annotations import read_ground_truth, read_intervals
from case_jax.data.files import (
    as_number,
    as_segment,
    one_line,
    read_json,
    read_text,
    refuse_pipes,
    write_atomically,
    write_text_atomically,
    writing,
)
from case_jax.data.names import read_names
from case_jax.errors import InputError
from tests.helpers.files import ONES, npy
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal

# Places


@pytest.mark.parametrize("make, reason", PLACES)
@pytest.mark.parametrize("read", [read_json, read_ground_truth, read_names, read_intervals])
def test_places_of_text_files(make, reason, read, tmp_path):
    path = tmp_path / "file"
    make(path)
    assert_refused(read, path, reason)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "\ud800"], ids=["long", "NUL", "surrogate"])
def test_names_that_no_file_has(name, tmp_path):
    message = refusal(read_json, tmp_path / name)
    assert "cannot be read (" in message
    assert "; expected a JSON file" in message


def test_a_name_with_line_breaks_is_named_in_one_line(tmp_path):
    message = refusal(read_json, tmp_path / "two\nlines\x1b[31m.json")
    assert_parts(message, f"{tmp_path}/two\\nlines\\x1b[31m.json", "no such file", "JSON")


def test_text_may_come_from_a_pipe(tmp_path):
    """As in --ground_truth=<(zcat gt.json.gz)."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[b'{"a": 1}'])
    writer.start()
    assert read_json(tmp_path / "pipe") == {"a": 1}
    writer.join()


def test_pipes_and_devices_are_refused_and_all_else_passes(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        assert_refused(lambda path: refuse_pipes(path, expected="expected a file"), path, "pipe", "a file")
    (tmp_path / "file").touch()
    for name in (tmp_path, tmp_path / "file", tmp_path / "gone", "a\0b"):
        refuse_pipes(name, expected="expected a file")


# Text and JSON


def test_text_has_no_byte_order_mark(tmp_path):
    (tmp_path / "x.txt").write_bytes("\ufeffé\r\n".encode())
    assert read_text(tmp_path / "x.txt", expected="text") == "é\n"


def test_json_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "x.json").write_bytes('\ufeff{"é": [1, 2.5, null]}'.encode())
    assert read_json(tmp_path / "x.json") == {"é": [1, 2.5, None]}


@pytest.mark.parametrize("text", [r'"\ud83e\udd38"', r'"\\ud800"', r'"\\u0000"'])
def test_escapes_that_stand_for_usable_text(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    assert read_json(tmp_path / "x.json") in ("\U0001f938", r"\ud800", r"\u0000")


@pytest.mark.parametrize(
    "content, wrong, expected",
    [
        bad("empty", b"", "not JSON (line 1, column 1", "JSON"),
        bad("not JSON", b"database: v", "not JSON (line 1, column 1", "JSON"),
        bad("a comma too many", b'{\n "a": 1,\n}', "not JSON (line", "JSON"),
        bad("cut", b'{"a": [1, 2', "not JSON (line 1, column 12", "JSON"),
        bad("two documents", b"{}{}", "not JSON (line 1, column 3", "JSON"),
        bad("binary", npy(ONES), "UTF-8", "JSON"),
        bad("latin-1", '{"é": 1}'.encode("latin-1"), "UTF-8", "JSON"),
        bad("UTF-16", '{"a": 1}'.encode("utf-16"), "UTF-8", "JSON"),
        bad("UTF-16 without mark", '{"a": 1}'.encode("utf-16-le"), "not JSON", "JSON"),
        bad("100,000 brackets", b"[" * 100_000, "nested", "JSON"),
        bad("100,000 objects", b'{"a":' * 100_000, "nested", "JSON"),
        bad("100,000 closed brackets", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested", "JSON"),
        bad("integer of 5,000 digits", b"9" * 5000, "cannot be read (", "JSON"),
        bad("a name twice", b'{"a": {"v": {}, "v": {}}}', "'v' twice", "once"),
        bad(
            "one of 50,000 names twice",
            "{{{}}}".format(", ".join(f'"{i % 49_999}": 0' for i in range(49_998, 99_998))).encode(),
            "'49998' twice",
            "once",
        ),
        bad("half a surrogate pair", rb'["\ud800"]', r"'\ud800'", "surrogates"),
        bad("half a surrogate pair in a name", rb'{"\udc00": 1}', r"'\udc00'", "surrogates"),
        bad("NUL in a name", b'{"a": {"v\\u0000": {}}}', r"'v\x00'", "NUL"),
    ],
)
def test_json_that_cannot_be_used(content, wrong, expected, tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    assert_refused(read_json, path, wrong, expected)


@pytest.mark.parametrize("value", [3, 2.5, "3", " 2.5 ", "1e3", "nan", "-inf"])
def test_numbers_may_be_text(value):
    assert repr(as_number(value)) == repr(float(value))


@pytest.mark.parametrize("value", [True, None, "three", [1], {}, 10**400, "0x1"])
def test_other_values_are_not_numbers(value):
    with pytest.raises(ValueError):
        as_number(value)
    with pytest.raises(ValueError):
        as_segment([0, value])


def test_a_segment_is_a_list_of_two_numbers():
    assert as_segment(["1.5", 2]) == (1.5, 2.0)
    for value in ([1], [1, 2, 3], (1, 2), "12", None, 3):
        with pytest.raises(ValueError, match="two numbers"):
            as_segment(value)


def test_an_error_of_several_lines_becomes_one():
    assert one_line(ValueError("a\n  b\tc ")) == "a b c"


# Writing


def test_text_is_written_as_utf8_in_a_new_folder_with_the_usual_rights(tmp_path):
    path = tmp_path / "deep" / "er" / "x.txt"
    mask = os.umask(0o027)
    try:
        write_text_atomically(path, "é\n")
        write_text_atomically(path, "ü\n")
    finally:
        os.umask(mask)
    assert path.read_bytes() == "ü\n".encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


def fail_with(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(
    "broken, error, caught, wrong",
    [
        ("fsync", OSError(28, "Disk full"), InputError, "cannot be written (Disk full)"),
        ("replace", OSError(1, "Not yours"), InputError, "cannot be written (Not yours)"),
        ("fsync", KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    broken, error, caught, wrong, tmp_path, monkeypatch
):
    path = tmp_path / "x.json"
    write_atomically(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail_with(error))
        with pytest.raises(caught) as raised:
            write_atomically(path, b"new")
    if wrong:
        assert str(raised.value) == f"{path}: {wrong}"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_has_no_utf8_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    write_text_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path, reason in (
        (tmp_path / "file" / "x.txt", "File exists"),
        (tmp_path / "file" / "deep" / "x.txt", "Not a directory"),
        (tmp_path, "Is a directory"),
    ):
        assert refusal(write_text_atomically, path, "x") == f"{path}: cannot be written ({reason})"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_only_errors_of_the_disk_are_told(tmp_path):
    with pytest.raises(KeyError), writing(tmp_path):
        raise KeyError("other")
