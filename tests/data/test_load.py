"""The one door to data sets on disk, in memory and left there."""

import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

from case_jax.data.feature_files import FeatureFiles, read_snippets
from case_jax.data.formats import FORMATS
from case_jax.data.load import load_dataset
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from tests.conftest import ROOT
from tests.data.conftest import STREAMS
from tests.helpers.files import ONES, npy, write_array
from tests.helpers.refusals import assert_parts, assert_refused, refusal


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A synthetic data set and its folder in THUMOS14's layout; read only."""
    folder = tmp_path_factory.mktemp("data")
    made = make_synthetic_dataset(0, SyntheticSpec(num_train=2, num_test=1, num_classes=2, width=4))
    write_dataset(made, folder)
    return made, folder


def test_either_layout_is_read(thumos, activitynet):
    assert [video.name for video in load_dataset(thumos).train.videos] == ["a", "b"]
    assert [video.name for video in load_dataset(activitynet.path).test.videos] == ["d" * 11]


@pytest.mark.parametrize("ending", [ending for form in FORMATS for ending in form.endings])
@pytest.mark.parametrize("layout", ["thumos", "activitynet"])
def test_either_layout_takes_any_format_of_one_array(layout, ending, request):
    made = request.getfixturevalue(layout)
    folder = made if layout == "thumos" else made.path
    expected = load_dataset(folder).train.videos
    if ending != ".npy":
        for path in folder.rglob("*.npy"):
            write_array(path.with_suffix(ending), np.load(path))
            path.unlink()
    for in_memory in (True, False):
        for video, wanted in zip(
            load_dataset(folder, in_memory=in_memory).train.videos, expected, strict=True
        ):
            for stream in STREAMS:
                np.testing.assert_array_equal(video.features[stream], wanted.features[stream])


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("layout", ["thumos", "activitynet"])
def test_streams_that_differ_by_one_snippet_are_cut_and_counted(layout, in_memory, request):
    made = request.getfixturevalue(layout)
    folder = made if layout == "thumos" else made.path
    before = load_dataset(folder)
    assert "cut" not in before.train.population
    path = next(path for path in folder.rglob("flow/*.npy") if path.stem in ("a", "v_aaaaaaaaaaa"))
    np.save(path, np.concatenate([np.load(path), np.load(path)[:1]]))
    found = load_dataset(folder, in_memory=in_memory)
    assert (found.train.num_cut, found.test.num_cut) == (1, 0)
    for split, wanted in ((found.train, before.train), (found.test, before.test)):
        assert split.population.endswith("1 with a stream cut by one snippet") == bool(split.num_cut)
        packed, expected = split.pack(STREAMS), wanted.pack(STREAMS)
        np.testing.assert_array_equal(packed.lengths, expected.lengths)
        for stream, rows in expected.rows.items():
            np.testing.assert_array_equal(packed.rows[stream], rows)
    message = refusal(lambda: load_dataset(folder, in_memory=in_memory, strict=True))
    assert_parts(message, path, "snippets", f"as in {path.parents[1]}/rgb")


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("layout", ["thumos", "activitynet"])
def test_crops_and_values_without_a_type_are_read_as_dataset_json_says(layout, in_memory, request):
    made = request.getfixturevalue(layout)
    folder = made if layout == "thumos" else made.path
    expected = load_dataset(folder).train.videos
    for path in folder.rglob("*.npy"):
        array = np.load(path)
        if path.parent.name == "rgb":
            array = np.stack([array + step for step in (-1, 0, 1) * 3 + (0,)], axis=1)  # (T, 10, D)
        np.save(path, array.astype(ml_dtypes.bfloat16))
    assert "bfloat16" in refusal(load_dataset, folder)
    (folder / "dataset.json").write_text('{"dtype": "bfloat16"}')
    assert '"crops": "mean"' in refusal(load_dataset, folder)
    (folder / "dataset.json").write_text('{"dtype": "bfloat16", "crops": "mean_second"}')
    for video, wanted in zip(load_dataset(folder, in_memory=in_memory).train.videos, expected, strict=True):
        for stream in STREAMS:
            found = np.asarray(video.features[stream], np.float32)
            np.testing.assert_allclose(found, wanted.features[stream], atol=0.02)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_data_set_in_memory_lies_packed(written, dtype):
    made, folder = written
    found = load_dataset(folder, dtype=dtype)
    for split, wanted in ((found.train, made.train), (found.test, made.test)):
        packed, expected = split.pack(STREAMS, dtype), wanted.pack(STREAMS, dtype)
        assert packed is split.packed
        np.testing.assert_array_equal(packed.lengths, expected.lengths)
        for stream, rows in expected.rows.items():
            np.testing.assert_array_equal(packed.rows[stream], rows, strict=True)
        for video in split.videos:
            assert np.shares_memory(video.features["rgb"], packed.rows["rgb"])


