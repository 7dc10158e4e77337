"""One video's features left on disk: opened anew at each access, and read a few snippets at a time."""

from collections.abc import Iterator, Mapping

import numpy as np

from case_jax.data.formats import Source, check_finite, format_of, open_source, select_columns
from case_jax.errors import InputError

__all__ = ["FeatureFiles", "KeptFeatures", "Widths", "check_shapes", "read_snippets", "video_length"]

Widths = dict[str, tuple[int, Source | str]]  # stream -> (D, where that was seen first)


class FeatureFiles(Mapping):
    """Stream -> (T_v, D) array, opened anew at each access; small to keep and to send to a process.

    Values are not checked here; `read_snippets` checks what it reads.

    Attributes:
        sources: stream -> where it is.
        num_snippets: T_v, if it is known without opening a file.
    """

    def __init__(self, sources: Mapping[str, Source], num_snippets: int | None = None):
        self.sources, self.num_snippets = dict(sources), num_snippets

    def __getitem__(self, stream: str) -> np.ndarray:
        """The stream's (T_v, D) array, opened."""
        return open_source(self.sources[stream])

    def __iter__(self) -> Iterator[str]:
        """The streams' names."""
        return iter(self.sources)

    def __len__(self) -> int:
        """How many streams there are."""
        return len(self.sources)


class KeptFeatures(FeatureFiles):
    """`FeatureFiles` that read each file only once, if its format has to be read whole (.csv, HDF5).

    Such arrays stay in memory as long as this object. A mapped file (.npy) is mapped anew at each access.
    """

    def __init__(self, sources: Mapping[str, Source], num_snippets: int | None = None):
        super().__init__(sources, num_snippets)
        self._kept: dict[Source, np.ndarray] = {}

    def __getitem__(self, stream: str) -> np.ndarray:
        """The stream's (T_v, D) array, opened or kept."""
        source = self.sources[stream]
        if format_of(source.path).mapped:
            return super().__getitem__(stream)
        whole = source._replace(columns=None)  # an array of streams side by side is kept once
        if whole not in self._kept:
            self._kept[whole] = open_source(whole)
        return select_columns(source, self._kept[whole])


def check_shapes(sources: Mapping[str, Source], widths: Widths, *, keep: bool = False) -> FeatureFiles:
    """Opens one video's streams and checks that their shapes fit together.

    Args:
        sources: stream -> where it is.
        widths: stream -> (D, where that was seen first). Streams are checked against it; new streams are
            added to it.
        keep: whether a file that is read whole to see its shape (.csv, HDF5) is kept in memory, for reading
            snippets of it soon.

    Returns:
        `FeatureFiles`, or `KeptFeatures`.

    Raises:
        InputError: for a missing or unreadable file, a width other than in ``widths``, or a length that
            differs between the streams.
    """
    files = (KeptFeatures if keep else FeatureFiles)(sources)
    expected_length = None
    for stream, source in sources.items():
        length, width = files[stream].shape
        known_width, known_from = widths.setdefault(stream, (width, source))
        if width != known_width:
            raise InputError(f"{source}: has {width} channels; expected {known_width} as in {known_from}")
        expected_length = length if expected_length is None else expected_length
        if length != expected_length:
            first = next(iter(sources.values()))
            raise InputError(f"{source}: has {length} snippets; expected {expected_length} as in {first}")
    files.num_snippets = expected_length
    return files


def video_length(video: Mapping[str, np.ndarray]) -> int:
    """T_v of a video's features, in memory or on disk, without opening a file if it is known."""
    known = video.num_snippets if isinstance(video, FeatureFiles) else None
    return len(next(iter(video.values()))) if known is None else known


def read_snippets(video: Mapping[str, np.ndarray], stream: str, snippets: np.ndarray) -> np.ndarray:
    """Reads some snippets of a video, from memory or from disk.

    Args:
        video: stream -> (T_v, D), or `FeatureFiles`.
        stream: which stream.
        snippets: (T,) int, positions in the video.

    Returns:
        (T, D); float32 if from disk.

    Raises:
        InputError: if a value read from disk is not finite.
    """
    rows = video[stream][snippets]
    if isinstance(video, FeatureFiles):
        with np.errstate(over="ignore"):  # an overflow becomes infinite, which is refused below
            rows = np.asarray(rows, np.float32)
        check_finite(rows, str(video.sources[stream]), snippets)
    return rows
