"""One stream of one video, however its file has it."""

import ml_dtypes
import numpy as np
import pytest

from case_jax.data.info import Reading
from case_jax.data.npy import write_features
from case_jax.data.sources import Source, check_finite, open_source, read_source
from tests.helpers.files import ONES, npy, torch_file, write_array
from tests.helpers.refusals import assert_parts, refusal

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
WIDE = np.arange(700, dtype=np.float32).reshape(7, 100)
BFLOAT16 = ROWS.astype(ml_dtypes.bfloat16)

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


# Channels in rows


@pytest.mark.parametrize("ending", [".npy", ".csv", ".npz"])
def test_rescaled_files_of_a_hundred_columns_have_snippets_in_columns(ending, tmp_path):
    path = tmp_path / f"v{ending}"
    rescaled = Source(path, reading=Reading(rescaled=True))
    write_array(path, WIDE)
    np.testing.assert_array_equal(read_source(Source(path)), WIDE, strict=True)
    np.testing.assert_array_equal(read_source(rescaled), WIDE.T, strict=True)
    np.testing.assert_array_equal(open_source(rescaled._replace(columns=(2, 5, 7))), WIDE.T[:, 2:5])
    assert isinstance(open_source(rescaled), np.memmap) == (ending == ".npy")
    square = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    write_array(path, square)
    np.testing.assert_array_equal(open_source(rescaled), square)


# Numbers without a type


def test_bfloat16_without_its_type_is_named_and_read_only_if_told(tmp_path):
    path = tmp_path / "v.npy"
    path.write_bytes(npy(BFLOAT16))
    expected = '.npy … (snippets, channels) … "dtype": "bfloat16" in dataset.json'
    assert_parts(refusal(open_source, Source(path)), path, "|V2 values … bfloat16", expected)
    told = Source(path, reading=Reading(dtype="bfloat16"))
    np.testing.assert_array_equal(read_source(told), ROWS, strict=True)
    assert isinstance(open_source(told), np.memmap)
    out = np.empty((4, 3), ml_dtypes.bfloat16)
    np.testing.assert_array_equal(read_source(told, out), BFLOAT16, strict=True)


@pytest.mark.parametrize("dtype", ["V4", [("x", "V2")], ("V2", (2,))])
def test_other_values_without_a_type_are_refused(dtype, tmp_path):
    path = tmp_path / "v.npy"
    path.write_bytes(npy(np.zeros((4, 3), dtype)))
    message = refusal(open_source, Source(path, reading=Reading(dtype="bfloat16")))
    assert_parts(message, path, "holds" if dtype != ("V2", (2,)) else "shape", ".npy")


def test_bfloat16_with_its_type_needs_no_word(tmp_path):
    (tmp_path / "v.pt").write_bytes(torch_file(BFLOAT16))
    np.testing.assert_array_equal(read_source(Source(tmp_path / "v.pt")), ROWS, strict=True)


# Crops


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pt", ".h5"])
@pytest.mark.parametrize("axis", [0, 1])
def test_the_mean_of_crops_is_read(ending, axis, tmp_path):
    crops = np.random.default_rng(0).standard_normal((10, 6, 4), np.float32)
    path = tmp_path / f"v{ending}"
    write_array(path, np.ascontiguousarray(np.moveaxis(crops, 0, axis)))
    expected = crops.astype(np.float64).mean(0)
    message = refusal(open_source, Source(path))
    assert_parts(
        message, path, f"shape {np.moveaxis(crops, 0, axis).shape}", '"crops": "mean" in dataset.json'
    )
    source = Source(path, reading=Reading(crops="mean"))
    np.testing.assert_allclose(read_source(source), expected, rtol=1e-5, atol=1e-6)
    part = open_source(source._replace(columns=(1, 3, 4), length=5))
    assert part.shape == (5, 2)
    np.testing.assert_allclose(part[np.array([4, 0])], expected[[4, 0], 1:3], rtol=1e-5, atol=1e-6)


def test_the_mean_of_rescaled_crops_has_snippets_in_rows(tmp_path):
    crops = np.random.default_rng(0).standard_normal((10, 7, 100), np.float32)
    path = tmp_path / "v.npy"
    write_array(path, crops)
    found = read_source(Source(path, reading=Reading(rescaled=True, crops="mean")))
    np.testing.assert_allclose(found, crops.astype(np.float64).mean(0).T, rtol=1e-5, atol=1e-6)


def test_files_of_one_crop_are_read_beside_others(tmp_path):
    path = tmp_path / "v.npy"
    write_array(path, ROWS)
    np.testing.assert_array_equal(read_source(Source(path, reading=Reading(crops="mean"))), ROWS)


def test_a_value_of_a_crop_that_is_not_finite_is_named(tmp_path):
    crops = np.ones((10, 6, 4))
    crops[3, 2, 1] = 1e300
    path = tmp_path / "v.npy"
    write_array(path, crops)
    message = refusal(read_source, Source(path, reading=Reading(crops="mean")))
    assert_parts(message, path, "snippet 2, channel 1 is inf", "finite")


@pytest.mark.parametrize("array", [ONES[0], ONES[None, None], ONES[:0], np.float32(1)])
def test_other_shapes_are_refused_whatever_is_told(array, tmp_path):
    path = tmp_path / "v.npy"
    path.write_bytes(npy(array))
    for reading in (Reading(), Reading(rescaled=True, crops="mean_first", dtype="bfloat16")):
        message = refusal(open_source, Source(path, reading=reading))
        assert_parts(message, path, f"shape {np.shape(array)}", "(snippets, channels)")
