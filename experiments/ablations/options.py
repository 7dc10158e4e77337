"""Options of the figures."""

from collections.abc import Sequence
from typing import NamedTuple

from case_jax.data.dataset import Dataset
from case_jax.errors import InputError
from experiments.ablations.frames import Frames

__all__ = ["Options"]


class Options(NamedTuple):
    """Options of Figures 5 to 7."""

    videos: tuple[str, ...] = ()  # of Figure 5; if empty, the videos that gain most
    num_videos: int = 2  # of Figure 5, if no video is named
    frames: Frames | None = None  # of Figure 6
    num_points: int = 2000  # of Figure 7

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        videos: Sequence[str],
        num_videos: int,
        frames_dir: str | None,
        frames_rate: float | None,
        num_points: int,
    ) -> "Options":
        """Options from the flags of the same names.

        Raises:
            InputError: if a name is not that of a test video, or a test video has no frames.
        """
        names = [video.name for video in dataset.test.videos]
        for video in videos:
            if video not in names:
                raise InputError(
                    f"--videos: {video!r} is not a test video; expected names such as {names[0]!r}"
                )
        frames = None
        if frames_dir is not None:
            rate = frames_rate or dataset.info.frames_per_second
            frames = Frames(frames_dir, names, frames_per_second=rate)
        return cls(tuple(dict.fromkeys(videos)), num_videos, frames, num_points)
