"""What the doctor sees when it opens the features of a data set."""

import hashlib

import numpy as np

from case_jax.data.doctor_findings import Counter, Finding
from case_jax.data.doctor_videos import UsedVideo
from case_jax.data.info import DatasetInfo
from case_jax.data.sources import Source, open_source
from case_jax.errors import InputError

__all__ = ["FeatureExamination"]


class FeatureExamination:
    """Opens the features of one video after another."""

    _TOLERANCE = 0.1  # share of the video's duration by which its features may be longer or shorter

    def __init__(self, info: DatasetInfo, *, strict: bool = False):
        self.info = info
        self.widths: dict[str, int] = {}  # stream -> D of the first video
        self.lengths: dict[tuple[str, str], int] = {}  # (split, video) -> snippets of its shortest stream
        self._seen: dict[bytes, str] = {}  # digest of features -> the first video that has them
        self._unreadable = Counter("features that cannot be read", "refused", fatal=True)
        self._other_width = Counter("other widths than the first video", "refused", fatal=True)
        self._unequal = Counter("streams of different lengths", "refused", fatal=True)
        self._by_one = Counter(
            "streams that differ by one snippet",
            "refused (--strict)" if strict else "cut to the shorter; --strict refuses them",
            fatal=strict,
        )
        self._orientation = _Orientation()
        self._duration = Counter(
            "lengths that do not fit the duration", "used as they are: check the frame rate and stride"
        )
        self._twin = Counter("the same features under two names", "both are used")
        self.not_finite = Counter("values that are not finite", "refused when they are read", fatal=True)

    def examine(self, video: UsedVideo, *, values: bool) -> None:
        """Examines one video; ``values`` says whether to read all of its features."""
        lengths, digest = [], hashlib.sha256()
        for stream, source in video.sources.items():
            try:
                features = open_source(source)
            except InputError as error:
                self._unreadable.add(video.split, str(error))
                return
            length, width = features.shape
            lengths.append(length)
            self._orientation.see(video.split, stream, source, length, width)
            if self.widths.setdefault(stream, width) != width:
                self._other_width.add(video.split, f"{source}: {width}, not {self.widths[stream]}")
            digest.update(repr(features.shape).encode())
            digest.update(np.ascontiguousarray(features[:: max(1, length // 4)]).tobytes())
            if values and not _all_finite(features):
                self.not_finite.add(video.split, str(source))
        if len(set(lengths)) > 1:
            by_one = max(lengths) - min(lengths) == 1
            counter = self._by_one if by_one else self._unequal
            counter.add(video.split, f"{video.name}: {' and '.join(map(str, lengths))} snippets")
        self.lengths[video.split, video.name] = min(lengths)
        self._compare_duration(video, lengths[0])
        first = self._seen.setdefault(digest.digest(), video.name)
        if first != video.name:
            self._twin.add(video.split, f"{video.name} and {first}")

    def _compare_duration(self, video: UsedVideo, length: int) -> None:
        duration, step = video.entry.duration, self.info.seconds_per_snippet
        if not duration or self.info.rescaled:
            return
        if abs(length * step - duration) > max(2 * step, self._TOLERANCE * duration):
            self._duration.add(
                video.split,
                f"{video.name}: {length} snippets are {length * step:.1f} s, the video {duration:.1f} s",
            )

    def findings(self) -> list[Finding]:
        """All but `not_finite`."""
        counters = (
            self._unreadable,
            self._other_width,
            self._orientation.counter(),
            self._unequal,
            self._by_one,
            self._duration,
            self._twin,
        )
        return [counter.finding() for counter in counters]


class _Orientation:
    """Tells whether files have the channels in rows: as many rows in all of them, but not as many columns."""

    _FEWEST = 64  # channels; fewer rows in all files may be the snippets of short videos

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[str, Source, int, int]]] = {}  # stream -> split, file and its shape

    def see(self, split: str, stream: str, source: Source, rows: int, columns: int) -> None:
        """Takes down the shape of one file."""
        self._seen.setdefault(stream, []).append((split, source, rows, columns))

    def counter(self) -> Counter:
        """The files of the streams of which that is so."""
        turned = Counter(
            "files with the channels in rows",
            "refused: expected (snippets, channels)",
            fatal=True,  # their widths differ
        )
        for files in self._seen.values():
            shapes = {(rows, columns) for _, _, rows, columns in files}
            rows = {rows for rows, _ in shapes}
            if len(rows) == 1 < len(shapes) and min(rows) >= self._FEWEST:
                for split, source, *shape in files:
                    turned.add(split, f"{source}: {shape[0]} rows, as in all files, and {shape[1]} columns")
        return turned


def _all_finite(features: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(features, np.float32)).all())
