"""Detections for spreadsheets (CSV) and for video players (WebVTT and SubRip subtitles), as text.

Entries are those of the ActivityNet format: {"label": str, "score": float, "segment": [start, end]}, seconds.
"""

import csv
import html
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import NamedTuple

__all__ = ["as_csv", "as_srt", "as_webvtt", "most_certain"]


def as_csv(results: Mapping[str, Sequence[Mapping]]) -> str:
    r"""One row per detection, as comma-separated values.

    Fields are quoted where RFC 4180 asks for it, and lines end with "\n". Names are written unchanged, even a
    name that begins with "=", which some spreadsheets would run as a formula.

    Args:
        results: video name -> entries, times in seconds.

    Returns:
        The line "video,label,start,end,score", then a line per entry, in the order given. Numbers have all
        the digits that are needed to read the same float64 again.

    Example:
        >>> jump = {"label": "Jump, high", "score": 0.1, "segment": [2, 3.5]}
        >>> print(as_csv({"v": [jump]}), end="")
        video,label,start,end,score
        v,"Jump, high",2.0,3.5,0.1
    """
    lines: list[str] = []
    # With lineterminator="\n", Python would not quote a lone "\r" in a name.
    rows = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n")
    rows.writerow(["video", "label", "start", "end", "score"])
    for video, entries in results.items():
        for entry in entries:
            numbers = (*entry["segment"], entry["score"])
            rows.writerow([video, entry["label"], *(repr(float(number)) for number in numbers)])
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


def most_certain(entries: Sequence[Mapping], *, min_score: float) -> list[Mapping]:
    """The entries to show to a viewer, such that no label is there twice at any moment.

    Entries are taken from the surest down. An entry is dropped if it overlaps a kept entry of its label;
    segments that only touch do not overlap. Of equal scores, the entry that starts (then ends) earlier goes
    first.

    Args:
        entries: detections of one video, in any order.
        min_score: entries with lower scores are dropped.

    Returns:
        The kept entries, by start, end and label.

    Example:
        >>> spans = {0.9: [4, 8], 0.5: [2, 5], 0.4: [8, 9]}
        >>> jumps = [{"label": "Jump", "score": p, "segment": span} for p, span in spans.items()]
        >>> [entry["segment"] for entry in most_certain(jumps, min_score=0.1)]
        [[4, 8], [8, 9]]
    """
    kept: dict[str, list[Mapping]] = {}
    likely = [entry for entry in entries if entry["score"] >= min_score]
    for entry in sorted(likely, key=lambda entry: (-entry["score"], *entry["segment"])):
        of_label = kept.setdefault(entry["label"], [])
        if not any(_overlap(entry["segment"], other["segment"]) for other in of_label):
            of_label.append(entry)
    together = [entry for of_label in kept.values() for entry in of_label]
    return sorted(together, key=lambda entry: (*entry["segment"], entry["label"], -entry["score"]))


def as_webvtt(entries: Sequence[Mapping], *, min_score: float) -> str:
    r"""Subtitles in the Web Video Text Tracks format: a cue "label  score" for each of `most_certain`.

    Times are rounded to milliseconds. A cue that would start before the video starts at 0, and a cue that
    would last no millisecond lasts one. Where that makes a cue reach into the next cue of its label, the next
    cue starts at the first one's end, which is at most a millisecond later; it is left out if nothing remains
    of it.

    Args:
        entries: detections of one video, in any order.
        min_score: entries with lower scores are not shown.

    Returns:
        The file's text, with "\n" for line ends, to be written as UTF-8. In labels, line breaks become
        spaces, and "&", "<" and ">" become character references, as the format asks (so that no "-->"
        remains).

    Example:
        >>> print(as_webvtt([{"label": "Jump", "score": 0.826, "segment": [61.5, 3600]}], min_score=0.5))
        WEBVTT
        <BLANKLINE>
        00:01:01.500 --> 01:00:00.000
        Jump  0.83
        <BLANKLINE>
    """
    blocks = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{html.escape(cue.text, quote=False)}\n"
        for cue in _cues(entries, min_score)
    ]
    return "WEBVTT\n\n" + "\n".join(blocks)


def as_srt(entries: Sequence[Mapping], *, min_score: float) -> str:
    r"""Subtitles in the SubRip format: a cue "label  score" for each of `most_certain`.

    Times are those of `as_webvtt`. SubRip has no escapes, so labels are written unchanged and a player may
    take "<b>" in a label for bold. Only line breaks become spaces, and "-->", which marks a line of times,
    becomes "→".

    Args:
        entries: detections of one video, in any order.
        min_score: entries with lower scores are not shown.

    Returns:
        The file's text, cues numbered from 1, with "\n" for line ends (which players accept as they do
        "\r\n"), to be written as UTF-8.

    Example:
        >>> print(as_srt([{"label": "Jump", "score": 0.826, "segment": [61.5, 3600]}], min_score=0.5))
        1
        00:01:01,500 --> 01:00:00,000
        Jump  0.83
        <BLANKLINE>
    """
    return "\n".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text.replace('-->', '→')}\n"
        for number, cue in enumerate(_cues(entries, min_score), start=1)
    )


class _Cue(NamedTuple):
    start: int  # milliseconds
    end: int  # milliseconds, above start
    text: str  # one line


def _overlap(segment: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two segments share more than a point; a segment without length shares nothing."""
    return min(segment[1], other[1]) > max(segment[0], other[0])


def _cues(entries: Sequence[Mapping], min_score: float) -> list[_Cue]:
    """Cues in order of their start; cues of one label do not overlap."""
    cues = []
    shown_until: dict[str, int] = {}
    for entry in most_certain(entries, min_score=min_score):
        start, end = (max(0, round(1000 * bound)) for bound in entry["segment"])
        end = max(end, start + 1)
        start = max(start, shown_until.get(entry["label"], 0))
        if start < end:
            shown_until[entry["label"]] = end
            label = " ".join(entry["label"].splitlines())
            cues.append(_Cue(start, end, f"{label}  {entry['score']:.2f}"))
    return sorted(cues)


def _clock(milliseconds: int, point: str) -> str:
    """HH:MM:SS.mmm, with more digits for the hours from 100 on."""
    seconds, thousandths = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{thousandths:03}"
