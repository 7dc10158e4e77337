"""Small pictures of moments of a video."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from case_jax.errors import InputError
from case_jax.video.containers import VideoFile, video_stream
from case_jax.video.extras import import_extra
from case_jax.video.find import numbered_images
from case_jax.video.image_folders import ImageFolder
from case_jax.video.times import Stamped, StampError, settle

__all__ = ["thumbnails"]

_LATE = 1e-3  # seconds by which a time stamp may be late, as in `case_jax.video.times`
# Seconds to seek before a time; more where what is found there is later. Some containers seek by the times of
# decoding, which are earlier than those of the frames.
_BACK = (0.0, 5.0, 60.0)
_QUALITY = 80  # of JPEG, in %
_TALLEST = 2  # times the width
_PERIOD = 0.04  # seconds a frame in files that tell no time


def thumbnails(
    path: str | os.PathLike, times: Sequence[float], *, width: int = 160, duration: float | None = None
) -> list[bytes | None]:
    """The frames that a video shows at given times, upright and small.

    The decoder begins at the key frame before each time, so that hours-long videos take no longer than short
    ones. Files without time stamps, or in which one cannot seek, are decoded from their start.

    Args:
        path: a video file, or a folder of numbered images.
        times: seconds from the video's first frame; any order. Times after the end show the last frame.
        width: pixels.
        duration: seconds; needed for a folder of images, which does not tell.

    Returns:
        For each time a JPEG file of that width (narrower only where it would be taller than twice the width),
        or None where no frame can be decoded.

    Raises:
        InputError: if the path is missing or holds no video, or PyAV or OpenCV is not installed.
    """
    if Path(path).is_dir():
        return _of_images(Path(path), times, width, duration)
    with contextlib.closing(VideoFile(path)) as video:
        frames = video.frames()
        first = next(frames)

        def picture(frame: Any) -> bytes:
            return _jpeg(video.pixels(frame), width)

        try:
            if first.time is not None:
                return _sought(Path(path), times, first.time, picture)
        except _CannotSeek:
            pass
        return _in_order(itertools.chain([first], frames), times, picture)


class _CannotSeek(Exception):
    """The file can only be read from its start."""


def _sought(
    path: Path, times: Sequence[float], zero: float, picture: Callable[[Any], bytes]
) -> list[bytes | None]:
    """The pictures at these times; ``zero`` is the time stamp of the first frame."""
    av = import_extra("av")
    with av.open(f"file:{path}", options={"protocol_whitelist": "file"}) as container:
        stream = video_stream(av, container)
        stream.thread_type = "AUTO"
        frames = (_frame_at(av, container, stream, zero + max(time, 0.0), zero) for time in times)
        return [None if frame is None else picture(frame) for frame in frames]


def _frame_at(av: ModuleType, container: Any, stream: Any, stamp: float, zero: float) -> Any:
    """The frame that is shown at a time stamp, in seconds."""
    for place in (*(stamp - back for back in _BACK), zero - _BACK[-1]):
        try:
            container.seek(round(place / stream.time_base), stream=stream)
        except av.FFmpegError:
            raise _CannotSeek from None
        if (frame := _last_until(av, container, stream, stamp)) is not None:
            return frame
    return None


def _last_until(av: ModuleType, container: Any, stream: Any, stamp: float) -> Any:
    """Decodes from here; the last frame whose stamp is at most ``stamp``, None if there is none."""
    last = None
    try:
        for frame in container.decode(stream):
            if frame.time is None:
                continue
            if frame.time > stamp + _LATE:
                break
            last = frame
    except av.FFmpegError:  # damaged from here on
        pass
    return last


def _in_order(
    frames: Iterable[Stamped], times: Sequence[float], picture: Callable[[Any], bytes]
) -> list[bytes | None]:
    """The pictures at these times, from all frames of a file in order."""
    made: list[bytes | None] = [None] * len(times)
    todo = sorted(range(len(times)), key=lambda i: -times[i])
    before = None
    with contextlib.suppress(StampError):
        for timed in settle(frames, _PERIOD):
            while todo and before is not None and times[todo[-1]] + _LATE < timed.time:
                made[todo.pop()] = picture(before)
            if not todo:
                break
            before = timed.frame
    for i in todo:
        made[i] = None if before is None else picture(before)
    return made


def _of_images(
    folder: Path, times: Sequence[float], width: int, duration: float | None
) -> list[bytes | None]:
    if not duration:
        raise InputError(f"{folder}: is a folder of images, which tell no time; expected a duration")
    images = numbered_images(folder)
    source = ImageFolder(folder, len(images) / duration)
    made: list[bytes | None] = []
    for time in times:
        number = int(np.clip((time + _LATE) * len(images) / duration, 0, len(images) - 1))
        try:
            made.append(_jpeg(source.pixels(images[number]), width))
        except InputError:  # this image is damaged
            made.append(None)
    return made


def _jpeg(image: np.ndarray, width: int) -> bytes:
    """An RGB image of uint8 as a JPEG file; one that is tall is less wide, too."""
    cv2 = import_extra("cv2")
    scale = min(width / image.shape[1], _TALLEST * width / image.shape[0])
    size = tuple(max(1, round(scale * side)) for side in (image.shape[1], image.shape[0]))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    written, content = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert written
    return content.tobytes()
