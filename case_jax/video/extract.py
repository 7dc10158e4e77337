"""Features of videos: workers make clips, the network runs on batches of them, files keep the result."""

import importlib
import math
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from case_jax.data.extraction import ExtractedVideo, Extraction, features_path, read_record, write_record
from case_jax.data.names import is_hidden
from case_jax.data.npy import write_features
from case_jax.errors import InputError
from case_jax.video.clips import Clip, identity_of
from case_jax.video.i3d import i3d_features, prepare
from case_jax.video.weights import Weights, read_weights
from case_jax.video.workers import take_clips

__all__ = ["Extracted", "ExtractionProgress", "Extractor", "FolderOfFeatures", "extractor_of"]

_RECORD_EVERY = 5.0  # seconds between writings of features.json
_PACKAGES = ("case_jax", "jax", "av", "cv2")  # that features depend on, in the last digits


class Extracted(NamedTuple):
    """What was made of one video."""

    name: str
    features: dict[str, np.ndarray]  # stream -> (T, 1024) float32; empty if the video cannot be read
    video: ExtractedVideo | None
    error: str | None  # why the video cannot be read

    def require(self) -> dict[str, np.ndarray]:
        """The features.

        Raises:
            InputError: if the video cannot be read.
        """
        if self.error is not None:
            raise InputError(self.error)
        return self.features


class ExtractionProgress:
    """Is told how far an extraction is; does nothing. Subclasses show it."""

    def clips(self, name: str, frames: int) -> None:
        """The network has seen so many further frames of a video."""

    def ended(self, extracted: Extracted) -> None:
        """A video is done, or cannot be read."""


class Extractor:
    """I3D features of videos.

    Attributes:
        extraction: all that the features follow from, besides the videos.
    """

    def __init__(
        self, extraction: Extraction, weights: Mapping[str, Weights], *, batch_size: int | None = None
    ):
        """Takes the network's weights.

        Args:
            extraction: which frames, and how; its ``weights`` are those of ``weights``.
            weights: stream -> what `case_jax.video.weights.read_weights` read.
            batch_size: clips that the network sees at once; default 1 on CPUs, else 16. It changes features
                by rounding at most.

        Raises:
            InputError: if ``batch_size`` is less than 1.
        """
        if batch_size is None:
            batch_size = 1 if jax.default_backend() == "cpu" else 16
        if batch_size < 1:
            raise InputError(f"--clips_at_once: is {batch_size}; expected 1 or more")
        self.extraction = extraction
        self._batch_size = batch_size
        self._params = {stream: prepare(weights[stream].params) for stream in extraction.streams}

    def each(
        self, videos: Mapping[str, Path], *, num_workers: int = 0, progress: ExtractionProgress | None = None
    ) -> Iterator[Extracted]:
        """Extracts many videos: processes read them while the network runs.

        Memory is bounded, however long a video is: its features alone are kept until it ends.

        Args:
            videos: name -> path of a video file, a GIF or a folder of numbered images.
            num_workers: processes that read videos; 0 reads in this process.
            progress: is told of every batch and video.

        Yields:
            `Extracted` of each video, in the order in which they end.

        Raises:
            InputError: if a worker process was killed.
        """
        names, paths = list(videos), list(videos.values())
        progress = progress or ExtractionProgress()
        run = _Run(self, names, progress)
        for taken in take_clips(paths, self.extraction, num_workers):
            if taken.clip is not None:
                run.add(taken.video, taken.clip)
            else:
                run.end(taken.video, taken.end, taken.error)
            yield from run.finished()
        run.flush()
        yield from run.finished()

    def extract(self, path: Path, *, name: str | None = None) -> Extracted:
        """Extracts one video; args and result as `each`."""
        [extracted] = self.each({name or Path(path).stem: Path(path)})
        return extracted

    def _network(self, clips: list[Clip]) -> dict[str, jax.Array]:
        """Stream -> (clips, 1024), the mean over crops. The device may still be computing."""
        found = {}
        for stream, params in self._params.items():
            stacked = np.stack([clip[stream] for clip in clips])
            flat = stacked.reshape(-1, *stacked.shape[2:])
            features = i3d_features(params, flat, precision=self.extraction.precision)
            found[stream] = features.reshape(*stacked.shape[:2], -1).mean(axis=1)
        return found


def extractor_of(
    extraction: Extraction | None,
    files: Mapping[str, str | os.PathLike | None],
    *,
    run: str | os.PathLike,
    batch_size: int | None = None,
) -> Extractor:
    """An `Extractor` that makes the features which a run was trained on.

    Args:
        extraction: that of the run.
        files: stream -> file of its weights; None or missing for what `read_weights` finds by itself.
        run: what the run is called in messages.
        batch_size: as of `Extractor`.

    Raises:
        InputError: if the run has no extraction, or weights are not the ones that it names.
    """
    if extraction is None:
        raise InputError(
            f"{run}: does not tell how its features were extracted; expected a run that was trained on "
            "features of `extract` or `make_dataset`"
        )
    weights = {}
    for stream, wanted in extraction.weights.items():
        weights[stream] = read_weights(files.get(stream), stream=stream)
        if weights[stream].sha256 != wanted.sha256:
            raise InputError(
                f"--{stream}_weights: {weights[stream].name} has SHA-256 {weights[stream].sha256}; expected "
                f"{wanted.sha256} of {wanted.name}, with which {run} was trained"
            )
    return Extractor(extraction, weights, batch_size=batch_size)


