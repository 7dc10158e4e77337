"""Small pictures: of the right moment, upright, small, from any container."""

import cv2
import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.video.thumbnails import thumbnails
from tests.helpers.videos import number_in, numbered, turn, write_images, write_video


def decoded(picture: bytes) -> np.ndarray:
    """A JPEG file as (h, w, 3) RGB."""
    return cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def numbers(pictures) -> list[int]:
    return [number_in(decoded(picture)) for picture in pictures]


TIMES = [2.5, 0.0, 1.51, 0.99, 0.58]
AT_25 = [62, 0, 37, 24, 14]  # the frame on display: floor(25 * time)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mkv", "mpeg4", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.h264", "libx264", "yuv420p"),  # without time stamps: from its start
        ("a.gif", "gif", "rgb8"),
    ],
)
def test_each_time_gives_the_frame_on_display(tmp_path, name, codec, pix_fmt):
    path = write_video(tmp_path / name, 75, rate=25, codec=codec, pix_fmt=pix_fmt)
    assert numbers(thumbnails(path, TIMES)) == AT_25


def test_times_are_those_of_the_first_frame_even_where_sound_begins_before(tmp_path):
    times = [2 + k / 25 for k in range(75)]
    path = write_video(tmp_path / "a.mp4", 75, rate=25, times=times, audio=True)
    assert numbers(thumbnails(path, TIMES)) == AT_25


def test_a_frame_that_stays_is_the_one_on_display(tmp_path):
    path = write_video(tmp_path / "a.mp4", 4, times=[0.0, 0.1, 5.0, 5.1])
    assert numbers(thumbnails(path, [0.05, 4.9, 5.05, 99.0])) == [0, 1, 2, 3]


def test_they_are_upright_and_as_wide_as_asked(tmp_path):
    path = write_video(tmp_path / "a.mp4", 3, size=(64, 48))
    assert decoded(thumbnails(path, [0.0])[0]).shape == (120, 160, 3)
    assert decoded(thumbnails(path, [0.0], width=32)[0]).shape == (24, 32, 3)
    turn(path, (0, 1, -1, 0))
    standing = decoded(thumbnails(path, [0.05], width=48)[0])
    assert standing.shape == (64, 48, 3)
    assert number_in(standing.swapaxes(0, 1)) == 1
    tall = write_video(tmp_path / "tall.mp4", [np.zeros((400, 16, 3), np.uint8)])
    assert decoded(thumbnails(tall, [0.0])[0]).shape == (320, 13, 3)


def test_folders_of_images(tmp_path):
    folder = write_images(tmp_path / "images", [numbered(k) for k in range(75)])
    assert numbers(thumbnails(folder, TIMES, duration=3.0)) == AT_25
    (folder / "img_1.png").write_bytes(b"not a picture any more")
    with pytest.raises(InputError, match=r"img_1\.png: cannot be decoded"):
        thumbnails(folder, [0.0], duration=3.0)
    (folder / "img_1.png").unlink()
    (folder / "img_39.png").write_bytes(b"nor this one")
    assert [one is None for one in thumbnails(folder, [0.5, 1.48], duration=74 / 25)] == [False, True]
    with pytest.raises(InputError, match="images: is a folder of images, which tell no time"):
        thumbnails(folder, [0.0])


def test_after_a_break_the_last_frame_that_could_be_decoded_stays(tmp_path):
    path = write_video(tmp_path / "a.mkv", 75, rate=25, codec="mpeg4")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    first, last = numbers(thumbnails(path, [0.2, 2.9]))
    assert first == 5
    assert 20 < last < 60


def test_what_is_no_video_is_named(tmp_path):
    with pytest.raises(InputError, match=r"missing\.mp4: no such file"):
        thumbnails(tmp_path / "missing.mp4", [0.0])
    assert thumbnails(write_video(tmp_path / "a.mp4", 3), []) == []
