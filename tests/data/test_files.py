import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from case_jax.data.files import read_json, read_names, write_text_atomically
from case_jax.data.formats import Source, read_source
from case_jax.errors import InputError

FEATURES = "expected a .npy file with a (snippets, channels) array of numbers"


def read_features(path):
    return read_source(Source(path))


def assert_message(error, path, message):
    """Word for word; "..." stands for words of numpy's or Python's."""
    found, (before, *after) = str(error.value), f"{path}: {message}".split("...")
    assert "\n" not in found
    if after:
        assert found.startswith(before)
        assert found.endswith(after[0])
        assert len(found) > len(before) + len(after[0])
    else:
        assert found == before


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy_header(shape, data=b"\0" * 64):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


ONES = np.ones((3, 2), np.float32)
HOLES = np.array([[1, 2], [3, np.nan], [np.inf, 4]], np.float32)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(3, 2),
        np.linspace(-2, 2, 8).astype(np.float16).reshape(4, 2),
        np.linspace(-2, 2, 8).reshape(2, 4),
        np.linspace(-2, 2, 8).astype(">f8").reshape(2, 4),
        np.linspace(-2, 2, 8).astype(">f4").reshape(2, 4).T,
        np.asfortranarray(np.random.default_rng(0).standard_normal((5, 3))),
        np.arange(-3, 3).reshape(2, 3),
        np.arange(6, dtype=np.uint8).reshape(6, 1),
        np.arange(6, dtype=">i2").reshape(1, 6),
    ],
    ids=lambda array: f"{array.dtype.str}-{'C' if array.flags.c_contiguous else 'F'}",
)
def test_any_real_numbers_become_float32_in_c_order(tmp_path, array):
    np.save(tmp_path / "v.npy", array)
    features = read_features(tmp_path / "v.npy")
    assert type(features) is np.ndarray
    assert features.dtype == np.dtype("=f4")
    assert features.flags.c_contiguous
    assert features.flags.owndata
    np.testing.assert_array_equal(features, array.astype(np.float32))


@pytest.mark.parametrize(
    "content, message",
    [
        (npy(np.ones(3)), f"has shape (3,); {FEATURES}"),
        (npy(np.float32(3)), f"has shape (); {FEATURES}"),
        (npy(np.ones((2, 3, 4))), f"has shape (2, 3, 4); {FEATURES}"),
        (npy(np.ones((0, 5))), f"has shape (0, 5); {FEATURES}"),
        (npy(np.ones((5, 0))), f"has shape (5, 0); {FEATURES}"),
        (npy(ONES.astype(complex)), f"holds complex128 values; {FEATURES}"),
        (npy(ONES.astype(bool)), f"holds bool values; {FEATURES}"),
        (npy(np.array([["a", "bc"]])), f"holds <U2 values; {FEATURES}"),
        (npy(np.zeros((2, 2), [("x", "<f4")])), f"holds [('x', '<f4')] values; {FEATURES}"),
        (npy(HOLES), "snippet 1, channel 1 is nan; expected finite numbers"),
        (npy(HOLES[2:]), "snippet 0, channel 0 is inf; expected finite numbers"),
        (npy(np.full((1, 1), -1e300)), "snippet 0, channel 0 is -inf; expected finite numbers"),
        (npz(x=ONES), f"is an archive of several arrays; {FEATURES}"),
        (npz(), f"is an archive of several arrays; {FEATURES}"),
        (npy(ONES)[:-1], f"cannot be read (...); {FEATURES}"),
        (npy(ONES)[:40], f"cannot be read (...); {FEATURES}"),
        (npy(ONES)[:4], f"cannot be read (...); {FEATURES}"),
        (b"", f"cannot be read (...); {FEATURES}"),
        (b"1.0 2.0\n", f"cannot be read (...); {FEATURES}"),
        (npy_header("(1000000000, 1024)"), f"cannot be read (...); {FEATURES}"),
        (npy_header("(-1, 2)"), f"cannot be read (...); {FEATURES}"),
        (npy_header("(1 + 1, 2)"), f"cannot be read (...); {FEATURES}"),
        (npy_header("'many'"), f"cannot be read (...); {FEATURES}"),
    ],
)
def test_unusable_features_are_named(tmp_path, content, message):
    path = tmp_path / "v.npy"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_features(path)
    assert_message(error, path, message)


