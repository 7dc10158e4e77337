"""Worker processes that read videos ahead of the network: decoding, resizing, optical flow, crops. No JAX."""

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple

from case_jax.data.extraction import ExtractedVideo, Extraction
from case_jax.data.files import one_line
from case_jax.errors import InputError
from case_jax.terminals import ignore_terminal
from case_jax.video.clips import Clip, VideoClips
from case_jax.video.extras import import_extra

__all__ = ["Taken", "take_clips"]


class Taken(NamedTuple):
    """One clip of a video, or its end."""

    video: int  # its place in the list of videos
    clip: Clip | None = None
    end: ExtractedVideo | None = None  # the video has no more clips
    error: str | None = None  # the video cannot be read (further); this is its end


def take_clips(videos: Sequence[Path], extraction: Extraction, num_workers: int) -> Iterator[Taken]:
    """The clips of all videos. The clips of a video come in order, those of several videos in any.

    Args:
        videos: their paths.
        extraction: how to choose and cut frames.
        num_workers: processes that read, each one video at a time; 0 reads in this process.

    Yields:
        `Taken`: clips, and for each video one that has ``end`` or ``error``.

    Raises:
        InputError: if a worker process was killed, as the system does where memory is short, or a package
            that reads videos is not installed.
    """
    for package in ("av", "cv2"):
        import_extra(package)  # is missing for all videos, or for none
    if num_workers and videos:
        yield from _from_processes(videos, extraction, min(num_workers, len(videos)))
        return
    for number, path in enumerate(videos):
        yield from _read(number, path, extraction)


def _read(number: int, path: Path, extraction: Extraction) -> Iterator[Taken]:
    clips = VideoClips(path, extraction)
    try:
        for clip in clips:
            yield Taken(number, clip)
    except InputError as error:
        yield Taken(number, error=one_line(error))
    else:
        yield Taken(number, end=clips.video)


def _from_processes(videos: Sequence[Path], extraction: Extraction, num_workers: int) -> Iterator[Taken]:
    # "spawn": a fork of a process in which JAX runs threads may hang.
    context = multiprocessing.get_context("spawn")
    tasks = iter(enumerate(videos))
    workers: dict[Connection, SpawnProcess] = {}
    try:
        with _without_main():
            for _ in range(num_workers):
                ours, theirs = context.Pipe()
                worker = context.Process(target=_work, args=(theirs, extraction), daemon=True)
                worker.start()
                # With our copy closed, a worker that dies closes the pipe: nobody waits for it forever.
                theirs.close()
                workers[ours] = worker
        for channel in workers:
            channel.send(next(tasks))
        for _ in videos:
            yield from _until_an_end(workers, tasks)
    finally:
        for channel, worker in workers.items():
            worker.terminate()
            worker.join()
            channel.close()


def _until_an_end(
    workers: Mapping[Connection, SpawnProcess], tasks: Iterator[tuple[int, Path]]
) -> Iterator[Taken]:
    """What workers send until one of them has finished its video, and has got another."""
    while True:
        for channel in wait(list(workers)):
            assert isinstance(channel, Connection)
            try:
                taken = channel.recv()
            except (EOFError, OSError):
                workers[channel].join()
                raise InputError(
                    "--num_workers: a process that reads videos ended with status "
                    f"{workers[channel].exitcode}; expected enough memory for each of them, so try fewer"
                ) from None
            if taken.clip is None and (task := next(tasks, None)):
                channel.send(task)
            yield taken
            if taken.clip is None:
                return


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hides where this program's main module came from while processes start.

    A spawned process would import that module, with JAX and all, and needs none of it. A script of a user
    would even run a second time.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__spec__", "__file__") if hasattr(main, name)}
    try:
        for name in hidden:
            setattr(main, name, None)
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


def _work(channel: Connection, extraction: Extraction) -> None:
    """What a worker process does, until it is terminated or the other end of the channel is gone."""
    ignore_terminal()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import_extra("cv2").setNumThreads(1)  # there are as many processes as there should be
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            number, path = channel.recv()
            for taken in _read(number, path, extraction):
                channel.send(taken)
