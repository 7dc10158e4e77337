"""From videos to frames at regular times."""

import math
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest

from case_jax.video.frames import FrameSettings, Tally, open_frames
from case_jax.video.resize import resize
from tests.conftest import ROOT
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_refused, bad
from tests.helpers.videos import number_in, numbered, turn, write_images, write_video

DEFAULT = FrameSettings()
NATIVE = FrameSettings(fps=None)


def numbers_and_reader(path, settings=DEFAULT, **options):
    with open_frames(path, settings, **options) as reader:
        return [number_in(frame) for frame in reader], reader


def test_25_frames_of_every_30(tmp_path):
    numbers, reader = numbers_and_reader(write_video(tmp_path / "a.mp4", 60))
    assert numbers == [k for k in range(60) if k % 6 != 5]
    assert reader.tally == Tally(read=60, chosen=50, repeated=0, skipped=10)
    assert (reader.fps, reader.native_fps, reader.duration, reader.expected) == (25, 30, 2, 50)
    assert (reader.width, reader.height, reader.size) == (64, 48, (341, 256))
    assert (reader.start, reader.broken) == (0, None)


def test_25_frames_of_every_10(tmp_path):
    numbers, reader = numbers_and_reader(write_video(tmp_path / "a.mp4", 10, rate=10))
    assert numbers == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 6, 7, 7, 8, 8, 8, 9, 9]
    assert reader.tally == Tally(read=10, chosen=25, repeated=15, skipped=0)


def test_the_native_frames_one_by_one(tmp_path):
    numbers, reader = numbers_and_reader(write_video(tmp_path / "a.mkv", 60), NATIVE)
    assert numbers == list(range(60))
    assert reader.tally == Tally(read=60, chosen=60, repeated=0, skipped=0)
    assert (reader.fps, reader.expected) == (30, 60)


def test_a_varying_rate(tmp_path):
    path = write_video(tmp_path / "a.mkv", 5, times=[1.0, 1.5, 1.51, 1.6, 2.0])
    numbers, reader = numbers_and_reader(path, FrameSettings(fps=10))
    assert numbers == [0, 0, 0, 0, 0, 1, 3, 3, 3, 3, 4]
    assert reader.tally == Tally(read=5, chosen=11, repeated=7, skipped=1)
    assert numbers_and_reader(path, NATIVE)[0] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("frames, expected", [(1, [0]), (7, [0, 1, 2, 3, 4, 6])])
def test_short_videos(tmp_path, frames, expected):
    numbers, reader = numbers_and_reader(write_video(tmp_path / "a.mp4", frames))
    assert numbers == expected
    assert reader.expected == len(expected)
    assert numbers_and_reader(tmp_path / "a.mp4", NATIVE)[0] == list(range(frames))


def test_frames_are_resized_to_the_shorter_side(tmp_path):
    path = write_video(tmp_path / "a.avi", 2, codec="mjpeg", pix_fmt="yuvj420p", size=(321, 241))
    with open_frames(path, NATIVE, size=241) as whole, open_frames(path, NATIVE, size=100) as small:
        for original, frame in zip(whole, small, strict=True):
            assert original.shape == (241, 321, 3)
            assert frame.dtype == np.uint8
            np.testing.assert_array_equal(frame, resize(original, (133, 100)))


def test_a_phone_held_upright(tmp_path):
    path = turn(write_video(tmp_path / "a.mp4", 2), (0, 1, -1, 0))
    with open_frames(path, NATIVE) as reader:
        frames = list(reader)
    assert (reader.width, reader.height, reader.size) == (48, 64, (256, 341))
    assert [number_in(np.rot90(frame)) for frame in frames] == [0, 1]


def test_a_size_that_changes_on_the_way(tmp_path):
    small, large = (
        write_video(tmp_path / f"{side}.mpg", 20, codec="mpeg1video", size=(side, side)) for side in (64, 96)
    )
    (tmp_path / "a.mpg").write_bytes(small.read_bytes() + large.read_bytes())
    with open_frames(tmp_path / "a.mpg", NATIVE) as reader:
        frames = list(reader)
    assert {frame.shape for frame in frames} == {(256, 256, 3)}
    numbers = [number_in(frame) for frame in frames]
    assert numbers[:19] == list(range(19))  # FFmpeg loses the last one before a change
    assert numbers[-20:] == list(range(20))


def test_files_that_were_joined_go_on_in_time(tmp_path):
    """The clock of the second begins anew."""
    one = write_video(tmp_path / "one.ts", 60, codec="mpeg2video")
    (tmp_path / "a.ts").write_bytes(2 * one.read_bytes())
    numbers, reader = numbers_and_reader(tmp_path / "a.ts")
    assert numbers == 2 * [k for k in range(60) if k % 6 != 5]
    assert reader.tally == Tally(read=120, chosen=100, repeated=0, skipped=20)


# Folders of images


def test_a_folder_of_images(tmp_path):
    folder = write_images(tmp_path, [numbered(k) for k in range(12)])
    numbers, reader = numbers_and_reader(folder)
    assert numbers == list(range(12))
    assert (reader.fps, reader.native_fps, reader.expected) == (25, 25, 12)
    numbers, reader = numbers_and_reader(folder, native_fps=30)
    assert numbers == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert reader.tally == Tally(read=12, chosen=10, repeated=0, skipped=2)
    numbers, reader = numbers_and_reader(folder, NATIVE, native_fps=30)
    assert numbers == list(range(12))
    assert (reader.fps, reader.expected) == (30, 12)


