import pickle

import ml_dtypes
import numpy as np
import pytest

from case_jax.data.feature_files import FeatureFiles, find_features, read_packed, read_snippets
from case_jax.data.formats import Source
from case_jax.data.load import load_dataset
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from case_jax.errors import InputError

LENGTHS, WIDTHS = (6, 1, 9), {"rgb": 5, "flow": 3}
STREAMS = tuple(WIDTHS)
NPY = "expected a .npy file with a (snippets, channels) array of numbers"


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return [
        {stream: rng.standard_normal((length, width), np.float32) for stream, width in WIDTHS.items()}
        for length in LENGTHS
    ]


@pytest.fixture
def files(arrays, tmp_path):
    for stream in STREAMS:
        (tmp_path / stream).mkdir()
        for i, video in enumerate(arrays):
            np.save(tmp_path / stream / f"v{i}.npy", video[stream])
    return [find_features(tmp_path, f"v{i}", STREAMS, {}) for i in range(len(LENGTHS))]


def error_of(function, *arguments):
    with pytest.raises(InputError) as raised:
        function(*arguments)
    return str(raised.value)


def test_feature_files_are_a_mapping_of_memory_maps(files, arrays):
    video = files[2]
    assert list(video) == list(STREAMS)
    assert len(video) == 2
    assert "rgb" in video
    assert "depth" not in video
    for stream, array in arrays[2].items():
        assert isinstance(video[stream], np.memmap)
        assert not video[stream].flags.writeable
        np.testing.assert_array_equal(video[stream], array)


def test_feature_files_are_small_to_send(files, arrays):
    np.save(files[2].sources["rgb"].path, np.zeros((9, 10_000), np.float32))
    sent = pickle.dumps(files[2])
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert received.sources == files[2].sources
    np.testing.assert_array_equal(received["flow"], arrays[2]["flow"])


def test_every_access_opens_the_file_anew(files):
    path = files[0].sources["rgb"].path
    np.save(path, np.full((6, 5), 7.0))
    assert (files[0]["rgb"] == 7).all()
    path.unlink()
    assert error_of(files[0].__getitem__, "rgb") == f"{path}: no such file; {NPY}"


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int16])
def test_a_single_stream_of_any_numbers_is_found(tmp_path, dtype):
    (tmp_path / "acc").mkdir()
    np.save(tmp_path / "acc" / "v.npy", np.arange(8).reshape(4, 2).astype(dtype))
    widths = {}
    found = find_features(tmp_path, "v", ["acc"], widths)
    assert found["acc"].dtype == dtype
    assert widths == {"acc": (2, Source(tmp_path / "acc" / "v.npy"))}


@pytest.mark.parametrize(
    "content, words",
    [
        (np.ones((6, 4), np.float32), "has 4 channels; expected 3 as in {}/flow/v0.npy"),
        (np.ones((7, 3), np.float32), "has 7 snippets; expected 6 as in {}/rgb/v0.npy"),
        (np.ones((0, 3), np.float32), f"has shape (0, 3); {NPY}"),
        (np.ones(3, np.float32), f"has shape (3,); {NPY}"),
        (np.array([["a"]]), f"holds <U1 values; {NPY}"),
    ],
)
def test_find_features_names_the_file(files, tmp_path, content, words):
    widths = {"flow": (3, Source(tmp_path / "flow" / "v0.npy"))}
    np.save(tmp_path / "flow" / "v0.npy", content)
    message = error_of(find_features, tmp_path, "v0", STREAMS, widths)
    assert message == f"{tmp_path}/flow/v0.npy: {words.format(tmp_path)}"


def test_read_packed_reads_to_where_videos_lie_together(files, arrays):
    packed, views = read_packed(files, STREAMS)
    assert packed.first.tolist() == [0, 6, 7]
    assert packed.lengths.tolist() == list(LENGTHS)
    for stream in STREAMS:
        rows = packed.rows[stream]
        assert rows.dtype == np.float32
        assert rows.ctypes.data % 64 == 0
        np.testing.assert_array_equal(rows, np.concatenate([video[stream] for video in arrays]))
        assert not rows.flags.writeable
    assert [list(view) for view in views] == [list(STREAMS)] * 3
    for view, video, first in zip(views, arrays, packed.first, strict=True):
        for stream, array in video.items():
            np.testing.assert_array_equal(view[stream], array)
            assert np.shares_memory(view[stream], packed.rows[stream])
            assert view[stream].ctypes.data == packed.rows[stream][first:].ctypes.data
            with pytest.raises(ValueError, match="read-only"):
                view[stream][0] = 0


