"""Video files of any container and codec, frame after frame, by PyAV (extra `video`)."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from case_jax.data.files import one_line, refuse_pipes
from case_jax.errors import InputError
from case_jax.video.extras import import_extra
from case_jax.video.pixels import Upright, converter
from case_jax.video.times import Stamped

__all__ = ["VideoFile", "video_stream"]

_EXPECTED = "expected a video"
_MAX_THREADS = 4  # of a decoder; more help little, and other processes decode other videos
_SHORT = 0.5  # seconds; a file that ends earlier than its header says by more than this was cut

# Formats that are no video by themselves: lists of other files, text drawn as a picture.
_REFUSED = frozenset(("concat", "dash", "hls", "image2", "imf", "lavfi", "tty"))


def video_stream(av: ModuleType, container: Any) -> Any:
    """The video of an open container: FFmpeg's choice among several, but no cover of a piece of music.

    Args:
        av: the module.
        container: from ``av.open``.

    Returns:
        A stream, or None.
    """
    pictures = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & pictures]
    best = container.streams.best("video")
    return best if best in streams else next(iter(streams), None)


class VideoFile:
    """A video file that is read once, from its first frame to its last.

    Nothing is held but the frames inside the decoder. Several threads decode the slices or tiles of a frame
    where it has them.
    """

    native_fps: float | None  # frames per second on average, None if unknown
    duration: float | None  # seconds by the header, None if unknown
    num_frames: int | None  # by the header, None if unknown
    start: float  # seconds from the start of the file, audio included, to the first frame
    width: int  # pixels, upright
    height: int  # pixels, upright
    broken: str | None  # what could not be decoded; final after the last frame

    def __init__(self, path: str | os.PathLike):
        """Opens a file and decodes its first frame.

        Args:
            path: the file; its ending does not matter.

        Raises:
            InputError: if it is missing, holds no video, or no frame can be decoded.
        """
        self._path = Path(path)
        refuse_pipes(self._path, expected=_EXPECTED)
        self._av = import_extra("av")
        self._convert = converter()
        self._container = self._open()
        try:
            self._stream = self._only_video()
            # Threads that each decode a frame would lose those in flight where a file breaks.
            self._stream.thread_type = "SLICE"
            self._stream.codec_context.thread_count = min(os.cpu_count() or 1, _MAX_THREADS)
            self._bad_packets = self._bad_frames = 0
            self._first_bad = 0.0  # seconds of video before the first bad packet
            self._stopped: str | None = None
            self._extent = _Extent()
            self._promised: float | None = None  # seconds
            self.broken = None
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                reason = self.broken or "it holds none"
                raise InputError(f"{self._path}: no frame can be decoded ({reason}); {_EXPECTED}")
            self._frames = itertools.chain([first], self._frames)
            self._describe(first)
        except BaseException:
            self.close()
            raise

    def _open(self) -> Any:
        expected = f"{_EXPECTED}, complete and of a known format"
        if self._path.is_dir():
            raise InputError(f"{self._path}: is a folder; {_EXPECTED}")
        try:
            # Without the prefix, a name with a colon could be taken for an address in a network.
            container = self._av.open(f"file:{self._path}", options={"protocol_whitelist": "file"})
        except FileNotFoundError:
            raise InputError(f"{self._path}: no such file; {_EXPECTED}") from None
        except self._av.FFmpegError as error:
            raise InputError(f"{self._path}: cannot be opened ({error.strerror}); {expected}") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{self._path}: cannot be opened ({one_line(error)}); {_EXPECTED}") from None
        names = set(container.format.name.split(","))
        if names & _REFUSED or any(name.endswith("_pipe") for name in names):
            container.close()
            found = "/".join(sorted(names))
            raise InputError(f"{self._path}: is no video but of the format {found}; {_EXPECTED}")
        return container

    def _only_video(self) -> Any:
        """The video stream to read: not the cover of a piece of music."""
        stream = video_stream(self._av, self._container)
        if stream is None:
            kinds = sorted({stream.type for stream in self._container.streams}) or ["nothing"]
            raise InputError(f"{self._path}: has no video in it, only {', '.join(kinds)}; {_EXPECTED}")
        if stream.codec_context is None:
            raise InputError(f"{self._path}: is coded in a way that PyAV does not know; {_EXPECTED}")
        return stream

    def _describe(self, first: Stamped) -> None:
        stream, container = self._stream, self._container
        # A stream without time stamps has no average rate; its frames tell their length.
        raw = 1 / first.length if first.time is None and first.length else None
        rates = (raw, stream.average_rate, stream.guessed_rate)
        self.native_fps = next((float(rate) for rate in rates if rate and 0 < rate <= 1000), None)
        self.num_frames = stream.frames or None
        self._promised = self._promised_seconds(first.time or 0.0)
        seconds = self._promised
        if seconds is None and container.duration:
            seconds = container.duration / self._av.time_base
        self.duration = seconds if seconds and seconds > 0 else None
        begin = container.start_time
        self.start = 0.0 if first.time is None or begin is None else first.time - begin / self._av.time_base
        shape = Upright()(np.empty((first.frame.height, first.frame.width), np.uint8), first.frame).shape
        self.height, self.width = shape

    def frames(self) -> Iterator[Stamped]:
        """The frames, in the order in which they are shown, not yet converted; see `pixels`."""
        return self._frames

    def pixels(self, frame: Any) -> np.ndarray:
        """One frame as an upright (height, width, 3) uint8 array of RGB values.

        For standard definition these are the values that OpenCV's VideoCapture gives.
        """
        return self._convert(frame)

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def _decode(self) -> Iterator[Stamped]:
        packets = self._container.demux(self._stream)
        while (packet := self._next(packets)) is not None:
            yield from self._decoded(packet)
        if self._stopped:  # the decoder still holds frames from before the break
            yield from self._decoded(None)
        self.broken = self._what_is_broken()

    def _next(self, packets: Iterator) -> Any:
        try:
            return next(packets, None)
        except (self._av.FFmpegError, OSError) as error:
            self._stopped = f"reading stopped: {error.strerror}"
            return None

    def _decoded(self, packet: Any) -> Iterator[Stamped]:
        """The frames that a packet completes; None ends the stream."""
        try:
            frames = self._stream.codec_context.decode(packet)
        except self._av.error.EOFError:
            return
        except self._av.FFmpegError:
            self._first_bad = self._first_bad if self._bad_packets else self._extent.seconds
            self._bad_packets += 1  # the next one may be whole
            return
        for frame in frames:
            self._bad_frames += frame.is_corrupt
            time_base = frame.time_base or self._stream.time_base  # frames of a flush may tell none
            time = _seconds(frame.pts, time_base)
            length = _seconds(frame.duration, time_base) or None
            if time is not None:
                self._extent.add(time, length or 0.0)
            yield Stamped(time, length, frame)

    def _what_is_broken(self) -> str | None:
        reasons = [self._stopped] if self._stopped else []
        if self._bad_packets:
            place = f"the first after {self._first_bad:.2f} s"
            reasons.append(f"{self._bad_packets} of its packets cannot be decoded ({place})")
        if self._bad_frames:
            reasons.append(f"{self._bad_frames} of its frames came out damaged")
        promised = self._promised
        if not reasons and promised and self._extent.is_short_of(promised):
            reasons.append(f"it ends after {self._extent.seconds:.2f} s of {promised:.2f} s")
        return "; ".join(reasons) or None

    def _promised_seconds(self, begin: float) -> float | None:
        """Seconds of the video stream by the header; None if that tells only of all streams together."""
        stream, container = self._stream, self._container
        if stream.duration:
            return _seconds(stream.duration, stream.time_base)
        end = _tagged(stream.metadata.get("DURATION"))
        if end is None and container.duration and len(container.streams) == 1:
            end = container.duration / self._av.time_base
        # Such containers tell the time at which the last frame ends.
        return None if end is None else end - max(begin, 0.0)


class _Extent:
    """The time that frames span."""

    def __init__(self) -> None:
        self._first = self._last = self._end = self._longest_gap = 0.0
        self._empty = True

    def add(self, time: float, length: float) -> None:
        if self._empty:
            self._first = self._last = self._end = time
            self._empty = False
        self._longest_gap = max(self._longest_gap, time - self._last)
        self._last, self._end = time, max(self._end, time + length)

    @property
    def seconds(self) -> float:
        return self._end - self._first

    def is_short_of(self, promised: float) -> bool:
        """Whether frames are missing at the end. Where rates vary, the last frame may be shown for long."""
        return not self._empty and self.seconds < promised - max(_SHORT, 2 * self._longest_gap)


def _seconds(ticks: int | None, time_base: Any) -> float | None:
    return None if ticks is None or not time_base else float(ticks * time_base)


def _tagged(text: str | None) -> float | None:
    """Seconds of a time as Matroska's tag DURATION has it, as in "00:01:02.500000000"."""
    try:
        hours, minutes, seconds = map(float, (text or "").split(":"))
    except ValueError:
        return None
    return 3600 * hours + 60 * minutes + seconds
