"""Which file annotates a data set in ActivityNet's layout, and which videos each split has."""

from collections.abc import Mapping
from pathlib import Path

from case_jax.data.annotations import AnnotatedVideo
from case_jax.data.info import info_path
from case_jax.data.labelled_features import LABELS
from case_jax.data.names import find_name, is_hidden, read_names, split_path
from case_jax.data.similar import did_you_mean
from case_jax.errors import InputError

__all__ = ["find_annotations", "videos_of_split"]


def find_annotations(data_dir: Path, named: str | None) -> Path:
    """The file of annotations: the one that dataset.json names, the only other .json file, or labels.csv.

    Args:
        data_dir: the data set's folder.
        named: the field "annotations" of dataset.json, if it has one.

    Returns:
        The file's path.

    Raises:
        InputError: if no file is named and there is not exactly one.
    """
    if named is not None:
        return data_dir / named
    facts = info_path(data_dir).name
    listed = (path for path in data_dir.glob("*.json") if not is_hidden(path.name))
    found = sorted(path for path in listed if path.name != facts)
    if not found and (data_dir / LABELS).is_file():
        return data_dir / LABELS
    if len(found) != 1:
        names = f" ({', '.join(path.name for path in found[:4])})" if found else ""
        raise InputError(
            f"{data_dir}: holds {len(found)} .json files{names}; expected one with annotations, or its name "
            f"as 'annotations' in {facts}"
        )
    return found[0]


def videos_of_split(
    data_dir: Path, split: str, subset: str, database: Mapping[str, AnnotatedVideo], path: Path
) -> dict[str, AnnotatedVideo]:
    """The videos of a split: those that its split file lists or, without such a file, those of its subset.

    Args:
        data_dir: the data set's folder.
        split: "train" or "test".
        subset: the split's name in the annotations.
        database: all annotated videos.
        path: the file of annotations, for messages.

    Returns:
        Video name, as the annotations have it -> its entry.

    Raises:
        InputError: if there is no such video, or a listed video is not annotated, is of another subset, or is
            listed twice.
    """
    names_path = split_path(data_dir, split)
    if names_path.exists():
        return _listed(names_path, subset, database, path)
    videos = {video: entry for video, entry in database.items() if entry.subset == subset}
    if not videos:
        subsets = ", ".join(sorted({repr(v.subset) for v in database.values()})) or "none"
        raise InputError(
            f"{path}: has no video of subset {subset!r}, only of {subsets}; expected some, or "
            f"{names_path.name} beside it"
        )
    return videos


def _listed(
    names_path: Path, subset: str, database: Mapping[str, AnnotatedVideo], path: Path
) -> dict[str, AnnotatedVideo]:
    videos: dict[str, AnnotatedVideo] = {}
    for video in read_names(names_path):
        known = find_name(video, database)
        if known is None:
            near = did_you_mean(video, database)
            raise InputError(f"{path}: has no video {video!r}{near}; expected all of {names_path}")
        if database[known].subset not in ("", subset):
            raise InputError(
                f"{path}: video {known!r} is of subset {database[known].subset!r}; expected {subset!r} "
                f"because {names_path} lists it"
            )
        if known in videos:
            raise InputError(
                f"{names_path}: names {known!r} with and without the prefix v_; expected it once"
            )
        videos[known] = database[known]
    return videos
