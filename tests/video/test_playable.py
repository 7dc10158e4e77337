"""Which videos browsers play, and copies of the others: same frames at the same times, upright."""

import av
import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.video.playable import coding_of, write_playable
from tests.helpers.videos import number_in, numbered, turn, write_images, write_video


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "text", "played"),
    [
        ("a.mp4", "libx264", "yuv420p", "h264 (yuv420p) in mp4", True),
        ("a.mov", "libx264", "yuv420p", "h264 (yuv420p) in mp4", True),
        ("a.mp4", "libvpx-vp9", "yuv420p", "vp9 (yuv420p) in mp4", True),
        ("a.webm", "libvpx", "yuv420p", "vp8 (yuv420p) in webm", True),
        ("a.mp4", "libx264", "yuv444p", "h264 (yuv444p) in mp4", False),
        ("a.mp4", "mpeg4", "yuv420p", "mpeg4 (yuv420p) in mp4", False),
        ("a.avi", "libx264", "yuv420p", "h264 (yuv420p) in avi", False),
        ("a.mkv", "libx264", "yuv420p", "h264 (yuv420p) in matroska", False),
        ("a.gif", "gif", "rgb8", "gif (bgra) in gif", False),
    ],
)
def test_coding(tmp_path, name, codec, pixels, text, played):
    coding = coding_of(write_video(tmp_path / name, 3, codec=codec, pix_fmt=pixels))
    assert str(coding) == text
    assert coding.played == played


def test_coding_of_images_and_of_what_is_no_video(tmp_path):
    coding = coding_of(write_images(tmp_path / "images", [numbered(0)]))
    assert (str(coding), coding.played) == ("images", False)
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"a\.mp4: cannot be opened"):
        coding_of(tmp_path / "a.mp4")


def read(path) -> tuple[list[float], list[np.ndarray]]:
    """Times in seconds and RGB frames, by PyAV alone."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
        return [frame.time for frame in frames], [frame.to_ndarray(format="rgb24") for frame in frames]


def check_copy(path, *, size: tuple[int, int], numbers: list[int]) -> None:
    assert coding_of(path).played
    times, frames = read(path)
    np.testing.assert_allclose(times, np.arange(len(numbers)) / 25, atol=1e-4)
    assert frames[0].shape[1::-1] == size
    assert [number_in(frame) for frame in frames] == numbers


def test_a_copy_shows_each_frame_at_its_time(tmp_path):
    video = write_video(tmp_path / "a.avi", 50, rate=25, codec="mpeg4", size=(97, 65))
    write_playable(video, tmp_path / "new folder" / "copy.mp4")
    check_copy(tmp_path / "new folder" / "copy.mp4", size=(96, 64), numbers=list(range(50)))
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["copy.mp4"]


def test_copies_of_other_rates_begin_at_their_first_frame(tmp_path):
    times = [2 + k / 10 for k in range(20)]
    write_playable(write_video(tmp_path / "a.mkv", 20, times=times, audio=True), tmp_path / "copy.mp4")
    shown, frames = read(tmp_path / "copy.mp4")
    assert shown[0] == 0
    for time, frame in zip(shown, frames):
        assert number_in(frame) == min(19, int(10 * time + 0.01))


def test_copies_of_gifs_and_images(tmp_path):
    write_playable(
        write_video(tmp_path / "a.gif", 10, rate=25, codec="gif", pix_fmt="rgb8"), tmp_path / "a.mp4"
    )
    check_copy(tmp_path / "a.mp4", size=(64, 48), numbers=list(range(10)))
    folder = write_images(tmp_path / "images", [numbered(k) for k in range(10)])
    write_playable(folder, tmp_path / "b.mp4", duration=0.8)
    check_copy(tmp_path / "b.mp4", size=(64, 48), numbers=[k // 2 for k in range(20)])


def test_copies_are_upright_and_at_most_480_pixels_on_their_shorter_side(tmp_path):
    video = turn(write_video(tmp_path / "a.mp4", 2, size=(1280, 720)), (0, 1, -1, 0))
    write_playable(video, tmp_path / "copy.mp4")
    _, frames = read(tmp_path / "copy.mp4")
    assert frames[0].shape == (852, 480, 3)
    assert number_in(frames[0].swapaxes(0, 1)) == 0


def test_a_copy_that_cannot_be_written_is_named(tmp_path):
    video = write_video(tmp_path / "a.avi", 3, codec="mpeg4")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"copy\.mp4: cannot be written"):
        write_playable(video, tmp_path / "file" / "copy.mp4")
