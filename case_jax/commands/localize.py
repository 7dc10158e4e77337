"""Localises actions: features or videos to detections in ActivityNet form, tables, subtitles and a page.

python -m experiments.localize --checkpoint=W --features=F --output=p.json
python -m experiments.localize --checkpoint=W --video=one.mp4 --output=p.json --page=p.html

F holds features of videos in any form that training reads (docs/data.md): one folder per stream with one file
per video, one file per video with the streams side by side, HDF5 files, or the first form in parts. One video
is opened at a time.

--video takes a video file, or a folder of them, in place of features. Features are extracted as those of
the run's data were, and kept: in p_features beside p.json, or where --features says. --page writes a page
that plays the videos beside what was found; those that browsers do not play get copies, in p_videos.

Every finished video is a line of p.json.partial until all are done. The same command, started again, goes on
from there, and leaves out the videos that p.json itself already has from the same checkpoint and settings.
"""

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from rich.console import Console

from case_jax.commands import cli
from case_jax.commands.ending import ending_on_signals
from case_jax.commands.extraction import define_weights_flags, end_with_bad
from case_jax.commands.localize_videos import chosen_names, extract_videos, write_page
from case_jax.commands.progress import videos_bar
from case_jax.data.feature_files import FeatureFiles, Widths, check_shapes, video_length
from case_jax.data.feature_folders import find_sources
from case_jax.data.files import write_text_atomically
from case_jax.data.sources import Source, open_source
from case_jax.errors import InputError
from case_jax.localization.detections import to_activitynet
from case_jax.localization.export import as_csv, as_srt, as_webvtt
from case_jax.localization.resumable import ResumableDetections
from case_jax.localization.shards import shard_path
from case_jax.localizer import Localizer
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.state import TrainState

__all__ = ["define_flags", "main"]

# A score is the contrast between a detection and its surroundings, plus 0.2 for its class. Showing detections
# from 0.5 on, a contrast of 0.3, had the best F1 (at tIoU 0.3) on synthetic data, for a published checkpoint
# on recordings and for published detections on THUMOS14; 0.3 shows up to six times as many, most of them
# wrong.
_MIN_SCORE = 0.5

_SUBTITLES: dict[str, Callable[..., str]] = {"vtt": as_webvtt, "srt": as_srt}


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("checkpoint", None, "workdir of a training run", flag_values=given)
    flags.DEFINE_enum("which", "best", ["best", "last"], "which of its checkpoints", flag_values=given)
    flags.DEFINE_string("features", None, "folder with features of videos", flag_values=given)
    flags.DEFINE_string(
        "video", None, "a video file, or a folder of them, to extract first", flag_values=given
    )
    flags.DEFINE_string(
        "page", None, "with --video: also write a page (HTML) that plays the videos", flag_values=given
    )
    define_weights_flags(given)
    flags.DEFINE_bool("strict", False, "stop at the first video that cannot be read", flag_values=given)
    flags.DEFINE_string("output", None, "where to write the detections (JSON)", flag_values=given)
    flags.DEFINE_float(
        "fps",
        None,
        "frames per second, if not those of the training data",
        lower_bound=1e-6,
        flag_values=given,
    )
    flags.DEFINE_float(
        "frames_per_snippet",
        None,
        "frames per snippet, if not those of training",
        lower_bound=1e-6,
        flag_values=given,
    )
    flags.DEFINE_integer(
        "window",
        None,
        "longest video, in snippets, that is judged as a whole; default that of the test videos, at least "
        "4 T",
        lower_bound=1,
        flag_values=given,
    )
    flags.DEFINE_string("videos", None, "text file of video names, one a line: only these", flag_values=given)
    flags.DEFINE_integer(
        "num_shards", None, "divide the videos among this many commands", lower_bound=1, flag_values=given
    )
    flags.DEFINE_integer(
        "shard_index", None, "which of them this one is, from 0", lower_bound=0, flag_values=given
    )
    flags.DEFINE_string("csv", None, "also write the detections as a table, to this file", flag_values=given)
    flags.DEFINE_string(
        "vtt", None, "also write WebVTT subtitles, one file per video, to this folder", flag_values=given
    )
    flags.DEFINE_string(
        "srt", None, "also write SubRip subtitles, one file per video, to this folder", flag_values=given
    )
    flags.DEFINE_float(
        "min_score", _MIN_SCORE, "score from which subtitles show a detection", flag_values=given
    )