def test_read_packed_rounds_to_bfloat16(files, arrays):
    packed, views = read_packed(files, ["flow"], "bfloat16")
    expected = np.concatenate([video["flow"] for video in arrays]).astype(ml_dtypes.bfloat16)
    assert packed.rows["flow"].dtype == views[0]["flow"].dtype == expected.dtype
    np.testing.assert_array_equal(packed.rows["flow"], expected)


def test_read_packed_refuses_values_that_are_not_finite(files):
    broken = np.ones((9, 3), np.float32)
    broken[4, 2] = np.inf
    np.save(files[2].sources["flow"].path, broken)
    assert error_of(read_packed, files, STREAMS) == (
        f"{files[2].sources['flow'].path}: snippet 4, channel 2 is inf; expected finite numbers"
    )


@pytest.mark.parametrize("snippets", [[0, 2, 2, 5], [5, 0], [3], [-1]])
def test_snippets_are_the_same_from_memory_and_from_disk(files, arrays, snippets):
    snippets = np.array(snippets)
    for stream in STREAMS:
        from_memory = read_snippets(arrays[0], stream, snippets)
        from_disk = read_snippets(files[0], stream, snippets)
        np.testing.assert_array_equal(from_memory, arrays[0][stream][snippets])
        np.testing.assert_array_equal(from_disk, from_memory, strict=True)
        assert type(from_disk) is np.ndarray


def test_snippets_from_disk_are_float32(files):
    np.save(files[0].sources["rgb"].path, np.arange(30, dtype=np.int64).reshape(6, 5))
    rows = read_snippets(files[0], "rgb", np.array([1]))
    assert rows.dtype == np.float32
    assert rows.tolist() == [[5, 6, 7, 8, 9]]


@pytest.mark.parametrize("value, shown", [(np.nan, "nan"), (-np.inf, "-inf"), (1e300, "inf")])
def test_a_snippet_on_disk_that_is_not_finite_is_named(files, value, shown):
    path = files[2].sources["rgb"].path
    broken = np.ones((9, 5))
    broken[6, 3] = value
    np.save(path, broken)
    # Its position in the file, not in what was asked for; snippets around it can be read.
    assert error_of(read_snippets, files[2], "rgb", np.array([1, 4, 6, 8])) == (
        f"{path}: snippet 6, channel 3 is {shown}; expected finite numbers"
    )
    assert read_snippets(files[2], "rgb", np.array([5, 7])).shape == (2, 5)


@pytest.fixture
def data_set(tmp_path):
    made = make_synthetic_dataset(0, SyntheticSpec(num_train=2, num_test=1, num_classes=2, width=4))
    write_dataset(made, tmp_path / "data")
    return made, tmp_path / "data"


def test_a_data_set_in_memory_lies_packed(data_set):
    made, folder = data_set
    for dtype in ("float32", "bfloat16"):
        found = load_dataset(folder, dtype=dtype)
        for split, wanted in ((found.train, made.train), (found.test, made.test)):
            packed = split.pack(found.info.streams, dtype)
            assert packed is split.packed
            expected = wanted.pack(found.info.streams, dtype)
            np.testing.assert_array_equal(packed.lengths, expected.lengths)
            for stream, rows in expected.rows.items():
                np.testing.assert_array_equal(packed.rows[stream], rows, strict=True)
            for video in split.videos:
                assert np.shares_memory(video.features["rgb"], packed.rows["rgb"])


def test_a_data_set_left_on_disk_is_the_same(data_set):
    _, folder = data_set
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
        packed, expected = (s.pack(("rgb", "flow"), "bfloat16") for s in (split, wanted))
        for stream, rows in expected.rows.items():
            np.testing.assert_array_equal(packed.rows[stream], rows, strict=True)


def test_values_of_a_data_set_left_on_disk_are_checked_when_read(data_set):
    made, folder = data_set
    name = made.train.videos[1].name
    path = folder / "features" / "train" / "flow" / f"{name}.npy"
    broken = made.train.videos[1].features["flow"].copy()
    broken[3, 1] = np.nan
    np.save(path, broken)
    message = f"{path}: snippet 3, channel 1 is nan; expected finite numbers"
    assert error_of(load_dataset, folder) == message
    video = load_dataset(folder, in_memory=False).train.videos[1]
    assert error_of(read_snippets, video.features, "flow", np.arange(5)) == message
