"""Frames of videos as pictures in folders, for Figure 6."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from case_jax.data.names import is_hidden
from case_jax.errors import InputError

__all__ = ["Frames"]

_WIDTH = 160  # of a frame in the figure, pixels
_ENDINGS = (".jpg", ".jpeg", ".png")


class Frames:
    """Frames of videos: <folder>/<video>/<name with a number>.jpg or .png."""

    def __init__(self, folder: str, videos: Sequence[str], *, frames_per_second: float):
        """Lists the pictures; a picture is read only when it is needed.

        Args:
            folder: holds one folder per video.
            videos: names of the videos, whose folders must exist.
            frames_per_second: rate of the pictures. The picture with the lowest number is at second 0.

        Raises:
            InputError: if a video's folder is missing or holds no picture.
        """
        self._rate = frames_per_second
        root = Path(folder)
        if not root.is_dir():
            raise InputError(
                f"--frames_dir: {root}: no such folder; expected one folder of frames per test video"
            )
        self._paths = {video: _pictures(root, video) for video in videos}

    def at(self, video: str, second: float) -> np.ndarray:
        """The picture at a second; the last picture beyond the end.

        Args:
            video: name of the video.
            second: time in seconds from the start.

        Returns:
            (height, width, 3) uint8, at most 160 pixels high and wide.

        Raises:
            InputError: if the picture cannot be read.
        """
        from PIL import Image  # comes with matplotlib

        paths = self._paths[video]
        path = paths[min(int(second * self._rate), len(paths) - 1)]
        try:
            with Image.open(path) as image:
                image.thumbnail((_WIDTH, _WIDTH))
                return np.asarray(image.convert("RGB"))
        except Exception as error:  # decoders raise nearly any exception on a damaged picture
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: cannot be read ({reason}); expected a picture") from None


def _pictures(root: Path, video: str) -> list[Path]:
    """A video's pictures by the last number in their names; pictures without a number are left out."""
    listed = (path for path in root.glob(f"{_literal(video)}/*") if not is_hidden(path.name))
    paths = [path for path in listed if path.suffix.lower() in _ENDINGS]
    numbered = [(int(re.findall(r"\d+", p.stem)[-1]), p) for p in paths if re.search(r"\d", p.stem)]
    if not numbered:
        raise InputError(
            f"--frames_dir: {root / video}: holds no frames; expected pictures with numbers in their "
            "names, as in img_00001.jpg"
        )
    return [path for _, path in sorted(numbered)]


def _literal(name: str) -> str:
    """A pattern that matches only the name itself."""
    return re.sub(r"([\[\]*?])", r"[\1]", name)