def test_missing_features_are_named(tmp_path):
    for path, message in (
        (tmp_path / "v.npy", f"no such file; {FEATURES}"),
        (tmp_path, f"cannot be read (...); {FEATURES}"),
    ):
        with pytest.raises(InputError) as error:
            read_features(path)
        assert_message(error, path, message)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("wrap", [lambda trap: npy(np.array([[trap]])), pickle.dumps])
def test_features_are_never_unpickled(tmp_path, wrap):
    sprung = tmp_path / "sprung"
    content = wrap(Trap(sprung))
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works
    sprung.unlink()

    path = tmp_path / "v.npy"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_features(path)
    assert_message(error, path, f"cannot be read (...); {FEATURES}")
    assert not sprung.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"b\na\nc 1\n",
        b"b\r\na\r\nc 1\r\n",
        b"\xef\xbb\xbfb\n\n  a\t\n\nc 1",
        b"\xef\xbb\xbf\r\nb\r\na\r\nc 1\r\n\r\n",
    ],
)
def test_names_in_file_order_whatever_ends_a_line(tmp_path, content):
    (tmp_path / "split.txt").write_bytes(content)
    assert read_names(tmp_path / "split.txt") == ["b", "a", "c 1"]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "names no video; expected one video name a line"),
        (b"\xef\xbb\xbf\r\n \n", "names no video; expected one video name a line"),
        (b"a\nb\n\n a \n", "'a' is on lines 1 and 4; expected each video once"),
        (b"a\n../x\n", "line 2 is '../x'; expected a video name, not a path"),
        (b"/etc/passwd", "line 1 is '/etc/passwd'; expected a video name, not a path"),
        (b"..\\x", "line 1 is '..\\\\x'; expected a video name, not a path"),
        (b"\n..\n", "line 2 is '..'; expected a video name, not a path"),
        (b".\n", "line 1 is '.'; expected a video name, not a path"),
        (b"a\0b", "line 1 is 'a\\x00b'; expected a video name, not a path"),
        (b"caf\xe9", "is not UTF-8 text; expected one video name a line"),
        (None, "no such file; expected one video name a line"),
    ],
)
def test_unusable_names_are_named(tmp_path, content, message):
    path = tmp_path / "split.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_names(path)
    assert_message(error, path, message)


def test_json_may_have_a_byte_order_mark(tmp_path):
    (tmp_path / "x.json").write_bytes('\ufeff{"é": [1, 2.5, null]}'.encode())
    assert read_json(tmp_path / "x.json") == {"é": [1, 2.5, None]}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "is not JSON (line 1, column 1: Expecting value); expected a JSON file"),
        (b'{\n "a": 1,\n}', "is not JSON (line ...); expected a JSON file"),
        (b"[" * 200_000, "is nested too deeply; expected a JSON file"),
        (b'"\xff"', "is not UTF-8 text; expected a JSON file"),
        (None, "no such file; expected a JSON file"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_unusable_json_is_named(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_json(path)
    assert_message(error, path, message)


@pytest.mark.parametrize(
    "read, expected", [(read_json, "a JSON file"), (read_names, "one video name a line")]
)
def test_a_folder_is_no_file(tmp_path, read, expected):
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert_message(error, tmp_path, f"cannot be read (Is a directory); expected {expected}")


def test_text_is_written_as_utf8_in_a_new_folder_readable_as_usual(tmp_path):
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
    "broken, raised, caught, message",
    [
        ("fsync", OSError(28, "Disk full"), InputError, "cannot be written (Disk full)"),
        ("replace", OSError(1, "Not yours"), InputError, "cannot be written (Not yours)"),
        ("fsync", KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, broken, raised, caught, message
):
    path = tmp_path / "x.json"
    write_text_atomically(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail_with(raised))
        with pytest.raises(caught) as error:
            write_text_atomically(path, "new")
    if message:
        assert_message(error, path, message)
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
        with pytest.raises(InputError) as error:
            write_text_atomically(path, "x")
        assert_message(error, path, f"cannot be written ({reason})")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
