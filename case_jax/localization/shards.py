"""Prediction files that belong together: shards of one command, patterns, and merging them into one set."""

import glob
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from case_jax.data.names import find_name
from case_jax.errors import InputError
from case_jax.localization.detections import read_predictions

__all__ = ["Merged", "find_files", "merge_predictions", "shard_path"]


def shard_path(path: str | os.PathLike, index: int, count: int) -> Path:
    """The path of one shard's part of a file.

    Args:
        path: the whole file.
        index: of the shard, from 0.
        count: how many shards there are.

    Raises:
        InputError: if ``path`` has no file name.

    Example:
        >>> shard_path("found.json", 2, 4).name
        'found-00002-of-00004.json'
    """
    path = Path(path)
    if not path.name:
        raise InputError(f"{path}: cannot be written (Is a directory)")
    return path.with_name(f"{path.stem}-{index:05d}-of-{count:05d}{path.suffix}")


def find_files(named: str) -> list[str]:
    """The prediction files that a text names: one path, or paths and patterns separated by commas.

    An existing path is never treated as a pattern, nor divided at its commas.

    Args:
        named: for example "p.json", "p-*.json" or "a.json,b.json".

    Raises:
        InputError: if a pattern matches no file, a name is empty, or one of several shards is missing.
    """
    if os.path.exists(named):
        return [named]
    found: dict[str, str] = {}  # absolute path -> as it was named
    for part in named.split(","):
        files = [part]
        if not os.path.exists(part) and glob.has_magic(part):
            files = sorted(glob.glob(part))
            if not files:
                raise InputError(f"--predictions: {part!r} matches no file; expected prediction files")
        elif not part:
            raise InputError(f"--predictions: {named!r} has an empty name; expected files, a,b,c")
        for file in files:
            found.setdefault(os.path.abspath(file), file)
    if glob.has_magic(named) or len(found) > 1:
        _check_shards(found)
    return list(found.values())


def _check_shards(files: Mapping[str, str]) -> None:
    """Rejects a set of shards, name-00000-of-00004.json and so on, of which some are missing."""
    shards: dict[tuple[str, str, str], set[int]] = {}  # beginning, count and end of the name -> indices
    for path, named in files.items():
        match = re.fullmatch(r"(.*-)(\d{5})-of-(\d{5})(.*)", Path(path).name)
        if match:
            before, index, count, after = match.groups()
            before = os.path.join(os.path.dirname(named), before)
            shards.setdefault((before, count, after), set()).add(int(index))
    for (before, count, after), there in shards.items():
        missing = [f"{i:05d}" for i in range(int(count)) if i not in there]
        if missing:
            shown = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
            raise InputError(
                f"--predictions: {before}*-of-{count}{after} lacks {shown}; expected all {int(count)} shards"
            )


class Merged(NamedTuple):
    """The predictions of several files."""

    predictions: dict[str, list[dict]]  # under the ground truth's names of videos
    other_videos: dict[str, int]  # videos that the ground truth does not have -> how many detections they had


def merge_predictions(
    paths: Sequence[str],
    videos: Collection[str],
    labels: Collection[str],
    *,
    truth_path: str,
    strict: bool = False,
    labelled: bool = True,
) -> Merged:
    """The checked predictions of several files.

    Args:
        paths: prediction files in ActivityNet form.
        videos: names that the ground truth knows; predictions may add or leave out the prefix "v_".
        labels: labels that the ground truth knows.
        truth_path: the ground truth's file, for messages.
        strict: whether to refuse videos and labels that the ground truth does not know. Otherwise such videos
            are counted, and such labels are kept.
        labelled: whether every detection needs a label. Proposals need none; without one, theirs is "".

    Returns:
        `Merged`; entries are as `case_jax.localization.detections.read_predictions` has them.

    Raises:
        InputError: if a file cannot be read, a video is there twice, or ``strict`` refuses one.
    """
    merged = Merged({}, {})
    where: dict[str, str] = {}
    for path in paths:
        for name, entries in read_predictions(path, labelled=labelled).items():
            video = find_name(name, videos)
            if video is None:
                if strict:
                    raise InputError(f"{path}: has video {name!r}; expected videos of {truth_path}")
                merged.other_videos[name] = merged.other_videos.get(name, 0) + len(entries)
                continue
            if where.setdefault(video, path) != path:
                raise InputError(
                    f"{path}: has video {name!r}, as {where[video]} has; expected each video in one file"
                )
            if video in merged.predictions:
                raise InputError(
                    f"{path}: has video {video!r} with and without the prefix v_; expected it once"
                )
            if strict:
                known = labels if labelled else {*labels, ""}
                strange = next((e["label"] for e in entries if e["label"] not in known), None)
                if strange is not None:
                    raise InputError(
                        f"{path}: video {name!r} has label {strange!r}; expected one of the "
                        f"{len(labels)} labels of {truth_path}"
                    )
            merged.predictions[video] = entries
    return merged
