"""Video files: every container, pixels and their orientation, damage and what is no video."""

import io
import itertools
import os
import zlib

import av
import cv2
import numpy as np
import pytest

from case_jax.errors import InputError
from case_jax.video.containers import VideoFile
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_refused, bad, refusal
from tests.helpers.videos import (
    number_in,
    numbered,
    patch_avi_rate,
    turn,
    write_audio,
    write_video,
)

VIDEO = "a video"


def read(path):
    """The numbers that the frames show, and the file."""
    file = VideoFile(path)
    numbers = [number_in(file.pixels(each.frame)) for each in file.frames()]
    file.close()
    return numbers, file


# Containers and codecs

KINDS = [
    ("mp4", "libx264", "yuv420p"),
    ("mp4", "libx264", "yuv444p"),
    ("mov", "mpeg4", "yuv420p"),
    ("mkv", "ffv1", "yuv420p10le"),
    ("mkv", "mjpeg", "yuvj420p"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("avi", "mpeg4", "yuv420p"),
    ("ts", "mpeg2video", "yuv420p"),
    ("mpg", "mpeg1video", "yuv420p"),
    ("flv", "flv1", "yuv420p"),
    ("wmv", "wmv2", "yuv420p"),
    ("3gp", "mpeg4", "yuv420p"),
    ("gif", "gif", "rgb8"),
    ("h264", "libx264", "yuv420p"),
]


@pytest.mark.parametrize("ending, codec, pix_fmt", KINDS)
def test_containers_and_codecs(tmp_path, ending, codec, pix_fmt):
    path = write_video(tmp_path / f"a.{ending}", 20, codec=codec, pix_fmt=pix_fmt)
    numbers, file = read(path)
    assert numbers == list(range(20))
    assert (file.width, file.height, file.broken) == (64, 48, None)
    assert abs(file.native_fps - 30) < (4 if ending == "gif" else 0.01)  # GIFs count hundredths of a second
    assert file.start == pytest.approx(0, abs=1e-5)


def test_sound_before_the_picture(tmp_path):
    numbers, file = read(write_video(tmp_path / "a.mp4", 20, audio=True))
    assert numbers == list(range(20))
    assert file.duration == pytest.approx(20 / 30)  # the sound is longer


class Pipe(io.RawIOBase):
    """A file that cannot be sought in: what a header tells is written before it is known."""

    def __init__(self):
        self.content = b""

    def writable(self):
        return True

    def write(self, data):
        self.content += bytes(data)
        return len(data)


def test_no_duration_in_the_header(tmp_path):
    pipe = Pipe()
    write_video(pipe, 20, container="matroska")
    (tmp_path / "a.mkv").write_bytes(pipe.content)
    numbers, file = read(tmp_path / "a.mkv")
    assert numbers == list(range(20))
    assert (file.duration, file.num_frames, file.broken) == (None, None, None)


def test_no_rate_in_the_header(tmp_path):
    """FFmpeg takes such an .avi file to have 25 frames per second."""
    numbers, file = read(patch_avi_rate(write_video(tmp_path / "a.avi", 20, codec="mpeg4"), 0))
    assert numbers == list(range(20))
    assert (file.native_fps, file.broken) == (25, None)


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_varying_rates_and_a_late_start(tmp_path, ending):
    times = [5.0, 5.1, 5.5, 5.52, 7.0]
    file = VideoFile(write_video(tmp_path / f"a.{ending}", 5, times=times))
    assert [each.time - 5 for each in file.frames()] == pytest.approx([0, 0.1, 0.5, 0.52, 2.0])
    assert file.broken is None
    assert file.duration < 3


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_a_picture_that_begins_after_the_sound(tmp_path, ending):
    path = write_video(tmp_path / f"a.{ending}", 4, times=[0.5, 0.6, 0.7, 0.8], audio=True)
    numbers, file = read(path)
    assert numbers == [0, 1, 2, 3]
    assert file.start == pytest.approx(0.5)
    assert file.broken is None


def test_one_frame(tmp_path):
    numbers, file = read(write_video(tmp_path / "a.mp4", 1))
    assert numbers == [0]
    assert file.num_frames == 1


# Pixels


def corners():
    """A frame whose corners are red, green (right), blue (below) and white."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:16, :24, 0] = image[:16, 24:, 1] = image[16:, :24, 2] = 255
    image[16:, 24:] = 255
    return image


@pytest.mark.parametrize(
    "matrix, shown",
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a phone held upright
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).swapaxes(0, 1)),
    ],
)
def test_frames_are_turned_upright(tmp_path, matrix, shown):
    path = turn(write_video(tmp_path / "a.mp4", [corners()] * 2, pix_fmt="yuv444p"), matrix)
    file = VideoFile(path)
    first = file.pixels(next(file.frames()).frame)
    expected = shown(corners())
    assert (file.height, file.width) == first.shape[:2] == expected.shape[:2]
    assert np.abs(first - expected.astype(int)).mean() < 12
    assert first.flags["C_CONTIGUOUS"]


def texture(size=(96, 64)):
    small = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)


def opencv(path, first=100):
    """Frames as OpenCV reads them, RGB."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while len(frames) < first and (got := capture.read())[0]:
        frames.append(got[1][:, :, ::-1])
    return np.array(frames)


def pixels(path, first=100):
    file = VideoFile(path)
    return np.array([file.pixels(each.frame) for each in itertools.islice(file.frames(), first)])


def test_values_are_those_of_opencv(tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.roll(texture(), 4 * k, axis=1) for k in range(5)])
    np.testing.assert_array_equal(pixels(path), opencv(path))


