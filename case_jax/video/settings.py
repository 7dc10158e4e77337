"""How frames are chosen and cut."""

import dataclasses
from typing import get_args

from case_jax.data.extraction import Crops, check_fps
from case_jax.errors import InputError

__all__ = ["FrameSettings"]


@dataclasses.dataclass(frozen=True)
class FrameSettings:
    """How frames are chosen from a video and cut; the defaults are DeepMind's recipe for I3D.

    Raises:
        InputError: on construction, if a value is out of its range.
    """

    fps: float | None = 25.0  # frames per second, chosen by time stamp; None: every frame of the file
    side: int = 256  # pixels of the shorter side after resizing
    crop: int = 224  # pixels of the side of the square that is cut out
    crops: Crops = "center"  # ten: corners and centre, and their mirror images

    def __post_init__(self):
        check_fps(self.fps)
        if self.crop < 1:
            raise InputError(f"--crop: has a side of {self.crop} pixels; expected 1 or more")
        if self.side < self.crop:
            raise InputError(f"--side: is {self.side}; expected {self.crop} or more, the side of the crop")
        if self.crops not in get_args(Crops):
            raise InputError(f"--crop: is {self.crops!r}; expected center or ten")
