"""Which videos browsers play, and copies that they play of those that they do not."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from case_jax.data.files import writing
from case_jax.video.containers import VideoFile, video_stream
from case_jax.video.extras import import_extra
from case_jax.video.find import numbered_images
from case_jax.video.frames import FrameReader, FrameSettings, open_frames
from case_jax.video.resize import resize

__all__ = ["Coding", "coding_of", "write_playable"]

_PIXELS = ("yuv420p", "yuvj420p")  # 8 bits; others are played by few browsers
_PLAYED = {"mp4": ("h264", "vp9", "av1"), "webm": ("vp8", "vp9", "av1")}  # codecs by container
_SIDE = 480  # pixels of the shorter side of a copy, at most
_KEY_FRAMES = 50  # frames from one to the next, at most
_SETTINGS = FrameSettings(fps=25.0)
_ENCODERS = (("libx264", {"preset": "veryfast", "crf": "23"}), ("libvpx-vp9", {"deadline": "realtime"}))


class Coding(NamedTuple):
    """How a video is stored, in FFmpeg's words."""

    container: str  # as in "mp4", "avi"; "images" for a folder
    codec: str  # as in "h264"
    pixels: str  # as in "yuv420p"

    @property
    def played(self) -> bool:
        """Whether all common browsers play it and can go to any of its times."""
        return self.codec in _PLAYED.get(self.container, ()) and self.pixels in _PIXELS

    def __str__(self) -> str:
        return "images" if self.container == "images" else f"{self.codec} ({self.pixels}) in {self.container}"


def coding_of(path: str | os.PathLike) -> Coding:
    """How a video file, or a folder of numbered images, is stored.

    Raises:
        InputError: if it is missing or holds no video, or PyAV is not installed.
    """
    if Path(path).is_dir():
        return Coding("images", "", "")
    with contextlib.closing(VideoFile(path)):  # says clearly what is wrong, if anything is
        pass
    av = import_extra("av")
    with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as file:
        stream = video_stream(av, file)
        names = file.format.name.split(",")
        container = "mp4" if "mp4" in names else names[0]
        if "webm" in names and Path(path).suffix.lower() == ".webm":
            container = "webm"
        return Coding(container, stream.codec_context.name, stream.codec_context.pix_fmt or "unknown")


def write_playable(
    path: str | os.PathLike, output: str | os.PathLike, *, duration: float | None = None
) -> None:
    """Writes an .mp4 copy that browsers play: H.264, upright, 25 frames per second, without sound.

    Time 0 is that of the first frame. The shorter side has at most 480 pixels. There is a key frame at least
    every two seconds, so that going to a time is quick.

    Args:
        path: a video file, or a folder of numbered images.
        output: the file to write; never there in part.
        duration: seconds; needed for a folder of images, which does not tell.

    Raises:
        InputError: if the path is missing or holds no video, the copy cannot be written, or a package is not
            installed.
    """
    path, output = Path(path), Path(output)
    native_fps = len(numbered_images(path)) / duration if path.is_dir() and duration else None
    with open_frames(path, _SETTINGS, native_fps=native_fps) as reader:
        side = min(_SIDE, reader.width, reader.height)
    with open_frames(path, _SETTINGS, size=side, native_fps=native_fps) as reader, writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=".copy.") as folder:
            beside = Path(folder, "copy.mp4")
            _encode(reader, beside)
            os.replace(beside, output)


def _encode(reader: FrameReader, output: Path) -> None:
    av = import_extra("av")
    encoder, options = next(one for one in _ENCODERS if one[0] in av.codecs_available)
    width, height = (max(2, side // 2 * 2) for side in reader.size)  # what 4:2:0 needs
    with av.open(f"file:{output}", "w", format="mp4", options={"movflags": "faststart"}) as file:
        stream = file.add_stream(encoder, rate=round(reader.fps), options={**options, "g": str(_KEY_FRAMES)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in reader:
            frame = av.VideoFrame.from_ndarray(resize(image, (width, height)), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
