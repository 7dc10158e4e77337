"""One video's features left on disk: opened anew at each access, and read a few snippets at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from case_jax.data.formats import format_of
from case_jax.data.sources import Source, check_finite, open_source, select_part
from case_jax.errors import InputError

__all__ = [
    "CheckShapes",
    "FeatureFiles",
    "KeptFeatures",
    "Widths",
    "check_lengths",
    "check_shapes",
    "num_cut",
    "read_snippets",
    "shape_checker",
    "video_length",
]

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

    @property
    def cut(self) -> bool:
        """Whether a stream has a snippet more in its file than are taken."""
        return any(source.length is not None for source in self.sources.values())

    def cut_to(self, num_snippets: int) -> None:
        """Takes only the first snippets of all streams."""
        self.num_snippets = num_snippets
        self.sources = {
            stream: source._replace(length=num_snippets) for stream, source in self.sources.items()
        }

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
    """`FeatureFiles` that read each file only once, if its format has to be read whole (all but .npy).

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
        if source.whole not in self._kept:  # an array of streams side by side is kept once
            self._kept[source.whole] = open_source(source.whole)
        return select_part(source, self._kept[source.whole])


def check_shapes(
    sources: Mapping[str, Source], widths: Widths, *, keep: bool = False, strict: bool = False
) -> FeatureFiles:
    """Opens one video's streams and checks that their shapes fit together.

    Streams whose lengths differ by one snippet, as optical flow and frames often do, are cut to the shortest.

    Args:
        sources: stream -> where it is.
        widths: stream -> (D, where that was seen first). Streams are checked against it; new streams are
            added to it.
        keep: whether a file that is read whole to see its shape (all but .npy) is kept in memory, for reading
            snippets of it soon.
        strict: whether streams have to be equally long.

    Returns:
        `FeatureFiles`, or `KeptFeatures`.

    Raises:
        InputError: for a missing or unreadable file, a width other than in ``widths``, or a length that
            differs between the streams by more than is cut.
    """
    files = (KeptFeatures if keep else FeatureFiles)(sources)
    lengths = {}
    for stream, source in sources.items():
        lengths[stream], width = files[stream].shape
        known_width, known_from = widths.setdefault(stream, (width, source))
        if width != known_width:
            turned = ", which it has as rows," if lengths[stream] == known_width else ""
            raise InputError(
                f"{source}: has {width} channels; expected {known_width}{turned} as in {known_from}"
            )
    check_lengths(lengths, sources, strict=strict)
    files.num_snippets = min(lengths.values())
    if files.num_snippets < max(lengths.values()):
        files.cut_to(files.num_snippets)
    return files


CheckShapes = Callable[[Mapping[str, Source]], FeatureFiles]


def shape_checker(*, strict: bool) -> CheckShapes:
    """`check_shapes` of one video after the other, whose streams all have the widths of the first one's.

    Args:
        strict: as for `check_shapes`.
    """
    widths: Widths = {}
    return lambda sources: check_shapes(sources, widths, strict=strict)


def num_cut(videos: Iterable[FeatureFiles]) -> int:
    """Of how many videos a stream is cut."""
    return sum(video.cut for video in videos)


def check_lengths(lengths: Mapping[str, int], named: Mapping[str, object], *, strict: bool = False) -> None:
    """Refuses streams of one video whose lengths differ by more than a snippet.

    Args:
        lengths: stream -> number of snippets.
        named: stream -> how messages call it.
        strict: whether they may not differ at all.

    Raises:
        InputError: naming a stream that differs from the first.
    """
    if max(lengths.values()) - min(lengths.values()) <= (0 if strict else 1):
        return
    first = next(iter(lengths))
    for stream, length in lengths.items():
        if length != lengths[first]:
            raise InputError(
                f"{named[stream]}: has {length} snippets; expected {lengths[first]} as in {named[first]}"
            )


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