def main(given: flags.FlagValues) -> None:
    """Localises the videos that are missing, then writes all detections."""
    workdir = Workdir(cli.require(given, "checkpoint", "the workdir of a training run"))
    if not given.video:
        cli.require(given, "features", "a folder of features, or --video")
    output = _of_shard(given, cli.require(given, "output", "the path of a JSON file to write"))
    _check_numbers(given)
    _check_outputs(given, output)
    settings, state = workdir.load(given.which)
    if settings.info.rescaled and not (given.fps and given.frames_per_snippet):
        raise InputError(
            f"{workdir.path}: was trained on rescaled features, which tell no time; expected --fps and "
            "--frames_per_snippet of these"
        )
    console = Console(soft_wrap=True, markup=False, highlight=False)
    localizer = Localizer(settings, state, window=given.window)
    extracted = extract_videos(given, localizer, output, console) if given.video else None
    folder = str(extracted.folder) if extracted else given.features
    videos = _find_videos(given, folder, localizer, console, extracted and extracted.paths)
    changed = {name: _last_change(sources) for name, sources in videos.items()}
    record = ResumableDetections(output, _identity(given, settings, state, localizer, folder), console.print)
    known = {name: record.entries(name, changed[name]) for name in videos}
    results = {name: entries for name, entries in known.items() if entries is not None}
    if results:
        console.print(f"{len(results):,} of {len(videos):,} videos were there already")
    missing = {name: sources for name, sources in videos.items() if name not in results}
    with ending_on_signals(lambda: f"{len(results):,} of {len(videos):,} videos are done"):
        for name, entries in _localize(given, localizer, folder, missing, console):
            record.add(name, changed[name], entries)
            results[name] = entries
    results = {name: results[name] for name in videos}  # in order
    record.write(results)
    _export(given, results)
    if extracted and given.page:
        write_page(given, localizer, extracted, results)
    record.forget()
    console.print(
        f"{sum(map(len, results.values())):,} detections in {len(results):,} videos, by the {given.which} "
        f"checkpoint (step {localizer.step}): {output}"
    )
    if extracted:
        if given.page:
            console.print(f"page: {given.page}")
        end_with_bad(extracted.bad, f"{len(extracted.bad):,} videos cannot be read", console)


def _of_shard(given: flags.FlagValues, path: str) -> Path:
    """A file's path; of several shards, the path of this shard's part of it."""
    index, count = given.shard_index, given.num_shards
    for name, value, other_name, other in (
        ("shard_index", index, "num_shards", count),
        ("num_shards", count, "shard_index", index),
    ):
        if value is not None and other is None:
            raise InputError(f"--{other_name}: is missing; expected it with --{name}")
    if count is None:
        return Path(path)
    if index >= count:
        raise InputError(f"--shard_index: is {index}; expected less than --num_shards, {count}")
    return shard_path(path, index, count)


def _check_numbers(given: flags.FlagValues) -> None:
    for name in ("fps", "frames_per_snippet", "min_score"):
        value = given[name].value
        if value is not None and not math.isfinite(value):
            raise InputError(f"--{name}: is {value}; expected a finite number")
        if value is not None and value > 1e9:
            raise InputError(f"--{name}: is {value}; expected 1e9 or less")


def _check_outputs(given: flags.FlagValues, output: Path) -> None:
    """Rejects paths that cannot be written to, before hours of work."""
    table = _of_shard(given, given.csv) if given.csv else None
    if given.page and not given.video:
        raise InputError("--page: is given without --video; expected the videos that it plays")
    if given.page and given.num_shards is not None:
        raise InputError("--page: is given with --num_shards; expected one of the two")
    if table is not None and table.absolute() == output.absolute():
        raise InputError(f"--csv: is {given.csv}, as --output; expected another file")
    for path in (output, table, Path(given.page) if given.page else None):
        if path is not None and os.path.isdir(path):
            raise InputError(f"{path}: cannot be written (Is a directory)")
    for name in _SUBTITLES:
        folder = given[name].value
        if folder and os.path.exists(folder) and not os.path.isdir(folder):
            raise InputError(f"--{name}: {folder} is a file; expected a folder")


