import io
import zipfile

import numpy as np
import pytest

from case_jax.data.npz import list_keys, read_array
from case_jax.data.sources import Source, read_source
from tests.helpers.files import ONES, Trap, npy, npy_header, npz
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal

STREAMS = npz(rgb=ONES, flow=2 * ONES)


def archive(compression=zipfile.ZIP_STORED, **members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def compressed(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content", [STREAMS, compressed(rgb=ONES, flow=2 * ONES)], ids=["plain", "compressed"]
)
def test_arrays_by_name(content, tmp_path):
    path = tmp_path / "v.npz"
    path.write_bytes(content)
    assert list_keys(path) == ["rgb", "flow"]
    np.testing.assert_array_equal(read_array(path, "flow"), 2 * ONES, strict=True)
    assert_refused(read_array, path, "2 arrays ('rgb', 'flow')", "one array … per stream")
    message = refusal(read_array, path, "depth")
    assert_parts(message, path, "no array 'depth', only 'rgb', 'flow'", ".npz")


def test_the_only_array_needs_no_name(tmp_path):
    path = tmp_path / "v.npz"
    path.write_bytes(npz(arr_0=ONES))
    np.testing.assert_array_equal(read_array(path), ONES, strict=True)
    path.write_bytes(archive(x_npy=npy(ONES), readme_txt=b"not an array"))
    np.testing.assert_array_equal(read_array(path), ONES, strict=True)


@pytest.mark.parametrize(
    "content, wrong",
    [
        bad("empty file", b"", "not a whole .npz"),
        bad("npy by another name", npy(ONES), "not a whole .npz"),
        bad("cut at the end", npz(x=ONES)[:-5], "not a whole .npz"),
        bad("cut at the front", npz(x=ONES)[90:], "cannot be read ("),
        bad("a byte flipped", npz(x=ONES).replace(b"\0\0\x80?", b"\0\1\x80?", 1), "not a whole .npz"),
        bad("nothing", npz(), "0 arrays"),
        bad("text", archive(x_npy=b"1 2 3"), "cannot be read ("),
        bad("another compression", archive(zipfile.ZIP_BZIP2, x_npy=npy(ONES)), "compressed in a way"),
        bad("pickled objects", lambda: npz(x=np.array([[Trap()]], object)), "pickled objects"),
        bad("10^9 rows promised", archive(x_npy=npy_header(shape="(1000000000, 1024)")), "cannot be read ("),
        bad("2^64 rows promised", archive(x_npy=npy_header(shape="(2**64, 1)")), "cannot be read ("),
        bad("text values", npz(x=np.array([["a"]])), "<U1"),
        bad("one row", npz(x=ONES[0]), "shape (3,)"),
    ],
)
def test_files_that_cannot_be_used(content, wrong, tmp_path, trap):
    path = tmp_path / "v.npz"
    path.write_bytes(content() if callable(content) else content)
    assert_refused(lambda path: read_source(Source(path)), path, wrong, "array")


def test_a_file_that_is_cut_anywhere_is_refused_and_closed(tmp_path):
    for cut in range(0, len(STREAMS), 23):
        (tmp_path / "v.npz").write_bytes(STREAMS[:cut])
        refusal(read_array, tmp_path / "v.npz", "rgb")  # a file left open would warn, which is an error here
