"""From a video to the clips that the network sees, one snippet after the other. No JAX: workers run it."""

import collections
import itertools
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from case_jax.data.extraction import ExtractedVideo, Extraction
from case_jax.errors import InputError
from case_jax.video.flow import flow_of
from case_jax.video.frames import FrameReader, FrameSettings, crop_frames, open_frames

__all__ = ["Clip", "VideoClips", "identity_of"]

# Stream -> (crops, frames, crop, crop, channels): rgb uint8, flow float32 within [-1, 1].
Clip = dict[str, np.ndarray]


class VideoClips:
    """The clips of one video, in order; an iterator that ends once.

    Few frames are held at a time, however long the video is.

    Example:
        >>> clips = VideoClips("match.mp4", extraction)  # doctest: +SKIP
        >>> for clip in clips:  # doctest: +SKIP
        ...     clip["rgb"].shape
        (1, 16, 224, 224, 3)
        >>> clips.video.seconds  # doctest: +SKIP
        61.2
    """

    def __init__(self, path: str | os.PathLike, extraction: Extraction):
        """Takes a video; nothing is read yet.

        Args:
            path: a video file, a GIF or a folder of numbered images.
            extraction: how to choose and cut its frames.
        """
        self.path = Path(path)
        self._extraction = extraction
        self._settings = FrameSettings(
            fps=extraction.fps, side=extraction.side, crop=extraction.crop, crops=extraction.crops
        )
        self._video: ExtractedVideo | None = None

    @property
    def video(self) -> ExtractedVideo:
        """What is known of the video; raises a RuntimeError before the iteration has ended."""
        if self._video is None:
            raise RuntimeError("the clips have not all been taken")
        return self._video

    def __iter__(self) -> Iterator[Clip]:
        """Reads the video.

        Raises:
            InputError: if it cannot be read, or no frame of it.
        """
        size, changed = identity_of(self.path)
        with open_frames(self.path, self._settings) as reader:
            snippets = 0
            for clip in self._clips(reader):
                snippets += 1
                yield clip
            tally = reader.tally
            self._video = ExtractedVideo(
                file=str(self.path),
                size=size,
                changed=changed,
                fps=float(reader.fps),
                seconds=tally.chosen / reader.fps,
                frames=tally.chosen,
                repeated=tally.repeated,
                skipped=tally.skipped,
                snippets=snippets,
                broken=reader.broken,
            )

    def _clips(self, reader: FrameReader) -> Iterator[Clip]:
        """The clips of the frames, the last one filled up as `Extraction.tail` says."""
        length, stride = self._extraction.frames, self._extraction.stride
        held: collections.deque[Clip] = collections.deque(maxlen=length)  # cropped frames of all streams
        begin = count = 0  # frame at which the next snippet starts; frames read
        for cropped in self._cropped(reader):
            held.append(cropped)
            count += 1
            if count == begin + length:
                yield _joined(held)
                begin += stride
        # Frames that no snippet has: those after the end of the last one.
        left = count - (begin - stride + length) if begin else count
        if left > 0 and (not begin or self._extraction.tail == "repeat"):
            # A stride beyond the length may pass over the start of what is left.
            kept = list(held)[-(count - begin) :] if count > begin else [held[-1]]
            yield _joined(kept + [kept[-1]] * (length - len(kept)))

    def _cropped(self, reader: FrameReader) -> Iterator[Clip]:
        """One frame after the other: stream -> (crops, crop, crop, channels)."""
        extraction = self._extraction
        if extraction.flow == "none":
            for frame in reader:
                yield {"rgb": crop_frames([frame], self._settings)[:, 0]}
            return
        frames, same_frames = itertools.tee(reader)
        for frame, flow in zip(frames, flow_of(same_frames, extraction.flow)):
            yield {
                "rgb": crop_frames([frame], self._settings)[:, 0],
                "flow": crop_frames([flow], self._settings)[:, 0],
            }


def _joined(frames) -> Clip:
    frames = list(frames)
    return {stream: np.stack([frame[stream] for frame in frames], axis=1) for stream in frames[0]}


def identity_of(path: str | os.PathLike) -> tuple[int, int]:
    """The size of a video in bytes and when it was last modified in ns; of a folder, over all its files.

    Raises:
        InputError: if there is no such file.
    """
    path = Path(path)
    try:
        found = os.stat(path)
        if not stat.S_ISDIR(found.st_mode):
            return found.st_size, found.st_mtime_ns
        entries = [entry.stat() for entry in os.scandir(path) if entry.is_file()]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a video") from None
    return sum(entry.st_size for entry in entries), max((entry.st_mtime_ns for entry in entries), default=0)