class _Run:
    """The clips that wait for the network, and the features that wait for the end of their video."""

    def __init__(self, extractor: Extractor, names: list[str], progress: ExtractionProgress):
        self._extractor, self._names, self._progress = extractor, names, progress
        self._waiting: list[tuple[int, Clip]] = []
        self._under_way: tuple[list[int], dict[str, jax.Array]] | None = None
        self._features: dict[int, dict[str, list[np.ndarray]]] = {}
        self._missing: dict[int, int] = {}  # clips whose features are not there yet
        self._ends: dict[int, tuple[ExtractedVideo | None, str | None]] = {}

    def add(self, video: int, clip: Clip) -> None:
        self._waiting.append((video, clip))
        self._missing[video] = self._missing.get(video, 0) + 1
        if len(self._waiting) == self._extractor._batch_size:
            self._start()

    def end(self, video: int, end: ExtractedVideo | None, error: str | None) -> None:
        self._ends[video] = (end, error)
        if error is not None:
            self._collect()  # the caller may stop here: videos that are done come first

    def flush(self) -> None:
        """Runs what waits, although it is less than a batch."""
        if self._waiting:
            self._start()
        self._collect()

    def finished(self) -> Iterator[Extracted]:
        """Videos all of whose features are there, each once."""
        for video in [v for v in self._ends if not self._missing.get(v)]:
            end, error = self._ends.pop(video)
            parts = self._features.pop(video, {})
            features = {} if error else {stream: np.stack(rows) for stream, rows in parts.items()}
            extracted = Extracted(self._names[video], features, end, error)
            self._progress.ended(extracted)
            yield extracted

    def _start(self) -> None:
        """Hands a batch to the device, which computes it while the next clips are taken."""
        videos, clips = [video for video, _ in self._waiting], [clip for _, clip in self._waiting]
        self._waiting = []
        # One shape for all batches, so that one program is compiled.
        filled = clips + [clips[-1]] * (self._extractor._batch_size - len(clips))
        found = self._extractor._network(filled)
        self._collect()
        self._under_way = videos, found

    def _collect(self) -> None:
        """Waits for the batch that was handed over before."""
        if self._under_way is None:
            return
        videos, found = self._under_way
        self._under_way = None
        arrays = {stream: np.asarray(rows, np.float32) for stream, rows in found.items()}
        for i, video in enumerate(videos):
            rows = self._features.setdefault(video, {stream: [] for stream in arrays})
            for stream, array in arrays.items():
                rows[stream].append(array[i])
            self._missing[video] -= 1
            self._progress.clips(self._names[video], self._extractor.extraction.stride)


class FolderOfFeatures:
    """A folder of features that grows video by video: `<stream>/<video>.npy`, and `features.json`.

    What is there is kept: a video is extracted anew only if its file has changed since.
    """

    def __init__(self, folder: Path, extraction: Extraction):
        """Opens the folder; it is made with the first video.

        Args:
            folder: where the streams' folders are.
            extraction: how the features are made.

        Raises:
            InputError: if the folder holds features of another extraction or of unknown origin, or its record
                cannot be read.
        """
        self.folder, self.extraction = Path(folder), extraction
        self.videos: dict[str, ExtractedVideo] = {}
        self._written = -math.inf  # when the record was
        if record := read_record(self.folder):
            there, self.videos = record
            if different := there.difference(extraction):
                name, ours, theirs = different
                raise InputError(
                    f"{features_path(self.folder)}: features there were extracted with {name} = {ours}, not "
                    f"{theirs}; expected the same settings, or another folder"
                )
        else:
            for stream in extraction.streams:
                if not all(is_hidden(path.name) for path in (self.folder / stream).glob("*")):
                    raise InputError(
                        f"{self.folder / stream}: holds files, and {features_path(self.folder)} is missing; "
                        "expected an empty folder, or one that was extracted to before"
                    )

    def has(self, name: str, path: Path) -> bool:
        """Whether all streams of a video are there, made from the file as it is now."""
        known = self.videos.get(name)
        if known is None or (known.size, known.changed) != identity_of(path):
            return False
        return all(self._path(stream, name).is_file() for stream in self.extraction.streams)

    def add(self, extracted: Extracted) -> None:
        """Writes the features of a video.

        Raises:
            InputError: if the video cannot be read, or a file cannot be written.
        """
        features = extracted.require()
        if self._written == -math.inf:
            self.write_record()  # tells whose the files are, should this be the last that is done
        for stream, array in features.items():
            write_features(self._path(stream, extracted.name), array)
        assert extracted.video is not None
        self.videos[extracted.name] = extracted.video
        if time.monotonic() - self._written >= _RECORD_EVERY:
            self.write_record()

    def write_record(self) -> None:
        """Writes `features.json`. `add` does so now and then; the end of the work has to.

        Raises:
            InputError: if the file cannot be written.
        """
        write_record(self.folder, self.extraction, self.videos, _versions())
        self._written = time.monotonic()

    def _path(self, stream: str, name: str) -> Path:
        return self.folder / stream / f"{name}.npy"


def _versions() -> dict[str, str]:
    return {package: importlib.import_module(package).__version__ for package in _PACKAGES}
