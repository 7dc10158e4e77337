"""The table of formats, and how files are found by their endings."""

import os
from pathlib import Path

import numpy as np
import pytest

from case_jax.data.formats import (
    CONTAINER_FORMATS,
    FORMATS,
    describe_formats,
    find_array,
    find_container,
    format_of,
    list_arrays,
    list_keys,
    without_ending,
)
from case_jax.data.sources import Source, open_source, read_source
from tests.helpers.files import npy, write_array
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_parts, assert_refused, refusal

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
ENDINGS = [ending for form in FORMATS for ending in form.endings]


def read(path):
    return read_source(Source(path))


# The table


def test_every_ending_is_of_one_format():
    assert len(set(ENDINGS)) == len(ENDINGS)
    assert all(ending.startswith(".") for ending in ENDINGS)
    assert set(CONTAINER_FORMATS) <= set(FORMATS)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_is_read_and_checked(ending, tmp_path):
    path = tmp_path / f"v{ending}"
    write_array(path, ROWS)
    source = Source(path)
    found = read_source(source)
    np.testing.assert_array_equal(found, ROWS, strict=True)
    np.testing.assert_array_equal(open_source(source._replace(columns=(1, 3, 3))), ROWS[:, 1:])
    np.testing.assert_array_equal(open_source(source._replace(length=3)), ROWS[:3])
    assert isinstance(open_source(source), np.memmap) == format_of(path).mapped
    broken = ROWS.copy()
    broken[2, 1] = np.nan
    write_array(path, broken)
    assert_parts(refusal(read_source, source), path, "snippet 2, channel 1 is nan", "finite")


@pytest.mark.parametrize("ending", [ending for form in FORMATS if form.keys for ending in form.endings])
def test_arrays_by_name_are_listed_and_read(ending, tmp_path):
    path = tmp_path / f"v{ending}"
    write_array(path, ROWS, key="rgb")
    if ending != ".pt":  # which holds one tensor without a name
        assert list_keys(path) == ["rgb"]
        np.testing.assert_array_equal(read_source(Source(path, "rgb")), ROWS, strict=True)
    assert_parts(refusal(open_source, Source(path, "flow")), path, "", "'flow'" if ending == ".pt" else "")


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
    assert find_array(tmp_path, "v.1") == tmp_path / f"v.1{ENDINGS[0]}"  # the one to miss
    for ending in reversed(ENDINGS):
        path = tmp_path / f"v.1{ending}"
        path.touch()
        assert find_array(tmp_path, "v.1") == path


def test_arrays_of_a_folder_by_name(tmp_path):
    for name in ("b.npy", "a.npy", "a.csv", "c.csv", "d.h5", "e.txt", "._a.npy", ".b.csv", ".npy"):
        (tmp_path / name).touch()
    found, repeated = list_arrays(tmp_path)
    assert list(found) == ["a", "b", "c", "d"]
    assert [path.name for path in found.values()] == ["a.npy", "b.npy", "c.csv", "d.h5"]
    assert repeated == ["a"]
    assert list_arrays(tmp_path / "gone") == ({}, [])


@pytest.mark.parametrize("ending", [ending for form in CONTAINER_FORMATS for ending in form.endings])
def test_a_file_of_many_videos_is_found(ending, tmp_path):
    assert find_container(tmp_path, "rgb") is None
    write_array(tmp_path / f"rgb{ending}", ROWS, key="v")
    assert find_container(tmp_path, "rgb") == tmp_path / f"rgb{ending}"
    assert list_keys(tmp_path / f"rgb{ending}") == ["v"]
    assert list_keys(tmp_path / f"rgb{ending}", "v") == []


def test_a_file_of_one_array_has_no_names(tmp_path):
    assert list_keys(tmp_path / "v.npy") == list_keys(tmp_path / "v.npz", "group") == []


@pytest.mark.parametrize("make, reason", PLACES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_places_of_arrays(make, reason, ending, tmp_path):
    path = tmp_path / f"v{ending}"
    make(path)
    assert_refused(read, path, reason, "a")


@pytest.mark.parametrize("ending", ENDINGS)
def test_pipes_are_not_waited_for(ending, tmp_path):
    path = tmp_path / f"v{ending}"
    os.mkfifo(path)
    for call in (read, list_keys) if format_of(path).keys else (read,):
        assert_refused(call, path, "pipe", "")


@pytest.mark.parametrize("name", ["a" * 300 + ".npy", "a\0b.npy", "\ud800.npy"])
def test_names_that_no_array_has(name, tmp_path):
    assert "cannot be read (" in refusal(read, Path(tmp_path / name))
