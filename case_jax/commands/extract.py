"""Extracts I3D features from videos: a folder of video files to the features that training reads.

python -m experiments.extract --videos=V --output=D/features/test

V is a folder with videos of any kind that FFmpeg reads, GIFs and folders of numbered images, or one of these.
Each video's features go to <stream>/<video>.npy, (snippets, 1024) float32; features.json beside the streams
says how they were made. The same command, started again, goes on with the videos that are missing. A video
that cannot be read is named and left out, and the command ends with status 1.
"""

from pathlib import Path

from absl import flags
from rich.console import Console

from case_jax.commands import cli
from case_jax.commands.extraction import (
    define_extraction_flags,
    describe,
    end_with_bad,
    extract_missing,
    extraction_from_flags,
    num_workers_of,
)
from case_jax.commands.outputs import check_outputs
from case_jax.video.extract import Extractor, FolderOfFeatures
from case_jax.video.frames import find_videos

__all__ = ["define_flags", "main"]


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("videos", None, "folder of videos, or one video", flag_values=given)
    flags.DEFINE_string("output", None, "folder to write the features to", flag_values=given)
    define_extraction_flags(given)


def main(given: flags.FlagValues) -> None:
    """Extracts the videos that are missing; exits with status 1 if a video cannot be read."""
    place = cli.require(given, "videos", "a folder of videos")
    output = Path(cli.require(given, "output", "a folder to write features to"))
    check_outputs(folders={"output": output})
    videos = find_videos(place)
    extraction, weights = extraction_from_flags(given)
    folder = FolderOfFeatures(output, extraction)
    console = Console(soft_wrap=True, markup=False, highlight=False)
    console.print(describe(extraction))
    bad = extract_missing(
        videos,
        folder,
        Extractor(extraction, weights, batch_size=given.clips_at_once),
        num_workers=num_workers_of(given),
        strict=given.strict,
        console=console,
    )
    console.print(f"{len(videos) - len(bad):,} videos: {output}")
    end_with_bad(bad, f"{len(bad):,} of {len(videos):,} videos cannot be read", console)
