import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.feature_files import check_shapes
from case_jax.data.packed import DTYPES, allocate_rows, first_rows, pack, read_packed
from case_jax.data.sources import Source
from tests.helpers.refusals import assert_parts, refusal

WIDTHS = {"rgb": 5, "flow": 3}


def videos(lengths=(4, 1, 7), dtype=np.float32):
    rng = np.random.default_rng(0)
    return [
        {stream: rng.standard_normal((length, width)).astype(dtype) for stream, width in WIDTHS.items()}
        for length in lengths
    ]


def test_videos_lie_one_after_another():
    features = videos()
    packed = pack(features, ("rgb", "flow"))
    assert list(packed.rows) == ["rgb", "flow"]
    assert packed.first.tolist() == [0, 4, 5]
    assert packed.lengths.tolist() == [4, 1, 7]
    assert packed.first.dtype == packed.lengths.dtype == np.int32
    for stream, rows in packed.rows.items():
        assert rows.dtype == np.float32
        assert rows.shape == (12, WIDTHS[stream])
        for video, first, length in zip(features, packed.first, packed.lengths, strict=True):
            np.testing.assert_array_equal(rows[first : first + length], video[stream])
    assert packed.num_bytes == 12 * (5 + 3) * 4


def test_only_the_streams_asked_for_are_packed():
    assert list(pack(videos(), ["flow"]).rows) == ["flow"]


def test_packing_copies():
    features = videos()
    packed = pack(features, ["rgb"])
    features[0]["rgb"][:] = 0
    assert not (packed.rows["rgb"][:4] == 0).any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_bfloat16_is_the_nearest(dtype):
    features = videos(dtype=dtype)
    packed = pack(features, ["rgb"], "bfloat16")
    assert packed.rows["rgb"].dtype == DTYPES["bfloat16"] == jnp.bfloat16
    expected = np.concatenate([video["rgb"] for video in features]).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(packed.rows["rgb"], expected)
    assert packed.num_bytes == 12 * 5 * 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    num_rows=st.integers(1, 70),
    width=st.integers(1, 40),
    dtype=st.sampled_from(sorted(DTYPES)),
)
def test_rows_are_aligned_for_every_shape(num_rows, width, dtype):
    rows = allocate_rows(num_rows, width, DTYPES[dtype])
    assert rows.shape == (num_rows, width)
    assert rows.dtype == DTYPES[dtype]
    assert rows.ctypes.data % 64 == 0
    assert rows.flags.c_contiguous
    assert rows.flags.writeable
    rows[:] = 1  # all of it is there
    assert float(rows.astype(np.float32).sum()) == num_rows * width


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cpu_device_takes_the_rows_without_copying(dtype):
    rows = pack(videos(), ["rgb"], dtype).rows["rgb"]
    on_device = jax.device_put(rows, jax.devices()[0])
    assert on_device.unsafe_buffer_pointer() == rows.ctypes.data


@settings(max_examples=50, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 3000), min_size=1, max_size=40))
def test_first_rows_are_the_sums_of_the_lengths_before(lengths):
    found = first_rows(np.array(lengths, np.int32))
    assert found.dtype == np.int32
    assert found.tolist() == [sum(lengths[:i]) for i in range(len(lengths))]


# From disk


@pytest.fixture
def files(tmp_path):
    """The videos as files."""
    found = []
    for i, video in enumerate(videos()):
        sources = {stream: Source(tmp_path / f"{stream}{i}.npy") for stream in WIDTHS}
        for stream, source in sources.items():
            np.save(source.path, video[stream])
        found.append(check_shapes(sources, {}))
    return found


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_videos_on_disk_are_read_to_where_they_lie_together(files, dtype):
    packed, _ = read_packed(files, ("rgb", "flow"), dtype)
    expected = pack(videos(), ("rgb", "flow"), dtype)
    np.testing.assert_array_equal(packed.first, expected.first, strict=True)
    np.testing.assert_array_equal(packed.lengths, expected.lengths, strict=True)
    for stream, rows in packed.rows.items():
        np.testing.assert_array_equal(rows, expected.rows[stream], strict=True)
        assert rows.ctypes.data % 64 == 0
        assert not rows.flags.writeable


def test_each_video_read_from_disk_is_a_view(files):
    packed, views = read_packed(files, ("rgb", "flow"))
    assert [list(view) for view in views] == [["rgb", "flow"]] * 3
    for view, video, first in zip(views, videos(), packed.first, strict=True):
        for stream, array in video.items():
            np.testing.assert_array_equal(view[stream], array)
            assert view[stream].ctypes.data == packed.rows[stream][first:].ctypes.data
            with pytest.raises(ValueError, match="read-only"):
                view[stream][0] = 0


def test_a_value_on_disk_that_is_not_finite_is_named(files):
    path = files[2].sources["flow"].path
    broken = np.ones((7, 3), np.float32)
    broken[4, 2] = np.inf
    np.save(path, broken)
    message = refusal(read_packed, files, ("rgb", "flow"))
    assert_parts(message, path, "snippet 4, channel 2 is inf", "finite")
