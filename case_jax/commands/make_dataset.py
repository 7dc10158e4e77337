"""Makes a data set from videos and a table of their labels: extracts features and writes what training reads.

python -m experiments.make_dataset --videos=V --labels=labels.csv --output=D

The table's first line names its columns: video and label. Several rows, or a;b, give a video several labels.
The columns start and end, in seconds, are optional: videos with times test, the others train; a column subset
(train or test) decides otherwise. Without any times every fifth video tests, with its labels from its start
to its end; mAP then says whether classes are found, not when.

Features that D has already are kept. D is then what `--data_dir=D` of training reads.
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
from case_jax.data.label_table import (
    LabelledVideo,
    Splits,
    check_splits,
    name_of,
    read_labels,
    split_videos,
)
from case_jax.data.own_videos import write_own_videos
from case_jax.data.thumos import ThumosPaths
from case_jax.errors import InputError
from case_jax.video.extract import Extractor, FolderOfFeatures
from case_jax.video.frames import find_videos

__all__ = ["define_flags", "main"]


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("videos", None, "folder of videos", flag_values=given)
    flags.DEFINE_string("labels", None, "table (CSV): video, label[, start, end, subset]", flag_values=given)
    flags.DEFINE_string("output", None, "folder of the data set", flag_values=given)
    define_extraction_flags(given)


def main(given: flags.FlagValues) -> None:
    """Extracts what is missing, then writes annotations, splits and dataset.json."""
    place = cli.require(given, "videos", "a folder of videos")
    table = cli.require(given, "labels", "a table of labels")
    paths = ThumosPaths(Path(cli.require(given, "output", "the data set's folder")))
    check_outputs(folders={"output": paths.data_dir})
    listed = read_labels(table)
    videos = find_videos(place)
    labelled = _matched(table, listed, videos, place)
    splits = split_videos(table, labelled)
    extraction, weights = extraction_from_flags(given)
    folders = {split: FolderOfFeatures(paths.features(split), extraction) for split in ("train", "test")}
    console = Console(soft_wrap=True, markup=False, highlight=False)
    if left_out := len(videos) - len(labelled):
        console.print(f"{left_out:,} of {len(videos):,} videos have no label in {table} and are left out")
    if not splits.timed:
        console.print(
            f"{table} has no times: labels of the {len(splits.test):,} test videos are taken to last from "
            "start to end, so mAP says whether classes are found, not when"
        )
    console.print(describe(extraction))
    extractor = Extractor(extraction, weights, batch_size=given.clips_at_once)
    bad: dict[str, str] = {}
    for split, folder in folders.items():
        named = {name: videos[name] for name in getattr(splits, split)}
        bad |= extract_missing(
            named,
            folder,
            extractor,
            num_workers=num_workers_of(given),
            strict=given.strict,
            console=console,
        )
    splits = check_splits(table, _without(splits, bad))
    known = folders["train"].videos | folders["test"].videos
    info = write_own_videos(paths.data_dir, splits, extraction, known, table=table)
    console.print(
        f"{len(splits.train):,} training and {len(splits.test):,} test videos, "
        f"{len(info.classes):,} classes: {paths.data_dir}"
    )
    end_with_bad(bad, f"{len(bad):,} videos cannot be read and are left out", console)


def _matched(table: str, labelled: dict[str, LabelledVideo], videos: dict[str, Path], place: str):
    """The rows of the table under the names of the videos."""
    found: dict[str, LabelledVideo] = {}
    for listed, video in labelled.items():
        name = name_of(listed, videos)
        if name is None:
            raise InputError(f"{table}: names video {listed!r}; expected videos in {place}")
        if name in found:
            raise InputError(f"{table}: names video {name!r} in two ways; expected one")
        found[name] = video
    return found


def _without(splits: Splits, bad: dict[str, str]) -> Splits:
    train, test = (
        {name: video for name, video in labelled.items() if name not in bad}
        for labelled in (splits.train, splits.test)
    )
    return Splits(train, test, splits.timed)
