"""Sizes of frames and crops."""

import sys

import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.video.resize import crop_frames, resize, size_of
from case_jax.video.settings import FrameSettings
from tests.helpers.refusals import assert_parts, bad, refusal

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "width, height, expected",
    [
        (320, 240, (341, 256)),
        (240, 320, (256, 341)),
        (1920, 1080, (455, 256)),
        (321, 241, (341, 256)),
        (256, 256, (256, 256)),
        (7680, 4320, (455, 256)),
        (1, 1, (256, 256)),
        (1, 3, (256, 768)),
        (512, 257, (510, 256)),
    ],
)
def test_the_shorter_side_is_exact(width, height, expected):
    assert size_of(width, height, 256) == expected


def test_bilinear_by_the_formula():
    """Centres of pixels meet, and each value is the mean of the four pixels around it by distance."""
    image = RNG.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    width, height = 43, 32

    def at(length, new):
        places = np.clip((np.arange(new) + 0.5) * length / new - 0.5, 0, length - 1)
        low = np.minimum(places.astype(int), length - 2)
        return low, (places - low)[:, None]

    (y, down), (x, right) = at(24, height), at(32, width)
    rows = image[y] * (1 - down[:, None]) + image[y + 1] * down[:, None]
    expected = rows[:, x] * (1 - right) + rows[:, x + 1] * right
    got = resize(image, (width, height))
    assert got.dtype == np.uint8
    assert np.abs(got - expected).max() <= 1.0


def test_a_frame_of_the_size_stays_itself():
    image = np.zeros((24, 32, 3), np.uint8)
    assert resize(image, (32, 24)) is image


def places_of(crops, frames):
    """The corners (y, x, mirrored) at which crops lie in frames of unlike values."""
    side = crops.shape[2]
    bottom, right = frames.shape[1] - side + 1, frames.shape[2] - side + 1
    return [
        next(
            (y, x, mirrored)
            for mirrored in (False, True)
            for y in range(bottom)
            for x in range(right)
            if np.array_equal(crop[:, :, :: -1 if mirrored else 1], frames[:, y : y + side, x : x + side])
        )
        for crop in crops
    ]


def test_where_crops_lie():
    frames = RNG.random((2, 9, 12, 3)).astype(np.float32)
    center = crop_frames(frames, FrameSettings(side=9, crop=6))
    assert center.shape == (1, 2, 6, 6, 3)
    assert places_of(center, frames) == [(1, 3, False)]
    ten = crop_frames(list(frames), FrameSettings(side=9, crop=6, crops="ten"))
    assert ten.shape == (10, 2, 6, 6, 3)
    five = [(0, 0), (0, 6), (3, 0), (3, 6), (1, 3)]
    assert places_of(ten, frames) == [(*at, mirrored) for mirrored in (False, True) for at in five]


def test_motion_to_the_right_is_to_the_left_in_a_mirror():
    flow = np.zeros((1, 6, 8, 2), np.float32)
    flow[..., 0], flow[..., 1] = 0.25, 0.5
    crops = crop_frames(flow, FrameSettings(side=6, crop=4, crops="ten"))
    assert crops.dtype == np.float32
    np.testing.assert_array_equal(crops[:5], np.broadcast_to([0.25, 0.5], crops[:5].shape))
    np.testing.assert_array_equal(crops[5:], np.broadcast_to([-0.25, 0.5], crops[5:].shape))


def test_a_frame_smaller_than_the_crop():
    with pytest.raises(ValueError, match="12 x 9 pixels have no crop of 10"):
        crop_frames(np.zeros((1, 9, 12, 3)), FrameSettings(side=10, crop=10))


@pytest.mark.parametrize(
    "changes, named, wrong",
    [
        bad("no frames", {"fps": 0}, "--fps", "0"),
        bad("backwards", {"fps": -25.0}, "--fps", "-25"),
        bad("not a number", {"fps": float("nan")}, "--fps", "nan"),
        bad("too many", {"fps": 1e9}, "--fps", "1000000000"),
        bad("smaller than the crop", {"side": 200}, "--side", "200"),
        bad("no crop", {"crop": 0}, "--crop", "0"),
        bad("another crop", {"crops": "three"}, "--crop", "three"),
    ],
)
def test_settings_that_cannot_be(changes, named, wrong):
    assert_parts(refusal(lambda: FrameSettings(**changes)), named, wrong)


def test_without_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"opencv-contrib.*pip install 'case_jax\[video\]'"):
        resize(np.zeros((4, 4, 3), np.uint8), (8, 8))
