"""Folders of numbered images as videos."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from case_jax.data.files import refuse_pipes
from case_jax.errors import InputError
from case_jax.video.extras import import_extra
from case_jax.video.find import numbered_images
from case_jax.video.times import Stamped

__all__ = ["ImageFolder"]

_EXPECTED = "expected a whole .jpg or .png image"
_JPEG = b"\xff\xd8"
_END_OF_JPEG = b"\xff\xd9"
_TRAILING = 4096  # bytes that may follow the end of a JPEG image


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

        Raises:
            InputError: if it is missing or cannot be decoded to its end.
        """
        refuse_pipes(frame, expected=_EXPECTED)
        try:
            content = frame.read_bytes()
        except OSError as error:
            raise InputError(f"{frame}: cannot be read ({error.strerror}); {_EXPECTED}") from None
        cv2 = import_extra("cv2")
        # OpenCV decodes images as the field does, but fills up those that are cut, with a line on stderr.
        cut = content.startswith(_JPEG) and _END_OF_JPEG not in content[-_TRAILING:]
        image = None
        if content and not cut:
            try:
                image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            except cv2.error:  # more pixels than OpenCV decodes
                image = None
        if image is None:
            raise InputError(f"{frame}: cannot be decoded; {_EXPECTED}")
        return np.ascontiguousarray(image[:, :, ::-1])

    def close(self) -> None:
        """Nothing is open."""
