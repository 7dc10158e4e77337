"""Finding videos in folders."""

import os
import re
from pathlib import Path

from case_jax.data.files import refuse_pipes
from case_jax.data.names import is_hidden
from case_jax.errors import InputError

__all__ = ["find_videos", "numbered_images"]

_EXPECTED = "expected a video, or a folder of videos or of numbered images"
_VIDEOS = frozenset(
    ".3g2 .3gp .asf .avi .divx .f4v .flv .gif .m2t .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mov .mp4 .mpe "
    ".mpeg .mpg .mts .mxf .ogm .ogv .qt .rm .rmvb .ts .vob .webm .wmv .y4m".split()
)
_NUMBERED = re.compile(r"(.*?)([0-9]+)\.(?:jpe?g|png)", re.IGNORECASE | re.DOTALL)


def find_videos(folder_or_file: str | os.PathLike) -> dict[str, Path]:
    """Names the videos below a folder.

    A video is a file with the ending of one (.mp4, .mkv, .webm, .avi, .mov, .gif, ...), or a folder that
    holds numbered .jpg or .png images and no video file. Hidden files and folders, whose names begin with a
    dot, are left out. Links to folders are followed; each folder is looked at once.

    Args:
        folder_or_file: a folder; or one video, whatever its ending.

    Returns:
        Name -> path, in the order of the names. A file's name is without its ending, as in "a" for
        "train/a.mp4".

    Raises:
        InputError: if there is nothing at the path, no video below it, or two videos have one name.
    """
    root = Path(folder_or_file)
    refuse_pipes(root, expected=_EXPECTED)
    if not root.exists():
        raise InputError(f"{root}: no such file or folder; {_EXPECTED}")
    if not root.is_dir():
        return {root.stem: root}
    found: dict[str, Path] = {}
    for name, path in _below(root):
        if name in found:
            one, other = (str(place.relative_to(root)) for place in (found[name], path))
            raise InputError(f"{root}: {one} and {other} are both named {name!r}; expected each name once")
        found[name] = path
    if not found:
        raise InputError(f"{root}: holds no video; {_EXPECTED}")
    return dict(sorted(found.items()))


def _below(root: Path):
    """Pairs of name and path of all videos below a folder."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        # A link may lead back to a folder above it.
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if not is_hidden(name))
        if real in seen:
            continue
        seen.add(real)
        videos = sorted(
            name for name in files if not is_hidden(name) and Path(name).suffix.lower() in _VIDEOS
        )
        for name in videos:
            yield Path(name).stem, Path(folder, name)
        if not videos and any(_number(name) for name in files):
            yield Path(real if folder == os.curdir else folder).name, Path(folder)


def _number(name: str) -> re.Match | None:
    return None if is_hidden(name) else _NUMBERED.fullmatch(name)


def numbered_images(folder: str | os.PathLike) -> list[Path]:
    """The images of a folder whose names end in a number, in the order of the numbers.

    Args:
        folder: holds .jpg, .jpeg or .png files as in "img_00001.jpg"; others are left out.

    Returns:
        Their paths, at least one. Numbers that are missing are passed over.

    Raises:
        InputError: if there is none, a number is there twice, or the images are of several series.
    """
    folder = Path(folder)
    images: dict[int, str] = {}
    series: dict[str, str] = {}
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); {_EXPECTED}") from None
    for name in names:
        if not (match := _number(name)):
            continue
        text, number = match[1], int(match[2])
        series.setdefault(text, name)
        if len(series) > 1:
            one, other = series.values()
            raise InputError(f"{folder}: {one} and {other} are of two series of images; expected one")
        if number in images:
            one = images[number]
            raise InputError(f"{folder}: {one} and {name} have one number; expected each number once")
        images[number] = name
    if not images:
        raise InputError(f"{folder}: is a folder without videos or numbered images; {_EXPECTED}")
    return [folder / images[number] for number in sorted(images)]
