"""From decoded frames to upright arrays of RGB values."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from case_jax.video.extras import import_extra

__all__ = ["Upright", "converter"]


def converter(*, smooth_chroma: bool = False) -> Callable[[Any], np.ndarray]:
    """A function that converts frames of PyAV; it keeps what frames of one format share.

    The frames' own colour space and range are followed; frames that tell none are taken as standard
    definition, as OpenCV and FFmpeg do.

    Args:
        smooth_chroma: whether colours that are stored at half the resolution are interpolated, as readers of
            images do. Readers of videos repeat them, which is faster.

    Returns:
        A function of an `av.VideoFrame` that gives an upright (h, w, 3) uint8 array of RGB values.
    """
    turn = Upright()
    reformatter = import_extra("av.video.reformatter")
    convert, flags = reformatter.VideoReformatter().reformat, reformatter.Interpolation.BILINEAR
    if smooth_chroma:
        flags |= reformatter.Interpolation.FULL_CHR_H_INT | reformatter.Interpolation.ACCURATE_RND

    def pixels(frame: Any) -> np.ndarray:
        rgb = convert(
            frame,
            format="rgb24",
            interpolation=flags,
            src_color_range=frame.color_range,
            dst_color_range="JPEG",
            threads=1,
        )
        return np.ascontiguousarray(turn(rgb.to_ndarray(), frame))

    return pixels


class Upright:
    """Turns and mirrors images by the display matrix of their frames, to the nearest quarter turn."""

    def __init__(self) -> None:
        self._angle: int | None = None
        self._matrix: tuple[float, ...] | None = None

    def __call__(self, image: np.ndarray, frame: Any) -> np.ndarray:
        """One image as it should be shown.

        Args:
            image: (h, w) or (h, w, 3), as decoded.
            frame: the `av.VideoFrame` that it comes from.

        Returns:
            The image itself, or a view of it.
        """
        # The whole matrix is read only where the angle is new: PyAV ties a frame and the data beside it into
        # a circle, which keeps the frame's memory until Python collects circles.
        if self._angle != frame.rotation:
            self._angle, self._matrix = frame.rotation, _display_matrix(frame)
        if self._matrix is None:
            return image
        # A pixel at (x, y) is shown at (a x + c y, b x + d y), up to a shift.
        a, b, c, d = self._matrix
        turned = abs(b) + abs(c) > abs(a) + abs(d)
        right, down = (c, b) if turned else (a, d)
        image = image.swapaxes(0, 1) if turned else image
        return image[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1]


def _display_matrix(frame: Any) -> tuple[float, ...] | None:
    """The numbers (a, b, c, d) of a frame's display matrix; None if it has none."""
    try:
        beside = [frame.side_data[number] for number in range(len(frame.side_data))]
    except ValueError:
        # PyAV refuses to list all data beside a frame if it knows one kind of it not, such as a photo's EXIF.
        # It still tells the angle, counter-clockwise; mirror images are lost.
        angle = math.radians(frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    for data in beside:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32, count=5).tolist()
            return a, b, c, d
    return None