def test_real_values_are_those_of_opencv(shared_data):
    path = shared_data / "falls/videos/fall-01-cam0.mp4"
    np.testing.assert_array_equal(pixels(path, first=20), opencv(path, first=20))


def test_deepminds_clip_is_exact(shared_data):
    golden = np.load(shared_data / "i3d/golden.npz", allow_pickle=False)
    frames = pixels(shared_data / "i3d/cricket.gif")
    assert len(frames) == 79
    np.testing.assert_array_equal(frames[:64].sum(axis=(1, 2, 3)), golden["frame_sums"])
    np.testing.assert_allclose(frames[0].mean(axis=(0, 1)), golden["first_frame_mean"])


@pytest.mark.parametrize("colorspace", [1, 5])  # BT.709 (high definition), BT.601
@pytest.mark.parametrize("color_range", [1, 2])  # 16 to 235, 0 to 255
def test_colour_spaces_and_ranges_are_followed(tmp_path, colorspace, color_range):
    """Values of luma and chroma by the standards' formulas, written unchanged, come back as RGB."""
    red, green, blue = rgb = np.array([200.0, 60.0, 90.0])
    of_red, of_blue = {1: (0.2126, 0.0722), 5: (0.299, 0.114)}[colorspace]
    luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    chroma = (blue - luma) / (2 - 2 * of_blue), (red - luma) / (2 - 2 * of_red)
    if color_range == 1:
        planes = [16 + luma * 219 / 255, *(128 + c * 224 / 255 for c in chroma)]
    else:
        planes = [luma, *(128 + c for c in chroma)]
    image = np.empty((3, 32, 48), np.uint8)
    image[:] = np.round(planes)[:, None, None]
    with av.open(tmp_path / "a.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, color_range
        frame = av.VideoFrame.from_ndarray(image, format="yuv444p")
        frame.colorspace, frame.color_range = colorspace, color_range
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    np.testing.assert_allclose(pixels(tmp_path / "a.mkv")[0, 16, 24], rgb, atol=2)


@pytest.mark.parametrize("codec, ending", [("ffv1", "mkv"), ("mjpeg", "avi"), ("libx264", "mp4")])
def test_odd_sizes(tmp_path, codec, ending):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv444p"
    path = write_video(tmp_path / f"a.{ending}", 3, codec=codec, pix_fmt=pix_fmt, size=(321, 241))
    numbers, file = read(path)
    assert numbers == [0, 1, 2]
    assert (file.width, file.height) == (321, 241)


def test_8k(tmp_path):
    path = write_video(tmp_path / "a.avi", 1, codec="mjpeg", pix_fmt="yuvj420p", size=(7680, 4320))
    numbers, file = read(path)
    assert numbers == [0]
    assert (file.width, file.height) == (7680, 4320)


# Damage


def cut(path, share=0.6):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.fixture
def noise():
    """Frames that take many bytes, so that a cut lies among them."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(60)]


@pytest.mark.parametrize(
    "ending, codec, options, told",
    [
        ("mp4", "libx264", {"movflags": "faststart"}, "1 of its packets cannot be decoded (the first after"),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}, "1 of its packets cannot be decoded"),
        ("flv", "libx264", {}, "1 of its packets cannot be decoded"),
        ("mkv", "libx264", {}, "it ends after 1.17 s of 2.00 s"),
        ("webm", "libvpx-vp9", {}, "it ends after 1."),
        ("avi", "mpeg4", {}, "1 of its frames came out damaged"),
        ("ts", "libx264", {}, "1 of its frames came out damaged"),
    ],
)
def test_a_broken_tail_is_told_and_what_lies_before_it_is_used(
    tmp_path, capfd, noise, ending, codec, options, told
):
    path = write_video(tmp_path / f"a.{ending}", noise, codec=codec, options=options)
    whole = pixels(path)
    file = VideoFile(cut(path))
    assert file.broken is None  # nobody knows yet
    frames = np.array([file.pixels(each.frame) for each in file.frames()])
    assert told in file.broken
    assert 25 <= len(frames) <= 40
    np.testing.assert_array_equal(frames[:-2], whole[: len(frames) - 2])
    assert capfd.readouterr() == ("", "")


def test_damage_in_the_middle_is_told_and_passed_over(tmp_path, capfd, noise):
    path = write_video(tmp_path / "a.avi", noise, codec="mjpeg", pix_fmt="yuvj420p")
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xd8", len(content) // 2)
    content[start : start + 600] = bytes(600)
    path.write_bytes(content)
    file = VideoFile(path)
    frames = list(file.frames())
    assert 58 <= len(frames) < 60
    assert "cannot be decoded" in file.broken
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("ending, codec, pix_fmt", KINDS)
def test_files_cut_or_changed_anywhere_are_read_or_refused(tmp_path, capfd, ending, codec, pix_fmt):
    path = write_video(tmp_path / f"a.{ending}", 10, codec=codec, pix_fmt=pix_fmt)
    whole, rng = path.read_bytes(), np.random.default_rng(zlib.crc32(ending.encode()))
    for trial in range(200):
        content = bytearray(whole)
        if trial % 2:
            content = content[: rng.integers(len(whole))]
        for place in rng.integers(len(content) or 1, size=trial % 7) if content else ():
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            file = VideoFile(path)
            for each in file.frames():
                assert file.pixels(each.frame).ndim == 3
        except InputError:
            refusal(VideoFile, path)
    assert capfd.readouterr() == ("", "")


# What is no video


def text(path):
    path.write_text("These are words.\n" * 100)


def playlist(path):
    path.write_text("#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\nhttp://localhost:1/a.ts\n#EXT-X-ENDLIST\n")


def list_of_files(path):
    write_video(path.with_name("other.mp4"), 2)
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")


def image(path):
    cv2.imwrite(str(path.with_suffix(".png")), numbered(1))
    path.with_suffix(".png").rename(path)


def moov_at_the_end(path):
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), dtype=np.uint8)
    cut(write_video(path, frames))


def headers_only(path):
    content = write_video(path, 30, options={"movflags": "faststart"}).read_bytes()
    path.write_bytes(content[: content.index(b"mdat") + 8])


def other_bytes(path):
    path.write_bytes(np.random.default_rng(0).bytes(50_000))


def music_with_a_cover(path):
    sound = io.BytesIO()
    with av.open(sound, "w", format="mp3") as file:
        stream = file.add_stream("libmp3lame", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    cover = cv2.imencode(".png", numbered(1))[1].tobytes()
    body = b"\0image/png\0\3\0" + cover
    frame = b"APIC" + len(body).to_bytes(4, "big") + b"\0\0" + body
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + size + frame + sound.getvalue())


@pytest.mark.parametrize(
    "make, wrong",
    [
        bad("nothing in it", lambda path: path.touch(), "cannot be opened"),
        bad("text", text, "cannot be opened"),
        bad("random bytes", other_bytes, "cannot be opened"),
        bad("its index is cut off", moov_at_the_end, "cannot be opened (Invalid data"),
        bad("its frames are cut off", headers_only, "no frame can be decoded"),
        bad("sound alone", write_audio, "has no video in it, only audio"),
        bad("music with a cover", music_with_a_cover, "has no video in it, only audio"),
        bad("a playlist", playlist, "cannot be opened"),
        bad("a list of files", list_of_files, "format concat"),
        bad("an image", image, "format png_pipe"),
        bad("a pipe", os.mkfifo, "pipe"),
    ],
)
def test_what_is_no_video(tmp_path, capfd, make, wrong):
    path = tmp_path / "a.mp4"
    make(path)
    assert_refused(VideoFile, path, wrong, VIDEO)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("ending", ["txt", "nfo", "srt", "m3u8", "json", "npy", "yuv", "bmp", "gif"])
def test_text_of_any_ending(tmp_path, capfd, ending):
    """FFmpeg draws some kinds of text as pictures, and takes others for lists of files."""
    path = tmp_path / f"a.{ending}"
    path.write_text("1\n00:00:01,000 --> 00:00:02,000\nThese are words.\n\n" * 20)
    assert_refused(VideoFile, path, "", VIDEO)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("make, reason", PLACES)
def test_places_of_videos(make, reason, tmp_path):
    make(tmp_path / "a.mp4")
    assert_refused(VideoFile, tmp_path / "a.mp4", reason.replace("Is a directory", "is a folder"), VIDEO)


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "http:a.mp4", "a%03d.mp4", "a|b.mp4", "ä ö.mp4", "a\nb.mp4", "-i.mp4"]
)
def test_names_are_only_names(tmp_path, monkeypatch, name):
    write_video(tmp_path / "a.mp4", 2).rename(tmp_path / name)
    assert read(tmp_path / name)[0] == [0, 1]
    monkeypatch.chdir(tmp_path)
    assert read(name)[0] == [0, 1]


def test_names_that_are_not_text(tmp_path):
    write_video(tmp_path / "a.mp4", 2)
    name = os.path.join(os.fsencode(tmp_path), b"\xff.mp4")
    os.rename(tmp_path / "a.mp4", name)
    assert read(os.fsdecode(name))[0] == [0, 1]
