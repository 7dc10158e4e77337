"""Optical flow between consecutive frames, as the field's I3D features had it (extra `video`)."""

from collections.abc import Callable, Iterable, Iterator
from typing import get_args

import numpy as np

from case_jax.data.extraction import FlowMethod
from case_jax.errors import InputError
from case_jax.video.extras import import_extra

__all__ = ["flow_of", "make_flow"]

_LIMIT = 20.0  # pixels


def make_flow(method: FlowMethod) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """A function that gives the flow from one frame to the next.

    TV-L1 is DeepMind's choice (Zach, Pock and Bischof 2007), with the parameters of OpenCV's
    ``DualTVL1OpticalFlow_create``: tau 0.25, lambda 0.15, theta 0.3, 5 scales of step 0.8, 5 warps, epsilon
    0.01, 10 outer and 30 inner iterations, gamma 0, median filter 5. "dis" is OpenCV's dense inverse search
    (Kroeger et al. 2016) at its medium preset: a hundred times as fast, and with another distribution.

    Args:
        method: "tvl1" or "dis".

    Returns:
        A function of two (h, w) uint8 grey images that gives (h, w, 2) float32: the motion to the right and
        down in pixels, clipped to [-20, 20] and divided by 20, so within [-1, 1]. It holds buffers: each
        thread needs its own.

    Raises:
        InputError: for another method, or if OpenCV with its contributed modules is not installed.
    """
    if method not in get_args(FlowMethod):
        raise InputError(f"--flow: is {method!r}; expected one of {', '.join(get_args(FlowMethod))}")
    cv2 = import_extra("cv2")
    if method == "dis":
        calculator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    else:
        calculator = import_extra("cv2.optflow").DualTVL1OpticalFlow_create()

    def flow(grey: np.ndarray, grey_after: np.ndarray) -> np.ndarray:
        pixels = calculator.calc(grey, grey_after, None)
        return np.clip(pixels, -_LIMIT, _LIMIT) / np.float32(_LIMIT)

    return flow


def flow_of(frames: Iterable[np.ndarray], method: FlowMethod) -> Iterator[np.ndarray]:
    """The flow from each frame to the next, as many as there are frames.

    Flow k is the motion from frame k to frame k + 1. The last frame has none after it: its flow is that of
    the frame before it once more (0 for a video of one frame). So snippets of both streams cover the same
    frames. The field's flows of n frames are the first n - 1 of these.

    Args:
        frames: (h, w, 3) uint8 RGB, resized and not cropped. Two frames in a row that are one array, or
            equal, have flow 0.
        method: see `make_flow`.

    Yields:
        (h, w, 2) float32 in [-1, 1], see `make_flow`.

    Raises:
        InputError: see `make_flow`; at once, not with the first flow.
    """
    return _flows(frames, make_flow(method))


def _flows(
    frames: Iterable[np.ndarray], flow: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Iterator[np.ndarray]:
    cv2 = import_extra("cv2")
    frames = iter(frames)
    before = next(frames, None)
    if before is None:
        return
    grey_before = cv2.cvtColor(before, cv2.COLOR_RGB2GRAY)
    last = still = np.zeros((*grey_before.shape, 2), np.float32)
    for frame in frames:
        if frame is before or np.array_equal(frame, before):
            last = still
        else:
            grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
            last = flow(grey_before, grey)
            before, grey_before = frame, grey
        yield last
    yield last
