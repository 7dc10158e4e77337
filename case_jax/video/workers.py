"""Worker processes that read videos ahead of the network: decoding, resizing, optical flow, crops. No JAX."""

import contextlib
import multiprocessing
import queue
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.queues import Queue
from pathlib import Path
from typing import NamedTuple

from case_jax.data.extraction import ExtractedVideo, Extraction
from case_jax.data.files import one_line
from case_jax.errors import InputError
from case_jax.video.clips import Clip, VideoClips

__all__ = ["Taken", "take_clips"]

_CLIPS_AHEAD = 4  # of each worker; a clip has 2.4 MB of rgb and 6.4 MB of flow
_PATIENCE = 1.0  # seconds between looks whether the other side is still alive


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
        InputError: if a worker process was killed, as the system does where memory is short.
    """
    if num_workers:
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
    tasks: Queue = context.Queue()
    results: Queue = context.Queue(maxsize=_CLIPS_AHEAD * num_workers)
    for task in enumerate(videos):
        tasks.put(task)
    workers = [
        context.Process(target=_work, args=(tasks, results, extraction), daemon=True)
        for _ in range(num_workers)
    ]
    with _without_main():
        for worker in workers:
            worker.start()
    left = len(videos)
    try:
        while left:
            try:
                taken = results.get(timeout=_PATIENCE)
            except queue.Empty:
                _check_alive(workers)
                continue
            left -= taken.clip is None
            yield taken
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        for channel in (tasks, results):
            channel.close()
            channel.cancel_join_thread()


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


def _check_alive(workers: Sequence) -> None:
    for worker in workers:
        if worker.exitcode is not None:
            raise InputError(
                f"--num_workers: a process that reads videos ended with status {worker.exitcode}; expected "
                "enough memory for each of them, so try fewer"
            )


def _work(tasks: Queue, results: Queue, extraction: Extraction) -> None:
    """What a worker process does until it is terminated."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            number, path = tasks.get(timeout=_PATIENCE)
        except queue.Empty:
            _end_with_parent()
            continue
        for taken in _read(number, path, extraction):
            _hand_over(results, taken)


def _hand_over(results: Queue, taken: Taken) -> None:
    while True:
        try:
            results.put(taken, timeout=_PATIENCE)
            return
        except queue.Full:
            _end_with_parent()


def _end_with_parent() -> None:
    """Ends this process if its parent was killed: nobody else would end it."""
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():
        sys.exit(1)
