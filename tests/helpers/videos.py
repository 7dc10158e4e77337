"""Small videos made by code: frames that carry their number, in any container; whole, turned and damaged."""

import struct
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

__all__ = ["number_in", "numbered", "patch_avi_rate", "turn", "write_audio", "write_images", "write_video"]

_BITS = 8
DARK, BRIGHT = 40, 210


def numbered(number: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A frame (h, w, 3) that shows a number below 256 as eight upright bars, dark for 0 and bright for 1."""
    width, height = size
    bits = np.array([BRIGHT if number >> bit & 1 else DARK for bit in range(_BITS)], np.uint8)
    row = bits[np.arange(width) * _BITS // width]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number_in(frame: np.ndarray) -> int:
    """The number that a frame of `numbered` shows, after any coding and resizing."""
    width = frame.shape[1]
    middles = (2 * np.arange(_BITS) + 1) * width // (2 * _BITS)
    bright = frame[frame.shape[0] // 2, middles].mean(-1) > (DARK + BRIGHT) / 2
    return int((bright << np.arange(_BITS)).sum())


def write_video(
    path: Path,
    frames: int | Iterable[np.ndarray] = 30,
    *,
    rate: Fraction | int = 30,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    size: tuple[int, int] = (64, 48),
    audio: bool = False,
    container: str | None = None,
    options: dict[str, str] | None = None,
    colours: dict[str, int] | None = None,
) -> Path:
    """Writes a video.

    Args:
        path: the file, or an object with ``write``.
        frames: how many frames of `numbered`, or the frames themselves, (h, w, 3) uint8 of equal size.
        rate: frames per second that the header tells.
        times: seconds of each frame, to the millisecond, in place of regular ones.
        codec: name of the encoder.
        pix_fmt: format of its pixels.
        size: (width, height) of numbered frames.
        audio: whether a stream of sound comes before that of the frames.
        container: name of the format, by the path's ending if None.
        options: of the container.
        colours: attributes of the encoder, such as ``color_range``.
    """
    if isinstance(frames, int):
        frames = [numbered(number % 256, size) for number in range(frames)]
    frames = list(frames)
    with av.open(path, "w", format=container, options=options or {}) as file:
        sound = file.add_stream("aac", rate=8000) if audio else None
        stream = file.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.thread_count = 1
        for name, value in (colours or {}).items():
            setattr(stream.codec_context, name, value)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound is not None:
            _mux_sound(file, sound, seconds=1)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_audio(path: Path) -> Path:
    """Writes a second of sound without any picture."""
    with av.open(path, "w") as file:
        _mux_sound(file, file.add_stream("aac", rate=8000), seconds=1)
    return path


def _mux_sound(file, stream, seconds: int) -> None:
    for block in range(8 * seconds):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 1000 * block
        file.mux(stream.encode(frame))
    file.mux(stream.encode())


def write_images(
    folder: Path, images: Sequence[np.ndarray], pattern: str = "img_{}.png", first: int = 1
) -> Path:
    """Writes (h, w, 3) RGB images into a folder, numbered by a pattern that the number fills."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=first):
        assert cv2.imwrite(str(folder / pattern.format(number)), image[:, :, ::-1])
    return folder


def turn(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Writes (a, b, c, d) into the display matrix of an .mp4 file.

    A player shows the pixel at (x, y) at (a x + c y, b x + d y); (0, 1, -1, 0) is a quarter turn clockwise,
    as phones that are held upright write it.
    """
    content = bytearray(path.read_bytes())
    a, b, c, d = (65536 * value for value in matrix)
    place = content.index(b"tkhd") + 4 + 4 + 36  # after the box's name, its version and flags, and its fields
    struct.pack_into(">9i", content, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def patch_avi_rate(path: Path, rate: int) -> Path:
    """Writes another number of frames per second, such as 0, into both headers of an .avi file."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.index(b"avih") + 8, 1_000_000 // rate if rate else 0)
    struct.pack_into("<I", content, content.index(b"strh") + 8 + 24, rate)
    path.write_bytes(content)
    return path