def test_a_data_set_left_on_disk_is_the_same(written):
    _, folder = written
    in_memory, on_disk = load_dataset(folder), load_dataset(folder, in_memory=False)
    assert on_disk.info == in_memory.info
    assert on_disk.stream_widths == in_memory.stream_widths == {"rgb": 4, "flow": 4}
    for split, wanted in ((on_disk.train, in_memory.train), (on_disk.test, in_memory.test)):
        assert split.packed is None
        assert split.ground_truth() == wanted.ground_truth()
        for video, expected in zip(split.videos, wanted.videos, strict=True):
            assert isinstance(video.features, FeatureFiles)
            assert (video.name, video.num_snippets) == (expected.name, expected.num_snippets)
            for stream, array in expected.features.items():
                np.testing.assert_array_equal(video.features[stream], array)
        packed, expected = (s.pack(STREAMS, "bfloat16") for s in (split, wanted))
        for stream, rows in expected.rows.items():
            np.testing.assert_array_equal(packed.rows[stream], rows, strict=True)


def test_values_of_a_data_set_left_on_disk_are_checked_when_read(thumos):
    path = thumos / "features" / "train" / "flow" / "b.npy"
    broken = ONES.copy()
    broken[3, 1] = np.nan
    path.write_bytes(npy(broken))
    expected = ("snippet 3, channel 1 is nan", "finite")
    assert_refused(load_dataset, thumos, *expected, named=path)
    video = load_dataset(thumos, in_memory=False).train.videos[1]
    message = refusal(read_snippets, video.features, "flow", np.arange(4))
    assert_parts(message, path, *expected)


def test_a_missing_folder_is_named(tmp_path):
    assert_refused(load_dataset, tmp_path / "data", "no such folder", "gt.json")


def test_the_inertial_set(shared_data):
    data = load_dataset(shared_data / "inertial", in_memory=False)
    assert (len(data.train.videos), len(data.test.videos)) == (319, 135)
    assert data.stream_widths == {"acc": 103, "gyro": 103}
    assert data.info.seconds_per_snippet == 0.32
    assert len(data.info.classes) == 9
    assert {video.num_snippets for video in data.train.videos + data.test.videos} == {140}
    assert {video.features["gyro"].shape for video in data.test.videos} == {(140, 103)}


def test_reading_needs_no_jax():
    """Tools that only read data sets, and the workers that load batches, start fast without it."""
    modules = (
        *("activitynet", "annotations", "dataset", "doctor", "feature_files", "feature_folders", "files"),
        *("crops", "csv_features", "hdf5", "named_arrays", "npy", "npz", "sources", "together"),
        "torch_features",
        *("formats", "given", "info", "load", "names", "packed", "synthetic", "thumos", "torch_files"),
        *("numpy_pickles", "object_arrays", "wtalc"),
    )
    code = "".join(f"import case_jax.data.{name}\n" for name in modules)
    code += "import sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
