"""Folders of numbered images as videos."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from case_jax.data.files import refuse_pipes
from case_jax.errors import InputError
from case_jax.video.extras import import_extra
from case_jax.video.find import numbered_images
from case_jax.video.pixels import converter
from case_jax.video.times import Stamped

__all__ = ["ImageFolder"]

_EXPECTED = "expected a whole .jpg or .png image"
_FORMATS = ("jpeg_pipe", "mjpeg", "png_pipe")


class ImageFolder:
    """Numbered images, at a given rate; has the attributes of `case_jax.video.containers.VideoFile`."""

    def __init__(self, path: str | os.PathLike, fps: float):
        """Lists the images and decodes the first.

        Args:
            path: the folder; see `case_jax.video.find.numbered_images`.
            fps: images per second.

        Raises:
            InputError: if there are no images, they are of several series, or the first
                 cannot be decoded.
        """
        self._av, self._convert = import_extra("av"), converter(smooth_chroma=True)
        self._images = numbered_images(path)
        self._fps = fps
        self.native_fps: float | None = fps
        self.num_frames: int | None = len(self._images)
        self.duration: float | None = len(self._images) / fps
        self.start = 0.0
        self.broken: str | None = None
        self.height, self.width = self.pixels(self._images[0]).shape[:2]

    def frames(self) -> Iterator[Stamped]:
        """The paths of the images with their times."""
        period = 1 / self._fps
        return (Stamped(k * period, period, path) for k, path in enumerate(self._images))

    def pixels(self, frame: Path) -> np.ndarray:
        """One image as an upright (height, width, 3) uint8 array of RGB values.

        Of a JPEG they are within a few units of what OpenCV reads.

        Raises:
            InputError: if it is missing or cannot be decoded to its end.
        """
        refuse_pipes(frame, expected=_EXPECTED)
        try:
            content = frame.read_bytes()
        except OSError as error:
            raise InputError(f"{frame}: cannot be read ({error.strerror}); {_EXPECTED}") from None
        try:
            with self._av.open(io.BytesIO(content)) as file:
                file.streams.video[0].codec_context.options = {"err_detect": "explode+crccheck"}
                if file.format.name in _FORMATS:
                    return self._convert(next(file.decode(video=0)))
        except (self._av.FFmpegError, OSError, ValueError, LookupError, StopIteration):
            pass
        raise InputError(f"{frame}: cannot be decoded to its end; {_EXPECTED}")

    def close(self) -> None:
        """Nothing is open."""
