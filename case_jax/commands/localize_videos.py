"""What `localize --video` does besides localising: extracts the features before, and makes the page after."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from rich.console import Console

from case_jax.commands.extraction import describe, extract_missing, num_workers_of
from case_jax.data.extraction import ExtractedVideo
from case_jax.data.feature_files import FeatureFiles
from case_jax.data.formats import without_ending
from case_jax.data.names import find_name, read_names
from case_jax.data.sources import Source
from case_jax.errors import InputError
from case_jax.localizer import Localizer
from case_jax.report.standalone import require_jinja2
from case_jax.report.video_page import PagedVideo, write_video_page
from case_jax.video.extract import FolderOfFeatures, extractor_of
from case_jax.video.frames import find_videos

__all__ = ["GivenVideos", "chosen_names", "extract_videos", "write_page"]


class GivenVideos(NamedTuple):
    """The videos of `--video`, whose features are on disk now."""

    folder: Path  # of the features
    paths: dict[str, Path]  # name -> video, of those that could be read
    known: dict[str, ExtractedVideo]
    bad: dict[str, str]  # name -> why it cannot be read


def extract_videos(
    given: flags.FlagValues, localizer: Localizer, output: Path, console: Console
) -> GivenVideos:
    """Extracts the features of the videos that `--video` names, as those of the run's data were extracted.

    Raises:
        InputError: if the run does not tell how, weights are others than the run's, or no video can be read.
    """
    place = given.video
    if given.page:
        require_jinja2()  # before hours of work
    found = find_videos(place)
    videos = {name: found[name] for name in chosen_names(given, found, f"videos in {place}")}
    extractor = extractor_of(
        localizer.extraction,
        {stream: given[f"{stream}_weights"].value for stream in ("rgb", "flow")},
        run=given.checkpoint,
        batch_size=given.clips_at_once,
    )
    folder = FolderOfFeatures(Path(given.features or _beside(output)), extractor.extraction)
    console.print(describe(extractor.extraction))
    bad = extract_missing(
        videos, folder, extractor, num_workers=num_workers_of(given), strict=given.strict, console=console
    )
    if bad and len(bad) == len(videos):
        raise InputError(next(iter(bad.values())))
    paths = {name: path for name, path in videos.items() if name not in bad}
    for name in paths:
        localizer.check_rate(folder.videos[name])
    return GivenVideos(folder.folder, paths, folder.videos, bad)


def chosen_names(given: flags.FlagValues, known: Collection[str], expected: str) -> list[str]:
    """The names that --videos lists, or all, sorted; of several shards, the names of this one.

    Args:
        given: the command's flags.
        known: names of all videos.
        expected: what a listed name should be one of, for the message.

    Raises:
        InputError: if a listed name is not known, or is listed twice.
    """
    names = sorted(known if given.videos is None else _listed(given.videos, known, expected))
    return names if given.num_shards is None else names[given.shard_index :: given.num_shards]


def _listed(path: str, known: Collection[str], expected: str) -> set[str]:
    """The videos that a file names."""
    listed = set()
    for name in read_names(path):
        video = find_name(name, known) or find_name(without_ending(name), known)
        if video is None:
            raise InputError(f"{path}: names {name!r}; expected {expected}")
        if video in listed:
            raise InputError(f"{path}: names {video!r} twice; expected each video once")
        listed.add(video)
    return listed


def _beside(output: Path) -> Path:
    """Where features go unless --features says: found.json has found_features."""
    return output.with_name(f"{output.stem}_features")


def write_page(
    given: flags.FlagValues,
    localizer: Localizer,
    videos: GivenVideos,
    results: Mapping[str, Sequence[Mapping]],
) -> None:
    """Writes the page that plays the videos beside what was found in them.

    Videos that no browser plays get copies that one does: found.html has found_videos beside it.

    Raises:
        InputError: if it cannot be written.
    """
    paged = []
    for name, entries in results.items():
        streams = {s: Source(videos.folder / s / f"{name}.npy") for s in localizer.streams}
        paged.append(
            PagedVideo(
                name,
                videos.paths[name],
                videos.known[name].seconds,
                sorted(map(dict, entries), key=lambda entry: -entry["score"]),
                localizer.curves(FeatureFiles(streams)),
            )
        )
    page = Path(given.page)
    write_video_page(
        page,
        paged,
        classes=localizer.classes,
        title=f"Actions found by {Path(given.checkpoint).resolve().name}",
        min_score=given.min_score,
        copies=page.with_name(f"{page.stem}_videos"),
    )
