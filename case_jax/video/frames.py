"""From a video of any kind to frames at regular times: decoded one by one, upright and resized."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from case_jax.errors import InputError
from case_jax.video.containers import VideoFile
from case_jax.video.extras import import_extra
from case_jax.video.find import find_videos
from case_jax.video.image_folders import ImageFolder
from case_jax.video.resize import crop_frames, resize, size_of
from case_jax.video.settings import FrameSettings
from case_jax.video.times import StampError, Timed, choose, number_of_times, settle

__all__ = ["FrameReader", "FrameSettings", "Tally", "crop_frames", "find_videos", "open_frames"]

_DEFAULT_FPS = 25.0  # for time stamps that nothing else tells


class Tally(NamedTuple):
    """How many frames a video had and gave."""

    read: int  # frames decoded
    chosen: int  # frames given
    repeated: int  # of those given, the ones that are the frame before once more
    skipped: int  # frames decoded that were never given


class FrameReader:
    """The frames of one video; made by `open_frames`. A context manager, and an iterator that ends once.

    Each frame is an upright (h, w, 3) uint8 array of RGB values, resized and not yet cropped, because
    optical flow is computed before the crop. A repeated frame is the same array again.
    """

    path: Path
    fps: float  # frames per second that are given
    native_fps: float | None  # frames per second of the video, on average; None if unknown
    duration: float | None  # seconds, by the header; None if unknown
    start: float  # seconds from the start of the file, audio included, to the first frame
    width: int  # pixels of the upright video, before resizing
    height: int  # pixels of the upright video, before resizing
    size: tuple[int, int]  # (width, height) in pixels of the frames that are given
    expected: int | None  # how many frames will be given, by the header; None if unknown

    def __init__(self, path: Path, source: VideoFile | ImageFolder, settings: FrameSettings, side: int):
        self.path, self._source = path, source
        self.native_fps, self.duration, self.start = source.native_fps, source.duration, source.start
        self.width, self.height = source.width, source.height
        self.size = size_of(source.width, source.height, side)
        self.fps = settings.fps or source.native_fps or _DEFAULT_FPS
        self.expected = _expected(source, settings.fps)
        self._read = self._chosen = self._used = 0
        self._stopped: str | None = None
        self._frames = self._chosen_frames(settings.fps)

    @property
    def tally(self) -> Tally:
        """The counts so far; final when the iteration has ended."""
        return Tally(self._read, self._chosen, self._chosen - self._used, self._read - self._used)

    @property
    def broken(self) -> str | None:
        """What could not be decoded, None if all could; final when the iteration has ended."""
        return self._stopped or self._source.broken

    def __enter__(self) -> "FrameReader":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        return next(self._frames)

    def close(self) -> None:
        """Closes the file; no more frames are given."""
        self._frames.close()
        self._source.close()

    def _chosen_frames(self, fps: float | None) -> Generator[np.ndarray, None, None]:
        timed = self._timed()
        for frame, times in choose(timed, fps) if fps else ((each.frame, 1) for each in timed):
            self._read += 1
            self._used += times > 0
            if times:
                image = resize(self._source.pixels(frame), self.size)
                for _ in range(times):
                    self._chosen += 1
                    yield image

    def _timed(self) -> Iterator[Timed]:
        """Frames up to the place from which on their time stamps make no sense."""
        try:
            yield from settle(self._source.frames(), 1 / (self.native_fps or _DEFAULT_FPS))
        except StampError as error:
            self._stopped = str(error)


def open_frames(
    path: str | os.PathLike,
    settings: FrameSettings,
    *,
    size: int | None = None,
    native_fps: float | None = None,
) -> FrameReader:
    """Opens a video for one pass over its frames, in memory that does not grow with its length.

    Reads any container and codec that PyAV knows, animated GIFs, and folders of numbered images. Frames are
    turned upright by the rotation that the file tells. They are chosen by their time stamps, see
    `case_jax.video.times.choose`; time 0 is that of the first frame. They are resized with
    `case_jax.video.resize.resize` to the size of `case_jax.video.resize.size_of`. Pixels are taken to be
    square. Frames that change their size within a video all get the size for the first.

    Args:
        path: a video file, or a folder of numbered images.
        settings: the rate of the frames and the shorter side.
        size: pixels of the shorter side in place of ``settings.side``, for example for thumbnails.
        native_fps: images per second of a folder of images; default ``settings.fps``, each image once.

    Returns:
        The reader, to be closed or used in a ``with`` statement.

    Raises:
        InputError: if the path is missing or no video, no frame of it can be decoded, a folder of images
            comes without a rate, or PyAV or OpenCV are not installed. A file that can be decoded up to some
            place only is no error: see ``FrameReader.broken``.
    """
    path = Path(path)
    import_extra("cv2")
    source: VideoFile | ImageFolder
    if path.is_dir():
        fps = native_fps or settings.fps
        if fps is None:
            raise InputError(f"{path}: is a folder of images, which tell no rate; expected frames per second")
        source = ImageFolder(path, fps)
    else:
        source = VideoFile(path)
    return FrameReader(path, source, settings, size or settings.side)


def _expected(source: VideoFile | ImageFolder, fps: float | None) -> int | None:
    if fps:
        return number_of_times(source.duration, fps) if source.duration else None
    if source.num_frames or not (source.duration and source.native_fps):
        return source.num_frames
    return round(source.duration * source.native_fps)