def test_images_that_are_skipped_are_not_read(tmp_path):
    folder = write_images(tmp_path, [numbered(k) for k in range(12)])
    (folder / "img_6.png").write_text("no image")
    assert numbers_and_reader(folder, native_fps=30)[0] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]


# One pass, in bounded memory


def test_frames_are_not_kept(tmp_path):
    path = write_video(tmp_path / "a.mp4", 200)
    with open_frames(path, DEFAULT) as reader:
        given, most = [], 0
        for frame in reader:
            given = [ref for ref in given if ref() is not None] + [weakref.ref(frame)]
            most = max(most, len(given))
    assert most <= 3


@pytest.mark.skipif(sys.platform != "linux", reason="counts the process's memory as Linux does")
def test_memory_does_not_grow_with_the_length(tmp_path):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    path = write_video(tmp_path / "a.avi", 120, codec="mjpeg", pix_fmt="yuvj420p", size=(640, 480))
    with open_frames(path, NATIVE) as reader:
        for _, _ in zip(range(20), reader, strict=False):
            early = resident()
        for _ in reader:
            late = resident()
    assert late - early < 12e6  # bytes; the frames together are 26 MB resized, 90 MB before


def test_a_repeated_frame_is_the_same_array(tmp_path):
    with open_frames(write_video(tmp_path / "a.mp4", 2, rate=10), FrameSettings(fps=20)) as reader:
        one, again, other, _ = reader
    assert one is again
    assert one is not other


def test_a_reader_ends_once_and_when_closed(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10)
    with open_frames(path, NATIVE) as reader:
        assert len(list(reader)) == 10
        assert list(reader) == []
    with open_frames(path, NATIVE) as reader:
        next(reader)
        reader.close()
        assert list(reader) == []
        assert reader.tally == Tally(read=1, chosen=1, repeated=0, skipped=0)


def test_two_readers_of_one_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10)
    with open_frames(path, NATIVE) as one, open_frames(path, NATIVE) as other:
        for first, second in zip(one, other, strict=True):
            np.testing.assert_array_equal(first, second)


# What cannot be used


def test_a_broken_tail(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)
    path = write_video(tmp_path / "a.mp4", noise, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-20_000])
    with open_frames(path, DEFAULT) as reader:
        given = len(list(reader))
    assert 30 <= given < 45
    assert reader.tally.chosen == given
    assert reader.expected == 50
    assert "cannot be decoded" in reader.broken


def test_time_stamps_that_jump_by_days(tmp_path):
    path = write_video(tmp_path / "a.mkv", 4, times=[0.0, 0.1, 90_000.0, 90_000.1])
    numbers, reader = numbers_and_reader(path, FrameSettings(fps=10))
    assert numbers == [0, 1]
    assert reader.broken == "its time stamps jump by 90000 s"


@pytest.mark.parametrize(
    "names, settings, wrong, expected",
    [
        bad("empty", [], DEFAULT, "without videos or numbered images", "a video"),
        bad("without a rate", ["1.png"], NATIVE, "no rate", "frames per second"),
    ],
)
def test_folders_in_place_of_files(tmp_path, names, settings, wrong, expected):
    for name in names:
        (tmp_path / name).touch()
    assert_refused(lambda path: open_frames(path, settings), tmp_path, wrong, expected)


@pytest.mark.parametrize("make, reason", [place for place in PLACES if place.id != "folder"])
def test_places_of_videos(make, reason, tmp_path):
    make(tmp_path / "a.mp4")
    assert_refused(lambda path: open_frames(path, DEFAULT), tmp_path / "a.mp4", reason, "a video")


@pytest.mark.parametrize("missing, package", [("av", "PyAV"), ("cv2", "opencv-contrib-python-headless")])
def test_without_the_packages(tmp_path, monkeypatch, missing, package):
    monkeypatch.setitem(sys.modules, missing, None)
    assert_refused(
        lambda path: open_frames(path, DEFAULT),
        tmp_path,
        "not installed",
        "pip install 'case_jax[video]'",
        named=package,
    )


def test_neither_jax_nor_opencv_nor_pyav_is_loaded_with_the_module():
    program = (
        "import sys, case_jax.video.frames, case_jax.video.flow\n"
        "print(sorted({'av', 'cv2', 'jax', 'flax'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


# Real videos


@pytest.mark.slow
def test_counts_of_real_videos_fit_features_of_others(shared_data):
    """Snippets of 16 frames every 8, the last one filled up: the first covers 16, each further one 8 more."""
    falls = shared_data / "falls"
    videos = sorted((falls / "videos").glob("*.mp4"))
    assert len(videos) == 100
    for path in videos[::8]:
        with open_frames(path, NATIVE) as reader:
            frames = sum(1 for _ in reader)
        assert (reader.broken, reader.expected, reader.native_fps) == (None, frames, 30)
        snippets = len(np.load(falls / "i3d_rgb" / f"{path.stem}.npy", mmap_mode="r", allow_pickle=False))
        assert snippets == 1 + math.ceil(max(frames - 16, 0) / 8)
