"""Folders of numbered images as videos."""

import os

import cv2
import numpy as np
import pytest

from case_jax.video.image_folders import ImageFolder
from tests.helpers.refusals import assert_refused, bad
from tests.helpers.videos import number_in, numbered, write_images

IMAGE = "a whole .jpg or .png image"


def test_images_at_their_rate(tmp_path):
    folder = ImageFolder(write_images(tmp_path, [numbered(k) for k in range(12)], "img_{}.jpg"), fps=10)
    assert (folder.width, folder.height, folder.native_fps) == (64, 48, 10)
    assert (folder.num_frames, folder.duration, folder.start, folder.broken) == (12, 1.2, 0.0, None)
    frames = list(folder.frames())
    assert [number_in(folder.pixels(each.frame)) for each in frames] == list(range(12))
    np.testing.assert_allclose([each.time for each in frames], np.arange(12) / 10)
    assert {each.length for each in frames} == {0.1}
    folder.close()


def only(path, image):
    """What is read of one image written with OpenCV."""
    assert cv2.imwrite(str(path), image)
    folder = ImageFolder(path.parent, fps=25)
    return folder.pixels(next(folder.frames()).frame)


def test_values_are_exact_and_in_the_order_red_green_blue(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    got = only(tmp_path / "1.png", image)
    np.testing.assert_array_equal(got, image[:, :, ::-1])
    assert got.flags["C_CONTIGUOUS"]


def test_jpeg_images_are_nearly_what_opencv_reads(tmp_path):
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8), (160, 120))
    got = only(tmp_path / "1.jpg", smooth).astype(int)
    difference = np.abs(got - cv2.imread(str(tmp_path / "1.jpg"))[:, :, ::-1])
    assert difference.mean() < 0.5
    assert difference.max() <= 8


@pytest.mark.parametrize("channels, dtype", [(1, np.uint8), (1, np.uint16), (4, np.uint8), (3, np.uint16)])
def test_grey_deep_and_transparent_images(tmp_path, channels, dtype):
    bright = np.full((4, 6, channels), 200 * (257 if dtype == np.uint16 else 1), dtype)
    got = only(tmp_path / "1.png", bright)
    np.testing.assert_allclose(got, np.full((4, 6, 3), 200), atol=dtype == np.uint16)


def test_images_are_turned_upright(tmp_path):
    """A camera that was held upright writes the orientation 6 into its JPEG."""
    top = np.zeros((16, 32, 3), np.uint8)
    top[:, :16] = 255  # left; after a quarter turn clockwise it is at the top
    assert cv2.imwrite(str(tmp_path / "1.jpg"), top)
    content = (tmp_path / "1.jpg").read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\10\0\1\1\22\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    marker = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "1.jpg").write_bytes(content[:2] + marker + content[2:])
    folder = ImageFolder(tmp_path, fps=25)
    assert (folder.width, folder.height) == (16, 32)
    image = folder.pixels(next(folder.frames()).frame)
    assert image[:12].mean() > 240
    assert image[20:].mean() < 15


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def broken(path):
    content = bytearray(path.read_bytes())
    content[:60] = bytes(60)
    path.write_bytes(content)


def locked(path):
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("nothing is locked for root")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("pattern", ["{}.jpg", "{}.png"])
@pytest.mark.parametrize(
    "damage, wrong",
    [
        bad("empty", lambda path: path.write_bytes(b""), "cannot be decoded to its end"),
        bad("text", lambda path: path.write_text("text"), "cannot be decoded to its end"),
        bad("cut", cut, "cannot be decoded to its end"),
        bad("broken header", broken, "cannot be decoded to its end"),
        bad("a pipe", pipe, "pipe"),
        bad("locked", locked, "Permission denied"),
    ],
)
def test_images_that_cannot_be_used(tmp_path, capfd, number, pattern, damage, wrong):
    write_images(tmp_path, [numbered(k) for k in range(2)], pattern, first=0)
    path = tmp_path / pattern.format(number)
    damage(path)

    def read(_):
        folder = ImageFolder(tmp_path, fps=25)
        return [folder.pixels(each.frame) for each in folder.frames()]

    assert_refused(read, path, wrong, IMAGE)
    assert capfd.readouterr() == ("", "")
