"""One self-contained page that plays videos beside the actions found in them.

It needs jinja2 (extra `plots`) and, for the small pictures, the extra `video`. The videos stay where they
are: the page refers to them by their path relative to its own folder. All else is in the file.
"""

import base64
import contextlib
import math
import os
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from case_jax.data.files import write_text_atomically
from case_jax.localization.curves import Curves
from case_jax.report.packing import as_bytes, pack
from case_jax.report.standalone import render, require_jinja2
from case_jax.video.containers import VideoFile
from case_jax.video.playable import coding_of, write_playable
from case_jax.video.thumbnails import thumbnails

__all__ = ["MAX_CLASSES", "MAX_PICTURES", "MAX_POINTS", "PagedVideo", "write_video_page"]

MAX_POINTS = 2000  # of a curve; more snippets are joined by their maximum
MAX_CLASSES = 20  # classes of a video whose T-CAS is in the page
MAX_PICTURES = 40  # small pictures of a video, at its surest detections
_PICTURES_OF_A_PAGE = 1000  # about 6 kB each; many videos share them evenly


class PagedVideo(NamedTuple):
    """A video and what was found in it."""

    name: str
    path: Path  # a video file, or a folder of numbered images
    duration: float  # seconds
    detections: list[dict]  # {"label": str, "segment": [start, end], "score": float}; seconds, surest first
    curves: Curves


