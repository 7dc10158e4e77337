"""One video's features on disk: read whole with those of others, or left there and read a few at a time."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from case_jax.data.files import check_finite
from case_jax.data.formats import Source, open_source, read_source, select_columns
from case_jax.data.packed import DTYPES, PackedFeatures, allocate_rows, first_rows
from case_jax.errors import InputError

__all__ = [
    "FeatureFiles",
    "KeptFeatures",
    "Widths",
    "check_shapes",
    "find_features",
    "read_packed",
    "read_snippets",
    "video_length",
]

Widths = dict[str, tuple[int, Source | str]]  # stream -> (D, what has it)


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
        """The stream, opened."""
        return open_source(self.sources[stream])

    def __iter__(self) -> Iterator[str]:
        """The streams."""
        return iter(self.sources)

    def __len__(self) -> int:
        """How many streams."""
        return len(self.sources)


class KeptFeatures(FeatureFiles):
    """`FeatureFiles` of which those that are read whole when opened (.csv, HDF5) are read only once.

    They stay in memory as long as this does; a .npy file is mapped anew at each access.
    """

    def __init__(self, sources: Mapping[str, Source], num_snippets: int | None = None):
        super().__init__(sources, num_snippets)
        self._kept: dict[Source, np.ndarray] = {}

    def __getitem__(self, stream: str) -> np.ndarray:
        """The stream, opened or kept."""
        source = self.sources[stream]
        if source.path.suffix == ".npy":
            return super().__getitem__(stream)
        whole = source._replace(columns=None)  # streams side by side are kept once
        if whole not in self._kept:
            self._kept[whole] = open_source(whole)
        return select_columns(source, self._kept[whole])


def find_features(folder: Path, name: str, streams: Sequence[str], widths: Widths) -> FeatureFiles:
    """Finds one video's streams, ``folder/<stream>/<name>.npy``, and checks their shapes.

    Args:
        folder: where the streams' folders are.
        name: video name.
        streams: which streams.
        widths: as `check_shapes`.

    Returns:
        `FeatureFiles`.

    Raises:
        InputError: as `check_shapes`.
    """
    return check_shapes({stream: Source(folder / stream / f"{name}.npy") for stream in streams}, widths)


def check_shapes(sources: Mapping[str, Source], widths: Widths, *, keep: bool = False) -> FeatureFiles:
    """One video's streams, if their shapes fit together.

    Args:
        sources: stream -> where it is.
        widths: stream -> (D, what has it); checked against, and extended with new streams.
        keep: whether what is read whole to see its shape (.csv, HDF5) is kept, for reading snippets of it.

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


def read_packed(
    videos: Sequence[FeatureFiles], streams: Sequence[str], dtype: str = "float32"
) -> tuple[PackedFeatures, list[dict[str, np.ndarray]]]:
    """Reads whole videos straight to where they lie together, so that memory holds them once.

    Args:
        videos: V >= 1 videos, from `find_features`.
        streams: which streams.
        dtype: "float32" or "bfloat16".

    Returns:
        The packed features, and per video its own views of them. Neither can be written to.

    Raises:
        InputError: if a value is not finite or a file has changed meanwhile.
    """
    lengths = np.array([video_length(video) for video in videos], np.int32)
    first = first_rows(lengths)
    views: list[dict[str, np.ndarray]] = [{} for _ in videos]
    rows = {}
    for stream in streams:
        width = videos[0][stream].shape[1]
        rows[stream] = allocate_rows(int(lengths.sum()), width, DTYPES[dtype])
        for video, begin, length in zip(videos, first, lengths):
            read_source(video.sources[stream], out=rows[stream][begin : begin + length])
        rows[stream].flags.writeable = False  # a device may share this memory
        for view, begin, length in zip(views, first, lengths):
            view[stream] = rows[stream][begin : begin + length]
    return PackedFeatures(rows, first, lengths), views


def video_length(video: Mapping[str, np.ndarray]) -> int:
    """T_v of a video's features, in memory or on disk, without opening a file if it is known."""
    known = video.num_snippets if isinstance(video, FeatureFiles) else None
    return len(next(iter(video.values()))) if known is None else known


def read_snippets(video: Mapping[str, np.ndarray], stream: str, snippets: np.ndarray) -> np.ndarray:
    """Some snippets of a video, from memory or from disk.

    Args:
        video: stream -> (T_v, D), or `FeatureFiles`.
        stream: which stream.
        snippets: (T,) int positions.

    Returns:
        (T, D); float32 if from disk.

    Raises:
        InputError: if a value read from disk is not finite.
    """
    rows = video[stream][snippets]
    if isinstance(video, FeatureFiles):
        with np.errstate(over="ignore"):  # an overflow shows as infinite below
            rows = np.asarray(rows, np.float32)
        check_finite(rows, str(video.sources[stream]), snippets)
    return rows
