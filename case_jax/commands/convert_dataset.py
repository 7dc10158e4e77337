"""Converts a data set of W-TALC, 3C-Net, CO2-Net and others of that line to the THUMOS14 layout.

python -m experiments.convert_dataset --input=FOLDER --output=D

The folder holds <name>-I3D-JOINTFeatures.npy and <name>-Annotations. They are read without running anything
in them, and one video at a time. D is then what `--data_dir=D` of training reads. After Ctrl-C the same
command goes on.

labels_all.npy has errors that its authors know. So training videos have the labels of their segments, and
those of labels_all only where they have no segment. Test videos have to have segments.
"""

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from absl import flags
from rich.console import Console

from case_jax.commands import cli
from case_jax.commands.ending import ending_on_signals
from case_jax.commands.progress import videos_bar
from case_jax.data.wtalc import (
    OFTEN_LEFT_OUT,
    Labels,
    WtalcAnnotations,
    WtalcFiles,
    WtalcVideo,
    convert_wtalc,
    find_wtalc,
    read_wtalc,
)
from case_jax.errors import InputError

__all__ = ["define_flags", "main"]

_AMBIGUOUS = "Ambiguous_test.txt"  # the field's name for THUMOS14's ambiguous intervals


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("input", None, "folder of the features and annotations", flag_values=given)
    flags.DEFINE_string("features", None, "the features, if elsewhere: a .npy file", flag_values=given)
    flags.DEFINE_string("annotations", None, "folder of annotations, if elsewhere", flag_values=given)
    flags.DEFINE_string("output", None, "folder of the data set", flag_values=given)
    flags.DEFINE_enum(
        "labels_from",
        "segments",
        get_args(Labels),
        "where labels of training videos come from if they have both",
        flag_values=given,
    )
    flags.DEFINE_bool(
        "action_free",
        False,
        "take videos with neither segments nor labels for videos without any action",
        flag_values=given,
    )
    flags.DEFINE_string("exclude", "", "videos to leave out: a,b,c", flag_values=given)
    for split, usual in (("train", "validation or training"), ("test", "test or validation")):
        flags.DEFINE_string(
            f"{split}_subset",
            None,
            f"the files' name of the videos that {split}; default {usual}, as in THUMOS14 or ActivityNet",
            flag_values=given,
        )
    flags.DEFINE_float("frames_per_second", 25.0, "of the videos, when extracted", flag_values=given)
    flags.DEFINE_float("frames_per_snippet", 16.0, "from a snippet's start to the next", flag_values=given)
    flags.DEFINE_integer(
        "rgb_channels",
        None,
        "channels of rgb; those after them are flow's. Default half of them",
        lower_bound=1,
        flag_values=given,
    )


def main(given: flags.FlagValues) -> None:
    """Reads the annotations, writes one video after the other, and says what came of it."""
    files = _files(given)
    output = cli.require(given, "output", "the data set's folder")
    for name in ("frames_per_second", "frames_per_snippet"):
        if not 1e-6 <= (value := getattr(given, name)) <= 1e9:
            raise InputError(f"--{name}: is {value}; expected a number from 1e-6 to 1e9")
    annotations = read_wtalc(
        files.annotations,
        train_subset=given.train_subset,
        test_subset=given.test_subset,
        labels=given.labels_from,
        action_free=given.action_free,
        exclude=[name.strip() for name in given.exclude.split(",") if name.strip()],
    )
    console = Console(soft_wrap=True, markup=False, highlight=False)
    written = _convert(given, files, annotations, output, console)
    for line in _described(written, given.labels_from):
        console.print(line)
    ambiguous = files.annotations / _AMBIGUOUS
    if ambiguous.is_file():
        console.print(f"ambiguous intervals, for scoring: --ambiguous={ambiguous}")
    console.print(
        f"{len(written.classes):,} classes, streams rgb and flow, one snippet every "
        f"{given.frames_per_snippet:g} frames at {given.frames_per_second:g} frames/s: {output}\n"
        f"next: case-jax check --data_dir={output}"
    )


def _files(given: flags.FlagValues) -> WtalcFiles:
    """Where the features and the annotations are: as told, or in the folder of both."""
    if given.features and given.annotations:
        return WtalcFiles(Path(given.features), Path(given.annotations))
    folder = cli.require(given, "input", "a folder of features and annotations")
    return find_wtalc(folder, features=given.features, annotations=given.annotations)


def _convert(
    given: flags.FlagValues,
    files: WtalcFiles,
    annotations: WtalcAnnotations,
    output: str,
    console: Console,
) -> WtalcAnnotations:
    num_videos, num_done = sum(map(len, annotations.videos.values())), 0
    bar, task = videos_bar(console, num_videos)
    bar.update(task, rate="")

    def done() -> None:
        nonlocal num_done
        num_done += 1
        bar.advance(task)

    with ending_on_signals(lambda: f"{num_done:,} of {num_videos:,} videos are done"), bar:
        return convert_wtalc(
            files.features,
            annotations,
            output,
            frames_per_second=given.frames_per_second,
            frames_per_snippet=given.frames_per_snippet,
            rgb_channels=given.rgb_channels,
            done=done,
        )


def _described(written: WtalcAnnotations, labels: Labels) -> list[str]:
    """What was written, what was left out, and where the annotations contradict each other."""
    lines = [
        f"{split}: {_population(videos, written.left_out[split])}" for split, videos in written.videos.items()
    ]
    if written.num_others:
        lines.append(f"{written.num_others:,} videos of other subsets are left out")
    if written.num_bad_segments:
        lines.append(f"{written.num_bad_segments:,} segments without a usable start and end are left out")
    if written.differences:
        name, of_video, of_segments = written.differences[0]
        lines.append(
            f"labels_all differs from the labels of segments in {len(written.differences):,} of "
            f"{written.num_compared:,} videos, such as {name} (labels_all: {_listed(of_video)}; segments: "
            f"{_listed(of_segments)}); training videos have those of {labels} (--labels_from)"
        )
    if often := [video.name for video in written.videos["test"] if video.name in OFTEN_LEFT_OUT]:
        lines.append(
            f"{', '.join(often)}: often left out of THUMOS14 for wrong or ambiguous annotations; "
            f"--exclude={','.join(often)} does so"
        )
    return lines


def _population(videos: Sequence[WtalcVideo], left_out: collections.Counter[str]) -> str:
    num_segments = sum(len(video.annotations) for video in videos)
    said = f"{len(videos):,} videos with {num_segments:,} segments"
    if whole := sum(bool(video.throughout) for video in videos):
        said += f", {whole:,} with labels without segments"
    if free := sum(not (video.annotations or video.throughout) for video in videos):
        said += f", {free:,} without any action"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    return f"{said} (left out: {reasons})" if reasons else said


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "none"
