"""Arrays of objects: read, refused, never run, and never read whole."""

import os
import pickle
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from case_jax.data.object_arrays import StoredArray, as_list, read_items
from tests.helpers.files import ONES, Trap, npy, npy_header
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_refused, bad, refusal
from tests.helpers.wtalc import object_npy, objects

EXPECTED = "arrays, lists, text and numbers"
PROTOCOLS = ("python 2", 2, 3, 4)
RNG = np.random.default_rng(0)
ITEMS = objects(
    RNG.normal(size=(40, 8)).astype(np.float32),  # longer than what is read at once
    RNG.normal(size=(3, 4)).astype(np.float16),
    np.asfortranarray(RNG.normal(size=(50, 6))),
    np.arange(6, dtype=">i8").reshape(2, 3),
    np.zeros((0, 4), np.float32),
    ["Diving", "CliffDiving", "Diving"],
    [b"bytes", (1, 2.5), None, True, -3, 70_000, 2**40],
    [[0.1, 1.25], [np.float64(2.5), 3]],
    np.array(["long", "ab"]),
    np.array([b"validation", b"test"]),
    objects("Läuft", ["nested"], np.arange(3.0)),
    np.full((2, 2), "x", object),
    [np.str_("label"), np.int64(4)],
    [],
    b"",
)


def plain(value):
    """Lists of numbers and text, however they are stored; Python 2 has one kind of text."""
    if isinstance(value, StoredArray | np.ndarray | list | tuple):
        return [plain(item) for item in (as_list(value) if isinstance(value, StoredArray) else value)]
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_reads_what_numpy_saves(protocol, tmp_path):
    path = tmp_path / "objects.npy"
    path.write_bytes(object_npy(ITEMS, protocol))
    found = read_items(path)
    assert plain(found) == plain(ITEMS)
    for item, stored in zip(ITEMS, found):
        if isinstance(item, np.ndarray) and item.dtype != object:
            array = stored.read()
            assert (stored.shape, array.dtype) == (item.shape, item.dtype)
            np.testing.assert_array_equal(array, item)
    if protocol != "python 2":
        assert isinstance(found[6][0], bytes)
        assert isinstance(found[5][0], str)


@pytest.mark.parametrize("name", ["py2-np0-objarr.npy", "py2-objarr.npy", "py3-objarr.npy"])
def test_reads_what_older_pythons_saved(name, tmp_path):
    """numpy's own tests bring such files. They hold the name of a function, which is refused; None is not."""
    path = Path(np.lib.__file__).parent / "tests" / "data" / name
    if not path.exists():
        pytest.skip("this numpy is without its tests")
    assert_refused(read_items, path, "global", EXPECTED)
    content, changed = re.subn(rb"c\w+\nx?range\n", b"N", path.read_bytes())
    assert changed == 1
    (tmp_path / name).write_bytes(content)
    assert plain(read_items(tmp_path / name)) == [None, None, "\u512a\u826f", "\u4e0d\u826f"]


def test_reads_what_np_save_wrote_and_arrays_that_are_there_twice(tmp_path):
    twice = objects(ITEMS[0], ITEMS[2], ITEMS[0])
    np.save(tmp_path / "twice.npy", twice)
    for stored, array in zip(read_items(tmp_path / "twice.npy"), twice, strict=True):
        np.testing.assert_array_equal(stored.read(), array)
    pairs = objects(1, 2, 3, 4).reshape(2, 2)
    for order in "CF":
        np.save(tmp_path / "pairs.npy", np.array(pairs, order=order))
        assert read_items(tmp_path / "pairs.npy") == [[1, 2], [3, 4]]


def test_arrays_without_objects_are_mapped(tmp_path):
    np.save(tmp_path / "names.npy", np.array([b"a", b"bc"]))
    np.save(tmp_path / "features.npy", np.arange(24.0).reshape(2, 3, 4))
    assert read_items(tmp_path / "names.npy") == [b"a", b"bc"]
    first, second = read_items(tmp_path / "features.npy")
    assert isinstance(first.base, np.memmap)
    np.testing.assert_array_equal(second, np.arange(12.0, 24).reshape(3, 4))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_memory_holds_one_array_at_a_time(protocol, tmp_path):
    array = np.ones((1000, 64), np.float32)  # 256,000 bytes
    path = tmp_path / "features.npy"
    path.write_bytes(object_npy(objects(*(array + i for i in range(20))), protocol))
    tracemalloc.start()
    try:
        items = read_items(path)
        assert tracemalloc.get_traced_memory()[1] < array.nbytes
        sums = [float(item.read().sum()) for item in items]
        # Python 3's protocol 2 keeps bytes as text, which is decoded in two steps.
        assert tracemalloc.get_traced_memory()[1] < (8 if protocol == 2 else 3) * array.nbytes
    finally:
        tracemalloc.stop()
    assert sums == [(1 + i) * 64_000 for i in range(20)]


