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
from there, and leaves out the videos that p.json itself already has from the same checkpoint, settings and
features. A video that cannot be read is named and left out, and the command ends with status 1. The next time
it is tried again.
"""

import collections
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags
from rich.console import Console

from case_jax.commands import cli
from case_jax.commands.ending import ending_on_signals
from case_jax.commands.extraction import define_weights_flags, end_with_bad
from case_jax.commands.localize_videos import chosen_names, extract_videos, write_page
from case_jax.commands.outputs import check_outputs
from case_jax.commands.progress import videos_bar
from case_jax.config import CaseConfig
from case_jax.data.feature_files import Widths, check_shapes, video_length
from case_jax.data.feature_folders import find_sources
from case_jax.data.files import write_text_atomically
from case_jax.data.fingerprints import FilesMark, mark_of_files
from case_jax.data.sources import Source, open_source
from case_jax.errors import InputError
from case_jax.localization.detections import to_activitynet
from case_jax.localization.export import as_csv, as_srt, as_webvtt
from case_jax.localization.resumable import ResumableDetections
from case_jax.localization.shards import shard_path
from case_jax.localizer import Features, Localizer
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.state import TrainState
from case_jax.words import counted

__all__ = ["define_flags", "main"]

# A score is the contrast between a detection and its surroundings, plus 0.2 for its class. Showing detections
# from 0.5 on, a contrast of 0.3, had the best F1 (at tIoU 0.3) on synthetic data, for a published checkpoint
# on recordings and for published detections on THUMOS14; 0.3 shows up to six times as many, most of them
# wrong.
_MIN_SCORE = 0.5

# Settings that came after outputs began to tell what they follow from. Their defaults change nothing.
_NEW_SETTINGS = ("action_free", "always_localize", "action_threshold", "refined_weight")

_SUBTITLES: dict[str, Callable[..., str]] = {"vtt": as_webvtt, "srt": as_srt}


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("checkpoint", None, "workdir of a training run", flag_values=given)
    flags.DEFINE_enum(
        "which",
        "best",
        ["best", "last"],
        "its best checkpoint (with --keep=healthiest the healthiest) or the last",
        flag_values=given,
    )
    flags.DEFINE_boolean(
        "together",
        False,
        "all seeds that --checkpoint holds decide together, except for collapsed ones",
        flag_values=given,
    )
    flags.DEFINE_string("features", None, "folder with features of videos", flag_values=given)
    flags.DEFINE_string(
        "video", None, "a video file, or a folder of them, to extract first", flag_values=given
    )
    flags.DEFINE_string(
        "page", None, "with --video: also write a page (HTML) that plays the videos", flag_values=given
    )
    define_weights_flags(given)
    flags.DEFINE_bool(
        "strict",
        False,
        "stop at the first video that cannot be read, or whose streams differ by one snippet",
        flag_values=given,
    )
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
    cli.define_test_time_flags(given)
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
    if given.together:
        settings, states = workdir.load_together(given.which)
    else:
        settings, state = workdir.load(given.which)
        states = (state,)
    if settings.info.rescaled and not (given.fps and given.frames_per_snippet):
        raise InputError(
            f"{workdir.path}: was trained on rescaled features, which tell no time; expected --fps and "
            "--frames_per_snippet of these"
        )
    console = Console(soft_wrap=True, markup=False, highlight=False)
    settings = settings._replace(config=cli.with_test_time_flags(settings.config, given))
    localizer = Localizer(settings, states, window=given.window)
    extracted = extract_videos(given, localizer, output, console) if given.video else None
    folder = str(extracted.folder) if extracted else given.features
    videos = _find_videos(given, folder, localizer, console, extracted and extracted.paths)
    record = ResumableDetections(output, _identity(given, settings, states, localizer, folder), console.print)
    marks = {name: mark_of_files(sources) for name, sources in videos.items() if name in record}
    known = {name: record.entries(name, mark) for name, mark in marks.items()}
    results = {name: entries for name, entries in known.items() if entries is not None}
    if len(results) < len(known):
        console.print(
            f"{len(known) - len(results):,} of {len(known):,} videos that were done have other features now, "
            "and are localised again"
        )
    if results:
        console.print(f"{len(results):,} of {len(videos):,} videos were there already")
    bad = dict(extracted.bad) if extracted else {}
    missing = {name: sources for name, sources in videos.items() if name not in results}
    with ending_on_signals(lambda: f"{len(results):,} of {len(videos):,} videos are done"):
        for name, mark, found in _localize(given, localizer, missing, console):
            if isinstance(found, InputError):
                bad[name] = str(found)
                continue
            record.add(name, mark, found)
            marks[name], results[name] = mark, found
    if bad and not results:
        raise InputError(next(iter(bad.values())))
    results = {name: results[name] for name in videos if name in results}  # in order
    record.write(results, marks)
    _export(given, results)
    if extracted and given.page:
        write_page(given, localizer, extracted, results)
    record.forget()
    of_seeds = "checkpoint"
    if given.together:
        left_out = len(workdir.seeds()) - len(states)
        of_seeds = f"checkpoints of {counted(len(states), 'seed')}"
        of_seeds += f", without {left_out} that collapsed" if left_out else ""
    console.print(
        f"{sum(map(len, results.values())):,} detections in {len(results):,} videos, by the {given.which} "
        f"{of_seeds} (step {localizer.step}): {output}"
    )
    if extracted and given.page:
        console.print(f"page: {given.page}")
    end_with_bad(bad, f"{len(bad):,} videos cannot be read", console)


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
    check_outputs(
        files={"output": output, "csv": table, "page": given.page},
        folders={name: given[name].value for name in _SUBTITLES},
        inputs={name: given[name].value for name in ("checkpoint", "features", "video", "videos")},
    )


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
            if given.strict and not source.path.exists():
                open_source(source)  # names the missing file before hours of work
    return {name: sources[name] for name in names}


def _localize(
    given: flags.FlagValues,
    localizer: Localizer,
    videos: Mapping[str, Mapping[str, Source]],
    console: Console,
) -> Iterator[tuple[str, FilesMark, list[dict] | InputError]]:
    """Each video's name, what its features were, and its detections in ActivityNet form, or what is wrong.

    Raises:
        InputError: with --strict, what is wrong with the first video that cannot be read; all before it are
            yielded first.
    """
    under_way: collections.deque[_Opened] = collections.deque()
    num_cut = 0
    progress, task = videos_bar(console, len(videos))
    with progress:
        began, snippets = time.perf_counter(), 0
        features = _open_each(localizer, videos, under_way, strict=given.strict)
        for found in localizer.try_each(features, given.fps, given.frames_per_snippet):
            name, mark, length, cut, error = under_way.popleft()
            if isinstance(found, InputError):
                error = error or found
                if given.strict:
                    raise error
                console.print(f"skipped: {error}")
                yield name, mark, error
            else:
                num_cut += cut
                yield name, mark, to_activitynet({name: found}, localizer.classes)["results"][name]
            snippets += length
            rate = snippets / (time.perf_counter() - began)
            progress.update(task, advance=1, rate=f"{rate:,.0f} snippets/s")
    if num_cut:
        console.print(f"{num_cut:,} of {len(videos):,} videos have a stream cut by one snippet")


class _Opened(NamedTuple):
    """A video whose features are being localised."""

    name: str
    mark: FilesMark
    length: int  # snippets
    cut: bool  # whether a stream has a snippet more
    error: InputError | None  # what is wrong with it, if that shows when its files are opened


def _open_each(
    localizer: Localizer,
    videos: Mapping[str, Mapping[str, Source]],
    under_way: collections.deque[_Opened],
    *,
    strict: bool,
) -> Iterator[Features]:
    """Opens one video after the other, and notes each in ``under_way``. A bad one has no streams."""
    for name, sources in videos.items():
        mark = mark_of_files(sources)
        widths: Widths = {stream: (width, "training") for stream, width in localizer.stream_widths.items()}
        try:
            files = check_shapes(sources, widths, keep=True, strict=strict)
        except InputError as error:
            under_way.append(_Opened(name, mark, 0, False, error))
            yield {}
        else:
            under_way.append(_Opened(name, mark, video_length(files), files.cut, None))
            yield files


def _identity(
    given: flags.FlagValues,
    settings: RunSettings,
    states: Sequence[TrainState],
    localizer: Localizer,
    folder: str,
) -> dict[str, Any]:
    """Everything that detections follow from, besides the features' contents."""
    config = {
        name: value
        for name, value in dataclasses.asdict(settings.config).items()
        if name not in _NEW_SETTINGS or value != getattr(CaseConfig, name)
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for state in states:
        for path, leaf in jax.tree_util.tree_leaves_with_path(_learnt(state)):
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


def _learnt(state: TrainState) -> tuple:
    """What a checkpoint has learnt, the second stage only where there is one."""
    return (state.params, state.cluster_labels, *([] if state.scorer is None else [state.scorer]))


def _export(given: flags.FlagValues, results: Mapping[str, Sequence[Mapping]]) -> None:
    """Writes the table and the subtitles that were asked for."""
    if given.csv:
        write_text_atomically(_of_shard(given, given.csv), as_csv(results))
    for name, as_text in _SUBTITLES.items():
        if folder := given[name].value:
            for video, entries in results.items():
                path = Path(folder) / f"{video}.{name}"
                write_text_atomically(path, as_text(entries, min_score=given.min_score))
