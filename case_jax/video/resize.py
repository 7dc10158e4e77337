"""Sizes of frames: the shorter side, and crops."""

from collections.abc import Sequence

import numpy as np

from case_jax.video.extras import import_extra
from case_jax.video.settings import FrameSettings

__all__ = ["crop_frames", "resize", "size_of"]


def size_of(width: int, height: int, side: int) -> tuple[int, int]:
    """The size at which the shorter side is ``side``; the other keeps the shape, to the nearest pixel.

    Args:
        width: pixels.
        height: pixels.
        side: pixels of the shorter side.

    Returns:
        (width, height) in pixels.

    Example:
        >>> size_of(320, 240, side=256), size_of(1080, 1920, side=256)
        ((341, 256), (256, 455))
    """
    shorter = min(width, height)
    return (2 * width * side + shorter) // (2 * shorter), (2 * height * side + shorter) // (2 * shorter)


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear interpolation without smoothing, as OpenCV's INTER_LINEAR; what the field's features had.

    Args:
        image: (h, w, 3) uint8.
        size: (width, height) in pixels.

    Returns:
        (height, width, 3) uint8; ``image`` itself if it has that size.
    """
    if image.shape[1::-1] == size:
        return image
    cv2 = import_extra("cv2")
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def crop_frames(frames: np.ndarray | Sequence[np.ndarray], settings: FrameSettings) -> np.ndarray:
    """Cuts the same square or squares out of all frames.

    Args:
        frames: (T, h, w, C), or T arrays (h, w, C), of any dtype. Two channels are taken for optical flow:
            in a mirror image its first channel, the motion to the right, changes its sign.
        settings: ``crop`` is the square's side in pixels, ``crops`` which squares.

    Returns:
        (crops, T, crop, crop, C) in the same dtype. One crop: the centre. Ten: top left, top right, bottom
        left, bottom right, centre, and the mirror images of these five in the same order.

    Raises:
        ValueError: if a frame is smaller than the crop.
    """
    frames = np.asarray(frames)
    side = settings.crop
    bottom, right = frames.shape[1] - side, frames.shape[2] - side
    if bottom < 0 or right < 0:
        raise ValueError(f"frames of {frames.shape[2]} x {frames.shape[1]} pixels have no crop of {side}")
    places = [(bottom // 2, right // 2)]
    if settings.crops == "ten":
        places = [(0, 0), (0, right), (bottom, 0), (bottom, right), *places]
    cut = np.stack([frames[:, y : y + side, x : x + side] for y, x in places])
    if settings.crops == "center":
        return cut
    mirrored = cut[:, :, :, ::-1]
    if frames.shape[-1] == 2:
        mirrored = mirrored * np.array([-1, 1], frames.dtype)
    return np.concatenate([cut, mirrored])