def write_video_page(
    output: Path,
    videos: Sequence[PagedVideo],
    *,
    classes: Sequence[str],
    title: str,
    min_score: float,
    copies: Path | None = None,
) -> None:
    """Writes the page.

    Args:
        output: the file to write. Moved, it finds the videos only if they move along.
        videos: V >= 1 videos with different names, in the order in which they are listed.
        classes: names of the G classes, in the order of `Curves.classes`; all labels are among them.
        title: the page's heading.
        min_score: where the score slider stands first; it hides detections below.
        copies: a folder for copies, which browsers play, of the videos that they do not: GIFs, folders of
            images, MPEG-4 Part 2 and the like; see `case_jax.video.playable`. Without it, the page says of
            such a video that it cannot be played, and its timeline works all the same.

    Raises:
        InputError: if the page cannot be written, a video is missing or is none, or a package is missing.
    """
    require_jinja2()
    pictures = max(1, min(MAX_PICTURES, _PICTURES_OF_A_PAGE // max(1, len(videos))))
    folder = Path(output).parent
    sources = [_source(video, folder, copies) for video in videos]
    packed = [
        {**source, **_video(video, classes, pictures)} for source, video in zip(sources, videos, strict=True)
    ]
    data = {
        "classes": list(classes),
        **_score_range(videos, min_score),
        "videos": packed,
    }
    page = render(
        "video.html",
        styles=["page.css", "video.css"],
        scripts=["common.js", "video.js"],
        data=data,
        title=title,
        total=len(videos),
        notes=_notes(videos, classes, pictures),
        copied=sum(source["copied"] for source in sources),
    )
    write_text_atomically(output, page)


def _score_range(videos: Sequence[PagedVideo], min_score: float) -> dict[str, float]:
    """Range and first position of the score slider."""
    scores = [entry["score"] for video in videos for entry in video.detections] or [0.0, 1.0]
    lowest, highest = math.floor(100 * min(scores)) / 100, math.ceil(100 * max(scores)) / 100
    return {"lowest": lowest, "highest": highest, "score": min(max(min_score, lowest), highest)}


def _notes(videos: Sequence[PagedVideo], classes: Sequence[str], pictures: int) -> list[str]:
    """What the page leaves out, where it does."""
    notes = []
    if any(len(np.unique(video.curves.times)) > MAX_POINTS for video in videos):
        notes.append(
            f"Curves of long videos are drawn from at most {MAX_POINTS:,} points; each is the "
            "highest value of the snippets around it."
        )
    if len(classes) > MAX_CLASSES:
        notes.append(
            f"T-CAS is kept for {MAX_CLASSES} classes of each video: the detected ones, then the highest."
        )
    if any(len(video.detections) > pictures for video in videos):
        notes.append(f"The {pictures} surest detections of a video have small pictures, of their middles.")
    return notes


# One video


def _video(video: PagedVideo, classes: Sequence[str], pictures: int) -> dict[str, Any]:
    """What the script shows of a video, beside its source."""
    index = {name: i for i, name in enumerate(classes)}
    found = [[index[d["label"]], *_rounded(d["segment"]), round(d["score"], 4)] for d in video.detections]
    shown = _classes([label for label, *_ in found], video.curves.classes)
    return {
        "name": video.name,
        "seconds": round(video.duration, 4),
        "found": found,
        "pictures": _pictures(video, pictures),
        "classes": shown,
        **_curves(video.curves, video.duration, shown),
    }


def _rounded(segment: Sequence[float]) -> list[float]:
    return [round(float(second), 4) for second in segment]


def _source(video: PagedVideo, folder: Path, copies: Path | None) -> dict[str, Any]:
    """Where the player finds a video or its copy, and at which of the player's times the first frame is."""
    coding = coding_of(video.path)
    copied = copies is not None and not coding.played
    if copied:
        assert copies is not None
        played, begin = copies / f"{video.name}.mp4", 0.0
        write_playable(video.path, played, duration=video.duration)
    else:
        played, begin = video.path, _begin(video.path)
    tried = copied or coding.container not in ("images", "gif")  # others may be played by some browsers
    return {
        "file": video.path.absolute().name,
        "coding": str(coding),
        "copied": copied,
        "address": urllib.parse.quote(os.fsencode(_relative(played, folder))) if tried else None,
        "begin": begin,
    }


def _begin(path: Path) -> float:
    """Seconds of the player at the first frame: sound may begin before."""
    if path.is_dir():
        return 0.0
    with contextlib.closing(VideoFile(path)) as opened:
        return max(0.0, round(opened.start, 4))


def _relative(path: Path, folder: Path) -> str:
    """Browsers resolve ".." in the text of an address, without following links; so does this."""
    return Path(os.path.relpath(os.path.abspath(path), os.path.abspath(folder))).as_posix()


def _pictures(video: PagedVideo, count: int) -> list[str | None]:
    """Base64 of JPEG files, of the middles of the surest detections."""
    middles = [sum(entry["segment"]) / 2 for entry in video.detections[:count]]
    made = thumbnails(video.path, middles, duration=video.duration) if middles else []
    return [None if one is None else base64.b64encode(one).decode() for one in made]


def _classes(found: Sequence[int], sequences: np.ndarray) -> list[int]:
    """The classes whose T-CAS is kept: detected ones, the surest first, then those of the highest T-CAS."""
    others = np.argsort(-sequences.max(axis=0), kind="stable").tolist()
    return list(dict.fromkeys([*found, *others]))[:MAX_CLASSES]


def _curves(curves: Curves, duration: float, shown: Sequence[int]) -> dict[str, Any]:
    """Points of the curves, joined to groups of snippets.

    "starts" has the second at which each point's snippets start. "tracks" is base64 of rows of bytes, one
    byte per point: P^A, P^T and P^M where there are clusters, then the T-CAS of each class shown.
    """
    # Of a video shorter than the network's sampling, the snippets repeat.
    times, distinct = np.unique(curves.times, return_index=True)
    size = -(-len(times) // MAX_POINTS)
    starts = np.arange(0, len(times), size)
    rows = [curves.attention]
    if curves.transformed is not None and curves.mixed is not None:
        rows += [curves.transformed, curves.mixed]
    rows += [curves.classes[:, label] for label in shown]
    return {
        "step": round(float(np.median(np.diff(times))), 6) if len(times) > 1 else duration,
        "starts": [round(float(second), 3) for second in times[starts]],
        "clusters": curves.transformed is not None and curves.mixed is not None,
        "tracks": pack([as_bytes(np.maximum.reduceat(row[distinct], starts)) for row in rows]),
    }
