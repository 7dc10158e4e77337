"""Actions in a user's own videos: features of any length in, labelled times out."""

import collections
import math
import numbers
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import jax
import numpy as np

from case_jax.data.given import Features, GivenVideo, open_video
from case_jax.data.packed import DTYPES, allocate_rows
from case_jax.errors import InputError
from case_jax.localization.detect import localize_windows
from case_jax.localization.detections import Detection, Detections
from case_jax.method.sampled_videos import score_window
from case_jax.method.scores import default_foreground
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.state import TrainState

__all__ = ["Features", "Localizer"]

# Windows that wait for the device, or are on it, while a video is localised: one runs and one waits.
_AHEAD = 2
_SMALLEST_BUCKET = 64
_SECONDS = 1e-15, 1e15  # of a snippet, far from where times overflow
_LEAST_WINDOW = 4  # in T; the default where no evaluated video was longer


class Localizer:
    """A trained run at work on new videos.

    **Any length.** Evaluation, the published protocol, samples every video uniformly to T = `num_snippets`
    snippets, floor(i * T_v / T), and judges which classes it contains by the top k of these. So is a video
    of up to ``window`` snippets here. A longer one is sampled uniformly to n * T, n = ceil(T_v / window), and
    each consecutive T of these are a window: each judges for itself which classes it contains, while the
    activation sequence of a class runs through all of them. An action is found whole wherever a seam is, in
    classes that a window it overlaps contains, and soft-NMS runs over the whole video.

    **Memory.** Features are read window by window, at most T snippets at once, also those between the
    samples, to see that they are finite. G + G / T numbers are kept for each sample; proposals are made class
    by class.

    **Speed.** The device scores the next windows, of this video or the next, while a video is localised. A
    window's distinct snippets are filled up to 64, 128, 256 ... or T, so that few programs are compiled. Hand
    over many videos at once, or use `detect_each`.

    Attributes:
        classes: names of the G classes.
        streams: names of the streams, in order.
        stream_widths: stream -> D.
        seconds_per_snippet: of the run's data, and the default here; None if its features were rescaled.
        step: how many steps the run had trained.
        window: the longest video, in snippets, that is one window.

    Example:
        >>> from case_jax import CaseConfig
        >>> from case_jax.data.dataset import DatasetInfo
        >>> config = CaseConfig(num_snippets=8, hidden_dim=4, num_clusters=2)
        >>> info = DatasetInfo(classes=("Jump", "Run"), streams=("rgb",))
        >>> untrained = RunSettings(config, info, {"rgb": 3}, seed=0, eval_every=1, tiou=(0.5,))
        >>> localizer = Localizer(untrained, untrained.fresh_state())  # or Localizer.load(workdir)
        >>> surest = localizer.localize({"rgb": np.zeros((20, 3))})[0]
        >>> surest.start, surest.end  # 20 snippets of 0.64 s that are all alike
        (0.0, 12.8)
    """

    def __init__(self, settings: RunSettings, state: TrainState, *, window: int | None = None):
        """Prepares a run that is in memory.

        Args:
            settings: of the run.
            state: its trained state, on one device.
            window: longest video, in snippets, that is one window; default that of the run's test videos, or
                4 T if these are shorter or not known.

        Raises:
            InputError: if ``window`` is no positive whole number.
        """
        if window is None:
            window = max(_LEAST_WINDOW * settings.config.num_snippets, settings.longest_video or 0)
        if isinstance(window, bool) or not isinstance(window, int | np.integer) or window < 1:
            raise InputError(f"window: is {window!r}; expected a whole number of snippets, 1 or more")
        self.window = int(window)
        self.classes = tuple(settings.info.classes)
        self.streams = tuple(settings.info.streams)
        self.stream_widths = {stream: settings.stream_widths[stream] for stream in self.streams}
        self.seconds_per_snippet = None if settings.info.rescaled else settings.info.seconds_per_snippet
        self.step = int(state.step)
        self._info, self._config, self._state = settings.info, settings.config, state

    @classmethod
    def load(
        cls,
        workdir: str | os.PathLike,
        which: Literal["best", "last"] = "best",
        *,
        window: int | None = None,
    ) -> "Localizer":
        """Restores a run from its workdir.

        Args:
            workdir: of a training, or of `experiments.convert_checkpoint`.
            which: "best" by average mAP, or "last".
            window: as `__init__`.

        Raises:
            InputError: if there is no run or no checkpoint, or ``window`` is no positive whole number.
        """
        return cls(*Workdir(workdir).load(which), window=window)

    def localize(
        self,
        features: Features | list[Features] | tuple[Features, ...],
        fps: float | None = None,
        frames_per_snippet: float | None = None,
    ) -> list[Detection] | list[list[Detection]]:
        """Finds the actions in a video, or in each of several.

        Args:
            features: stream -> (T_v, D) array of real numbers, in memory or a memory map (or what has a
                shape and a dtype and is indexed like one, as h5py's data sets). Or one array: of the only
                stream, or of all streams side by side in the run's order. Or a list or tuple of videos.
            fps: frames per second of these videos; default that of the run's data.
            frames_per_snippet: distance in frames between the starts of consecutive snippets; default that of
                the run's data.

        Returns:
            `Detection`s in seconds, from the surest down (equal scores by start, end and label); a list per
            video if there are several.

        Raises:
            InputError: if features are missing, are as wide as none in training, have no snippets or another
                number of them than another stream, are no real numbers or not finite; if ``fps`` or
                ``frames_per_snippet`` is no positive finite number, or they make snippets of absurd lengths;
                or if one of these is missing and the run's features were rescaled.
        """
        found = self.detect(features, fps, frames_per_snippet)
        return self._listed(found) if isinstance(found, Detections) else [self._listed(d) for d in found]

    def detect(
        self,
        features: Features | list[Features] | tuple[Features, ...],
        fps: float | None = None,
        frames_per_snippet: float | None = None,
    ) -> Detections | list[Detections]:
        """`localize`, as arrays: `Detections` class by class, in the order that soft-NMS gives."""
        if isinstance(features, list | tuple):
            return list(self.detect_each(features, fps, frames_per_snippet))
        seconds = self._seconds(fps, frames_per_snippet)
        (found,) = self._detect([("features", features)], seconds)
        return found

    def detect_each(
        self,
        videos: Iterable[Features],
        fps: float | None = None,
        frames_per_snippet: float | None = None,
    ) -> Iterator[Detections]:
        """`detect` of one video after the other; takes the next ones while it works on one.

        Args:
            videos: as ``features`` of `localize`; few at a time are held. `FeatureFiles` are read from disk.
            fps: as `localize`.
            frames_per_snippet: as `localize`.

        Yields:
            `Detections` of each video, in order.

        Raises:
            InputError: as `localize`, and those that ``videos`` raises itself; the videos before come first.
        """
        named = ((f"features[{i}]", features) for i, features in enumerate(videos))
        return self._detect(named, self._seconds(fps, frames_per_snippet))

    def _detect(self, videos: Iterable[tuple[str, Features]], seconds: float) -> Iterator[Detections]:
        windows = self._windows(videos, seconds)
        under_way: collections.deque[_Window] = collections.deque()
        failure = None
        while True:
            try:
                following = next(windows, None)
            except InputError as error:  # nothing follows; the videos before are finished first
                following, failure = None, error
            if following is not None:
                under_way.append(following)
                if len(under_way) <= _AHEAD:
                    continue
            elif not under_way:
                break
            video = under_way.popleft().collect()
            if not video.missing:
                yield localize_windows(
                    video.fused, video.scores, duration=video.duration, config=self._config
                )
        if failure is not None:
            raise failure

    def _windows(self, videos: Iterable[tuple[str, Features]], seconds: float) -> Iterator["_Window"]:
        """The windows of all videos, each on its way through the device."""
        config, num_snippets = self._config, self._config.num_snippets
        for name, features in videos:
            opened = open_video(features, self.stream_widths, name)
            num_windows = -(-opened.length // self.window)
            video = _Video(
                np.empty((num_windows * num_snippets, len(self.classes)), np.float32),
                np.empty((num_windows, len(self.classes)), np.float32),
                opened.length * seconds,
            )
            for index in range(num_windows):
                distinct, samples = _sample(opened.length, index, num_windows, num_snippets)
                bounds = [i * opened.length // num_windows for i in (index, index + 1)]
                rows = _read_window(opened, distinct, *bounds, at_once=num_snippets)
                fused, scores = score_window(
                    self._state.params,
                    self._state.cluster_labels if config.ccc else None,
                    _fill_up(rows, _bucket(len(distinct), num_snippets), DTYPES[config.feature_dtype]),
                    samples,
                    network=self._state.network,
                    top_k=config.top_k,
                    foreground=default_foreground(config),
                )
                yield _Window(video, index, fused, scores)

    def _seconds(self, fps: float | None, frames_per_snippet: float | None) -> float:
        """How long a snippet is."""
        given = {"fps": fps, "frames_per_snippet": frames_per_snippet}
        for name, value in given.items():
            if value is None:
                if self.seconds_per_snippet is None:
                    raise InputError(
                        f"{name}: is missing, and the run's features were rescaled, which tell no time; "
                        "expected fps and frames_per_snippet of these"
                    )
                continue
            number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if not (number and 0 < value < math.inf):
                raise InputError(f"{name}: is {value!r}; expected a finite number above 0")
        if fps is None:
            fps = self._info.frames_per_second
        if frames_per_snippet is None:
            frames_per_snippet = self._info.frames_per_snippet
        try:
            seconds = float(frames_per_snippet) / float(fps)
        except OverflowError:
            seconds = math.inf
        if not _SECONDS[0] <= seconds <= _SECONDS[1]:
            raise InputError(
                f"frames_per_snippet: is {frames_per_snippet} with {fps} fps; expected snippets of seconds"
            )
        return seconds

    def _listed(self, found: Detections) -> list[Detection]:
        columns = (column.tolist() for column in (found.start, found.end, found.score))
        listed = map(Detection, (self.classes[label] for label in found.label), *columns)
        return sorted(listed, key=lambda d: (-d.score, d.start, d.end, d.label))


class _Video:
    """What the windows of a video have said so far."""

    def __init__(self, fused: np.ndarray, scores: np.ndarray, duration: float):
        self.fused = fused  # (n * T, G)
        self.scores = scores  # (n, G)
        self.duration = duration  # seconds
        self.missing = len(scores)  # windows


class _Window(NamedTuple):
    """One window on the device."""

    video: _Video
    number: int  # from 0, in its video
    fused: jax.Array  # (T, G), maybe still being computed
    scores: jax.Array  # (G,)

    def collect(self) -> _Video:
        """Waits for it, and writes it to its video."""
        begin = self.number * len(self.fused)
        self.video.fused[begin : begin + len(self.fused)] = self.fused
        self.video.scores[self.number] = self.scores
        self.video.missing -= 1
        return self.video


def _sample(length: int, index: int, num_windows: int, num_snippets: int) -> tuple[np.ndarray, np.ndarray]:
    """The distinct snippets of one of a video's windows, and which of them its T samples are, (T,) int32."""
    samples = np.arange(index * num_snippets, (index + 1) * num_snippets, dtype=np.int64)
    # As `uniform_indices`, in integers that are large enough for any video.
    distinct, which = np.unique(samples * length // (num_windows * num_snippets), return_inverse=True)
    return distinct, which.astype(np.int32)


def _read_window(
    video: GivenVideo, distinct: np.ndarray, begin: int, end: int, *, at_once: int
) -> dict[str, np.ndarray]:
    """Reads, and so checks, all snippets of a window, and keeps the sampled ones: stream -> (R, D)."""
    end = max(end, distinct[-1] + 1)  # of a repeated snippet, a sample may be in the window before its own
    parts = []
    for first in range(begin, end, at_once):
        rows = video.read(first, min(first + at_once, end))
        wanted = distinct[(distinct >= first) & (distinct < first + at_once)] - first
        parts.append({stream: values[wanted] for stream, values in rows.items()})
    return {stream: np.concatenate([part[stream] for part in parts]) for stream in parts[0]}


def _bucket(count: int, num_snippets: int) -> int:
    """To how many snippets a window of ``count`` distinct ones is filled up: 64, 128, 256 ... or T."""
    size = _SMALLEST_BUCKET
    while size < count:
        size *= 2
    return min(size, num_snippets)


def _fill_up(rows: Mapping[str, np.ndarray], size: int, dtype: np.dtype) -> dict[str, np.ndarray]:
    filled = {}
    for stream, values in rows.items():
        filled[stream] = allocate_rows(size, values.shape[1], dtype)
        filled[stream][: len(values)] = values
        filled[stream][len(values) :] = 0
    return filled