def _find_videos(
    given: flags.FlagValues,
    folder: str,
    localizer: Localizer,
    console: Console,
    extracted: Collection[str] | None,
) -> dict[str, dict[str, Source]]:
    """The videos to localise, by name, and where their features are: those extracted, or chosen by flags."""
    sources, repeated = find_sources(
        folder,
        localizer.streams,
        reading=localizer.reading,
        complete=True,
        widths=localizer.stream_widths,
    )
    if repeated:
        console.print(
            f"{folder}: has features of {len(repeated):,} videos more than once, such as {repeated[0]!r}; "
            "the first ones are used"
        )
    if extracted is None:
        names = chosen_names(given, sources, f"videos with features in {folder}")
    else:
        names = sorted(extracted)
    for name in names:
        if (given.vtt or given.srt) and any(c in name for c in "/\\\0"):
            raise InputError(
                f"{folder}: has video {name!r}; expected names that are not paths, for subtitles"
            )
        for source in sources[name].values():
            if not source.path.exists():
                open_source(source)  # names the missing file before hours of work
    return {name: sources[name] for name in names}


def _localize(
    given: flags.FlagValues,
    localizer: Localizer,
    folder: str,
    videos: Mapping[str, Mapping[str, Source]],
    console: Console,
) -> Iterator[tuple[str, list[dict]]]:
    """Each video's name and detections in ActivityNet form, as soon as they are there."""
    lengths: list[int] = []  # snippets of the videos opened so far
    progress, task = videos_bar(console, len(videos))
    with progress:
        began, snippets = time.perf_counter(), 0
        opened = _opened(localizer, folder, videos, lengths, strict=given.strict)
        found = localizer.detect_each(opened, given.fps, given.frames_per_snippet)
        for i, (name, detections) in enumerate(zip(videos, found)):
            yield name, to_activitynet({name: detections}, localizer.classes)["results"][name]
            snippets += lengths[i]
            rate = snippets / (time.perf_counter() - began)
            progress.update(task, completed=i + 1, rate=f"{rate:,.0f} snippets/s")


def _opened(
    localizer: Localizer,
    folder: str,
    videos: Mapping[str, Mapping[str, Source]],
    lengths: list[int],
    *,
    strict: bool,
) -> Iterator[FeatureFiles]:
    """Opens one video after the other, and notes its length in snippets."""
    widths: Widths = {}
    for sources in videos.values():
        files = check_shapes(sources, widths, keep=True, strict=strict)
        for stream, expected in localizer.stream_widths.items():
            width, _ = widths[stream]
            if width != expected:
                raise InputError(
                    f"{folder}: stream {stream!r} has {width} channels; expected {expected} as in training"
                )
        lengths.append(video_length(files))
        yield files


def _identity(
    given: flags.FlagValues, settings: RunSettings, state: TrainState, localizer: Localizer, folder: str
) -> dict[str, Any]:
    """Everything that detections follow from, besides the features' contents."""
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(settings.config), sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path((state.params, state.cluster_labels)):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return {
        "step": localizer.step,
        "checkpoint": digest.hexdigest(),
        "features": str(Path(folder).resolve()),
        "fps": given.fps or settings.info.frames_per_second,
        "frames_per_snippet": given.frames_per_snippet or settings.info.frames_per_snippet,
        "window": localizer.window,
        "classes": list(localizer.classes),
    }


def _last_change(sources: Mapping[str, Source]) -> int:
    """When the features of a video were last modified, ns."""
    return max(os.stat(source.path).st_mtime_ns for source in sources.values())


def _export(given: flags.FlagValues, results: Mapping[str, Sequence[Mapping]]) -> None:
    """Writes the table and the subtitles that were asked for."""
    if given.csv:
        write_text_atomically(_of_shard(given, given.csv), as_csv(results))
    for name, as_text in _SUBTITLES.items():
        if folder := given[name].value:
            for video, entries in results.items():
                path = Path(folder) / f"{video}.{name}"
                write_text_atomically(path, as_text(entries, min_score=given.min_score))
