import pickle

import numpy as np
import pytest

from case_jax.data.feature_files import (
    FeatureFiles,
    KeptFeatures,
    check_shapes,
    num_cut,
    read_snippets,
    shape_checker,
    video_length,
)
from case_jax.data.sources import Source, read_source
from tests.helpers.files import ONES, write_array
from tests.helpers.refusals import assert_parts, refusal

LENGTHS, WIDTHS = (6, 1, 9), {"rgb": 5, "flow": 3}
STREAMS = tuple(WIDTHS)


def sources(folder, name, streams=STREAMS):
    return {stream: Source(folder / stream / f"{name}.npy") for stream in streams}


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
    return [check_shapes(sources(tmp_path, f"v{i}"), {}) for i in range(len(LENGTHS))]


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
    assert_parts(refusal(files[0].__getitem__, "rgb"), path, "no such file", ".npy")


def test_the_length_is_known_without_opening_a_file(files, arrays):
    files[2].sources["rgb"].path.unlink()
    assert video_length(files[2]) == video_length(arrays[2]) == 9
    other = FeatureFiles(files[1].sources)
    assert other.num_snippets is None
    assert video_length(other) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int16])
def test_new_streams_are_added_to_the_known_widths(tmp_path, dtype):
    (tmp_path / "acc").mkdir()
    np.save(tmp_path / "acc" / "v.npy", np.arange(8).reshape(4, 2).astype(dtype))
    source = sources(tmp_path, "v", ["acc"])
    widths = {"rgb": (16, "model.ckpt")}
    assert check_shapes(source, widths)["acc"].dtype == dtype
    assert widths == {"rgb": (16, "model.ckpt"), "acc": (2, source["acc"])}


@pytest.mark.parametrize(
    "content, wrong, expected",
    [
        (np.ones((6, 4), np.float32), "4 channels", "3 … {}/flow/v0.npy"),
        (np.ones((3, 8), np.float32), "8 channels", "3, which it has as rows, … {}/flow/v0.npy"),
        (np.ones((8, 3), np.float32), "8 snippets", "6 … {}/rgb/v0.npy"),
        (np.ones((4, 3), np.float32), "4 snippets", "6 … {}/rgb/v0.npy"),
        (np.ones((0, 3), np.float32), "shape (0, 3)", ".npy"),
        (None, "no such file", ".npy"),
    ],
)
def test_shapes_that_do_not_fit_are_named(files, tmp_path, content, wrong, expected):
    path = tmp_path / "flow" / "v0.npy"
    widths = {"flow": (3, Source(path))}
    path.unlink()
    if content is not None:
        np.save(path, content)
    message = refusal(check_shapes, sources(tmp_path, "v0"), widths)
    assert_parts(message, path, wrong, expected.format(tmp_path))


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("longer", STREAMS)
@pytest.mark.parametrize("ending", [".npy", ".csv", ".npz"])
def test_streams_that_differ_by_one_snippet_are_cut_to_the_shorter(ending, longer, keep, tmp_path):
    arrays = {s: np.arange((5 + (s == longer)) * width).reshape(-1, width) for s, width in WIDTHS.items()}
    for stream, array in arrays.items():
        write_array(tmp_path / f"{stream}{ending}", array.astype(np.float32))
    given = {stream: Source(tmp_path / f"{stream}{ending}") for stream in STREAMS}
    files = check_shapes(given, {}, keep=keep)
    assert (files.num_snippets, video_length(files), files.cut) == (5, 5, True)
    for stream, array in arrays.items():
        assert files[stream].shape == array[:5].shape
        np.testing.assert_array_equal(files[stream], array[:5])
        np.testing.assert_array_equal(read_source(files.sources[stream]), array[:5])
        np.testing.assert_array_equal(read_snippets(files, stream, np.array([4, 0])), array[[4, 0]])
        with pytest.raises(IndexError):
            read_snippets(files, stream, np.array([5]))
    message = refusal(lambda: check_shapes(given, {}, strict=True))
    first, second = (f"{len(array)} snippets" for array in arrays.values())
    assert_parts(message, tmp_path / f"flow{ending}", second, f"{first.split()[0]} … {tmp_path}/rgb{ending}")


def test_streams_of_which_two_differ_by_two_are_refused(tmp_path):
    lengths = {"rgb": 6, "flow": 7, "audio": 5}
    for stream, length in lengths.items():
        np.save(tmp_path / f"{stream}.npy", np.ones((length, 2)))
    message = refusal(check_shapes, {s: Source(tmp_path / f"{s}.npy") for s in lengths}, {})
    assert_parts(message, tmp_path / "flow.npy", "7 snippets", f"6 … {tmp_path}/rgb.npy")


def test_videos_that_are_cut_are_counted(files, tmp_path):
    assert num_cut(files) == 0
    np.save(tmp_path / "rgb" / "v1.npy", np.ones((2, 5)))
    check = shape_checker(strict=False)
    assert num_cut(check(sources(tmp_path, f"v{i}")) for i in range(3)) == 1
    np.save(tmp_path / "rgb" / "v2.npy", np.ones((9, 4)))
    assert "expected 5" in refusal(check, sources(tmp_path, "v2"))  # the widths of the first video
    refusal(shape_checker(strict=True), sources(tmp_path, "v1"))


def test_a_width_that_is_known_from_elsewhere_is_compared(files, tmp_path):
    message = refusal(check_shapes, sources(tmp_path, "v0"), {"rgb": (16, "model.ckpt")})
    assert_parts(message, tmp_path / "rgb" / "v0.npy", "5 channels", "16 … model.ckpt")


def test_files_that_are_read_whole_can_be_kept(tmp_path):
    together = np.concatenate([ONES, 2 * ONES], axis=1)
    np.savetxt(tmp_path / "v.csv", together, delimiter=",")
    np.save(tmp_path / "v.npy", together)
    for name, kept_in_memory in (("v.csv", True), ("v.npy", False)):
        streams = {
            stream: Source(tmp_path / name, columns=columns)
            for stream, columns in (("rgb", (0, 3, 6)), ("flow", (3, 6, 6)))
        }
        kept, anew = check_shapes(streams, {}, keep=True), check_shapes(streams, {})
        assert (type(kept), type(anew)) == (KeptFeatures, FeatureFiles)
        assert np.shares_memory(kept["rgb"], kept["rgb"]) == kept_in_memory
        (tmp_path / name).unlink()
        if kept_in_memory:
            np.testing.assert_array_equal(kept["flow"], 2 * ONES)
        else:
            assert "no such file" in refusal(kept.__getitem__, "flow")
        assert "no such file" in refusal(anew.__getitem__, "flow")


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
    message = refusal(read_snippets, files[2], "rgb", np.array([1, 4, 6, 8]))
    assert_parts(message, path, f"snippet 6, channel 3 is {shown}", "finite")
    assert read_snippets(files[2], "rgb", np.array([5, 7])).shape == (2, 5)
