import h5py
import numpy as np
import pytest

from case_jax.data.formats import Source, hdf5_keys, open_source, read_source
from case_jax.errors import InputError

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
CSV = "expected a .csv file with a row of numbers per snippet"
SET = "expected a (snippets, channels) data set of numbers"


def error_of(source):
    with pytest.raises(InputError) as raised:
        read_source(source)
    return str(raised.value)


def csv(rows):
    return "".join(",".join(f"{v:g}" for v in row) + "\n" for row in rows)


def test_columns_are_a_part_of_the_channels(tmp_path):
    np.save(tmp_path / "v.npy", ROWS)
    np.testing.assert_array_equal(open_source(Source(tmp_path / "v.npy", columns=(1, 3, 3))), ROWS[:, 1:3])
    assert error_of(Source(tmp_path / "v.npy", columns=(0, 2, 4))) == (
        f"{tmp_path / 'v.npy'}: has 3 channels; expected 4 as in other videos"
    )
    assert error_of(Source(tmp_path / "v.npy", columns=(0, 1, 2))) == (
        f"{tmp_path / 'v.npy'}: has 3 channels; expected 2 as in other videos"
    )


@pytest.mark.parametrize("header", ["", "rgb1,rgb2,flow1\n", "\ufeff"])
def test_csv_with_and_without_a_header(tmp_path, header):
    path = tmp_path / "v.csv"
    path.write_text(header + csv(ROWS), encoding="utf-8")
    got = read_source(Source(path))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, ROWS)


def test_rescaled_csv_of_a_hundred_columns_has_snippets_in_columns(tmp_path):
    path, wide = tmp_path / "v.csv", np.arange(700).reshape(7, 100)
    path.write_text(csv(wide))
    np.testing.assert_array_equal(open_source(Source(path)), wide)
    np.testing.assert_array_equal(open_source(Source(path, rescaled=True)), wide.T)
    square = np.arange(10_000).reshape(100, 100)
    path.write_text(csv(square))
    np.testing.assert_array_equal(open_source(Source(path, rescaled=True)), square)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", f"holds no numbers; {CSV}"),
        (b"a,b\n", f"holds no numbers; {CSV}"),
        (b"1,2\n3\n", "cannot be read ("),
        (b"1,abc\n3,4\n", "cannot be read ("),  # a broken row, not a line of names
        (b"1,2\n3,x\n", "cannot be read ("),
        (b"1,2\n\xff\xfe,4\n", "cannot be read ("),
        (b"1,2\nnan,4\n", "snippet 1, channel 0 is nan; expected finite numbers"),
        (b"1,1e99\n", "snippet 0, channel 1 is inf; expected finite numbers"),
    ],
)
def test_csv_that_is_no_use(tmp_path, content, message, recwarn):
    path = tmp_path / "v.csv"
    path.write_bytes(content)
    said = error_of(Source(path))
    assert said.startswith(f"{path}: {message}")
    assert "\n" not in said
    assert error_of(Source(tmp_path / "w.csv")) == f"{tmp_path / 'w.csv'}: no such file; {CSV}"


@pytest.fixture
def hdf5(tmp_path):
    path = tmp_path / "rgb.h5"
    with h5py.File(path, "w") as file:
        file["v_a"] = ROWS
        file["v_b/c3d_features"] = ROWS.astype(np.float16)
        file.create_group("two").create_dataset("x", data=ROWS)
        file["two/y"] = ROWS
        file["flat"] = np.zeros(3)
        file["text"] = np.array([[b"a"]])
        file["none"] = np.zeros((0, 3))
        file["nan"] = np.full((2, 2), np.nan)
        file["soft"] = h5py.SoftLink("/v_a")
        file["outside"] = h5py.ExternalLink("/etc/hostname", "x")
        np.zeros(12, np.float32).tofile(tmp_path / "raw")
        file.create_dataset("raw", (4, 3), "f4", external=[(str(tmp_path / "raw"), 0, 48)])
    return path


def test_hdf5_data_sets_and_groups_of_one(hdf5):
    np.testing.assert_array_equal(read_source(Source(hdf5, "v_a")), ROWS)
    np.testing.assert_array_equal(read_source(Source(hdf5, "v_b")), ROWS)
    np.testing.assert_array_equal(read_source(Source(hdf5, "v_a", (1, 3, 3))), ROWS[:, 1:])
    assert "v_b" in hdf5_keys(hdf5)


@pytest.mark.parametrize(
    "key, message",
    [
        ("gone", "is not there; expected a data set of that name"),
        ("two", "is a group of 2; expected one data set in it"),
        ("flat", f"has shape (3,); {SET}"),
        ("text", f"holds no numbers; {SET}"),
        ("none", f"has shape (0, 3); {SET}"),
        ("nan", "snippet 0, channel 0 is nan; expected finite numbers"),
        ("soft", "is a link; expected a data set in the file itself"),
        ("outside", "is a link; expected a data set in the file itself"),
        ("raw", "is kept in other files; expected a data set in the file itself"),
    ],
)
def test_hdf5_that_is_no_use(hdf5, key, message):
    assert error_of(Source(hdf5, key)) == f"{hdf5}: data set {key!r}: {message}"


def test_a_file_that_is_no_hdf5(tmp_path):
    path = tmp_path / "rgb.h5"
    assert error_of(Source(path, "v")) == f"{path}: no such file; expected an HDF5 file"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 50)
    said = error_of(Source(path, "v"))
    assert said.startswith(f"{path}: cannot be read (")
    assert said.endswith("); expected an HDF5 file")