def opcodes(content: bytes) -> bytes:
    return npy_header("'|O'", shape="(1,)", data=b"\x80\x02" + content)


def changed_first(code: bytes) -> bytes:
    """An array of one object, which these opcodes make."""
    whole = object_npy(objects(None), 2)
    assert whole.count(b"Na") == 1
    return whole.replace(b"Na", code + b"a")


def changed(old: bytes, new: bytes) -> bytes:
    whole = object_npy(objects(ONES), 3)
    assert old in whole
    return whole.replace(old, new)


@pytest.mark.parametrize(
    "content, wrong",
    [
        bad("empty", b"", "cannot be read ("),
        bad("text", b"hello world", "cannot be read ("),
        bad("runs something", lambda: object_npy(objects(Trap()), 4), "pathlib"),
        bad("runs something at the top", lambda: opcodes(pickle.dumps(Trap(), 2)[2:]), "getattr"),
        bad("os.system", opcodes(b"cos\nsystem\nX\x04\0\0\0true\x85R."), "os.system"),
        bad("a name that is no call", opcodes(b"cnumpy\nload\n."), "a _Global"),
        bad("another object", opcodes(b"cnumpy\nmatrix\n)R."), "numpy.matrix"),
        bad("dictionaries", object_npy(objects({"a": 1}), 4), "EMPTY_DICT"),
        bad("numbers of dates", object_npy(objects(np.array(["2020"], "M8[D]")), 4), "M8"),
        bad("a larger shape", changed(b"K\x04K\x03\x86", b"K\x04K\x04\x86"), "48 bytes"),
        bad(
            "a huge shape", changed(b"K\x04K\x03\x86", b"K\x00\x8a\x07" + b"\x7f" * 7 + b"\x86"), "too large"
        ),
        bad("a memo that is not there", opcodes(b"h\x05."), "cannot be read ("),
        bad("more than there is", opcodes(b"B\xff\xff\xff\x7f."), "ends early"),
        bad("no opcode", opcodes(b"\xff."), "opcode"),
        bad("no end", opcodes(b"N"), "ends early"),
        bad("a name for a value", changed_first(b"cnumpy\nload\n"), "a global"),
        bad("a list", opcodes(b"]."), "a list"),
        bad("appends to a number", opcodes(b"K\x01K\x02a."), "appends"),
        bad("changes a list", opcodes(b"]Nb."), "changes"),
        bad("a single value", npy(np.float32(1)), "shape ()"),
        bad("no rows", npy(np.zeros((0, 3))), "shape (0, 3)"),
        bad("rows of nothing", npy_header(shape="(1000000000000, 0)", data=b""), "cannot be read ("),
        bad("a format of tomorrow", b"\x93NUMPY\x09\0" + bytes(100), "cannot be read ("),
    ],
)
def test_files_that_cannot_be_used(content, wrong, tmp_path, trap):
    path = tmp_path / "objects.npy"
    path.write_bytes(content() if callable(content) else content)
    assert_refused(read_items, path, wrong, EXPECTED)
    assert np.dtype("f4").isnative


@pytest.mark.parametrize("protocol", ["python 2", 4])
def test_a_file_that_is_cut_anywhere_is_refused(protocol, tmp_path):
    path = tmp_path / "objects.npy"
    whole = object_npy(ITEMS, protocol)
    for cut in range(0, len(whole), 151):
        path.write_bytes(whole[:cut])
        refusal(read_items, path)


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = tmp_path / "objects.npy"
    path.write_bytes(object_npy(ITEMS, 4))
    (first, *_) = read_items(path)
    path.write_bytes(b"")
    assert_refused(lambda _: first.read(), path, "ends early", EXPECTED)
    path.unlink()
    assert_refused(lambda _: first.read(), path, "No such file", EXPECTED)


def test_objects_are_no_numbers(tmp_path):
    path = tmp_path / "objects.npy"
    path.write_bytes(object_npy(ITEMS, 4))
    assert_refused(lambda _: read_items(path)[10].read(), path, "objects in the place of numbers", EXPECTED)
    with pytest.raises(ValueError, match="int"):
        as_list(3)


@pytest.mark.parametrize("make, reason", PLACES)
def test_places_of_files(make, reason, tmp_path):
    path = tmp_path / "objects.npy"
    make(path)
    assert_refused(read_items, path, reason, EXPECTED)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "objects.npy")
    assert_refused(read_items, tmp_path / "objects.npy", "pipe", EXPECTED)
