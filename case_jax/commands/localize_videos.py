"""What `localize --video` does besides localising: extracts the features before, and makes the page after."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from rich.console import Console

from case_jax.commands.extraction import describe, extract_missing, num_workers_of
from case_jax.data.extraction import ExtractedVideo
from case_jax.data.feature_files import FeatureFiles
from case_jax.data.formats import Source
from case_jax.data.names import find_name, read_names
from case_jax.errors import InputError
from case_jax.localizer import Localizer
from case_jax.report.standalone import require_jinja2
from case_jax.report.video_page import PagedVideo, write_video_page
from case_jax.video.extract import FolderOfFeatures, extractor_of
from case_jax.video.frames import find_videos

__all__ = ["GivenVideos", "end_with_bad", "extract_videos", "write_page"]


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
    videos = find_videos(place)
    if given.videos is not None:
        videos = {name: videos[name] for name in _listed(given.videos, videos, place)}
    files = {stream: given[f"{stream}_weights"].value for stream in ("rgb", "flow")}
    extractor = extractor_of(
        localizer.extraction,
        {stream: file for stream, file in files.items() if file},
        run=given.checkpoint,
        batch_size=given.clips_at_once,
    )
    folder = FolderOfFeatures(Path(given.features or _beside(output)), extractor.extraction)
    console.print(describe(extractor.extraction))
    bad = extract_missing(
        videos, folder, extractor, num_workers=num_workers_of(given), strict=given.strict, console=console
    )
    if len(bad) == len(videos):
        raise InputError(next(iter(bad.values())))
    paths = {name: path for name, path in videos.items() if name not in bad}
    for name in paths:
        _check_rate(name, folder.videos[name], localizer)
    return GivenVideos(folder.folder, paths, folder.videos, bad)


def _listed(path: str, videos: Mapping[str, Path], place: str) -> list[str]:
    names = []
    for listed in read_names(path):
        name = find_name(listed, videos)
        if name is None:
            raise InputError(f"{path}: names {listed!r}; expected videos in {place}")
        names.append(name)
    return names


def _beside(output: Path) -> Path:
    """Where features go unless --features says: found.json has found_features."""
    return output.with_name(f"{output.stem}_features")


def _check_rate(name: str, video: ExtractedVideo, localizer: Localizer) -> None:
    """Where every frame of a video is taken, its rate must be that of the run's videos."""
    assert localizer.extraction is not None
    seconds = localizer.extraction.stride / video.fps
    wanted = localizer.seconds_per_snippet
    if wanted is not None and abs(seconds - wanted) > 1e-3 * wanted:
        raise InputError(
            f"{video.file}: has {video.fps:g} frames/s, all of which are taken; expected "
            f"{localizer.extraction.stride / wanted:g} as in the run's videos"
        )


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


def end_with_bad(videos: GivenVideos, console: Console) -> None:
    """Lists the videos that cannot be read, if any, and exits with status 1."""
    if videos.bad:
        console.print(f"{len(videos.bad):,} videos cannot be read:")
        for error in videos.bad.values():
            console.print(f"  {error}")
        sys.exit(1)
