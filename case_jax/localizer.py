"""Finds actions in a user's own videos: takes features of any length, returns labelled times."""

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

# Windows that are given to the device ahead of the one whose video is localised: one runs, one waits.
_AHEAD = 2
_SMALLEST_BUCKET = 64  # snippets
_SECONDS = 1e-15, 1e15  # shortest and longest snippet, far from where times overflow
_LEAST_WINDOW = 4  # in units of T; the default window unless a test video was longer


class Localizer:
    """Applies a trained run to new videos.

    **Any length.** Evaluation, the published protocol, samples every video uniformly to T = `num_snippets`
    snippets, floor(i * T_v / T) for i < T, and decides by the top k of them which classes the video contains.
    A video of up to ``window`` snippets is treated in the same way here. A longer video of T_v snippets is
    sampled uniformly to n * T snippets, n = ceil(T_v / window), and every T consecutive samples are a window.
    Each window decides for itself which classes it contains, while the activation sequence of a class runs
    through all windows. So an action that crosses from one window to the next is found as a whole, if a
    window that it overlaps contains its class. Soft-NMS runs over the whole video.

    **Memory.** Features are read window by window, at most T snippets at once. Snippets between the samples
    are read, too, to check that they are finite. G + G / T numbers are kept for each sample. Proposals are
    made class by class.

    **Speed.** While one video is localised, the device scores the windows that follow, of this video or the
    next. A window's distinct snippets are padded to 64, 128, 256 ... or T, so that few programs are compiled.
    Pass many videos at once, or use `detect_each`.

    Attributes:
        classes: names of the G classes.
        streams: names of the streams, in order.
        stream_widths: stream -> D, its channels.
        seconds_per_snippet: time of a snippet in the run's data, which is the default here; None if its
            features were rescaled.
        step: training steps of the checkpoint.
        window: length in snippets of the longest video that is one window.

    Example:
        >>> from case_jax import CaseConfig
        >>> from case_jax.data.dataset import DatasetInfo
        >>> config = CaseConfig(num_snippets=8, hidden_dim=4, num_clusters=2)
        >>> info = DatasetInfo(classes=("Jump", "Run"), streams=("rgb",))
        >>> untrained = RunSettings(config, info, {"rgb": 3}, seed=0, eval_every=1, tiou=(0.5,))
        >>> localizer = Localizer(untrained, untrained.fresh_state())  # or Localizer.load(workdir)
        >>> surest = localizer.localize({"rgb": np.zeros((20, 3))})[0]
        >>> surest.start, surest.end  # 20 equal snippets of 0.64 s each
        (0.0, 12.8)
    """

    def __init__(self, settings: RunSettings, state: TrainState, *, window: int | None = None):
        """Takes a run that is in memory.

        Args:
            settings: settings of the run.
            state: its trained state, on one device.
            window: length in snippets of the longest video that is one window; default the length of the
                run's longest test video, or 4 T if that is shorter or not known.

        Raises:
            InputError: if ``window`` is not a positive whole number.
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
            workdir: folder that training or `case-jax convert` wrote.
            which: "best" by average mAP, or "last".
            window: as for `__init__`.

        Raises:
            InputError: if there is no run or no checkpoint, or ``window`` is not a positive whole number.
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
            features: one video or a list or tuple of videos. A video is stream -> (T_v, D) array of real
                numbers: a numpy array, a memory map, or an object with a shape and a dtype that is indexed
                like one, such as h5py's data sets. A video may also be one array: of the only stream, or of
                all streams side by side in the run's order, (T_v, sum of D).
            fps: frames per second of these videos; default as in the run's data.
            frames_per_snippet: distance in frames between the starts of consecutive snippets; default as in
                the run's data.

        Returns:
            `Detection`s with times in seconds, by falling score (equal scores by start, end and label); for
            several videos a list of them per video.

        Raises:
            InputError: if a stream is missing; if features have another width than in training, no snippets,
                or not as many as another stream; if they are not real numbers or not finite; if ``fps`` or
                ``frames_per_snippet`` is not a positive finite number, or both make snippets of absurd
                lengths; or if one of the two is missing and the run's features were rescaled.
        """
        found = self.detect(features, fps, frames_per_snippet)
        return self._listed(found) if isinstance(found, Detections) else [self._listed(d) for d in found]

    def detect(
        self,
        features: Features | list[Features] | tuple[Features, ...],
        fps: float | None = None,
        frames_per_snippet: float | None = None,
    ) -> Detections | list[Detections]:
        """`localize` with arrays as results: `Detections` by class, in the order that soft-NMS gives."""
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
        """`detect` for one video after the other. It takes the next videos while it works on one.

        Args:
            videos: each as ``features`` of `localize`, of which few are held at a time. `FeatureFiles` are
                read from disk.
            fps: as for `localize`.
            frames_per_snippet: as for `localize`.

        Yields:
            `Detections` of each video, in order.

        Raises:
            InputError: as `localize` does, or raised by ``videos`` itself. All videos before it are yielded
                first.
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
            except InputError as error:  # nothing follows, but the videos before are finished first
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
        """The windows of all videos, each handed to the device already."""
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
        """Seconds from the start of a snippet to the start of the next."""
        given = {"fps": fps, "frames_per_snippet": frames_per_snippet}
        for name, value in given.items():
            if value is None:
                if self.seconds_per_snippet is None:
                    raise InputError(
                        f"{name}: is missing, and the run's features were rescaled, which tell no time; "
                        "expected fps and frames_per_snippet of these videos"
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
    """The scores of a video, as far as its windows are collected."""

    def __init__(self, fused: np.ndarray, scores: np.ndarray, duration: float):
        self.fused = fused  # (n * T, G)
        self.scores = scores  # (n, G)
        self.duration = duration  # seconds
        self.missing = len(scores)  # windows that are not collected


class _Window(NamedTuple):
    """One window, whose scores the device may still be computing."""

    video: _Video
    number: int  # its place in the video, from 0
    fused: jax.Array  # (T, G)
    scores: jax.Array  # (G,)

    def collect(self) -> _Video:
        """Waits for the scores and writes them to the video."""
        begin = self.number * len(self.fused)
        self.video.fused[begin : begin + len(self.fused)] = self.fused
        self.video.scores[self.number] = self.scores
        self.video.missing -= 1
        return self.video


def _sample(length: int, index: int, num_windows: int, num_snippets: int) -> tuple[np.ndarray, np.ndarray]:
    """The samples of one window.

    Args:
        length: T_v, snippets of the video.
        index: which window, from 0.
        num_windows: n.
        num_snippets: T.

    Returns:
        The distinct snippets that are sampled, int64, and for each of the T samples which of them it is,
        (T,) int32.
    """
    samples = np.arange(index * num_snippets, (index + 1) * num_snippets, dtype=np.int64)
    # The formula of `uniform_indices`, with integers that are large enough for any video.
    distinct, which = np.unique(samples * length // (num_windows * num_snippets), return_inverse=True)
    return distinct, which.astype(np.int32)


def _read_window(
    video: GivenVideo, distinct: np.ndarray, begin: int, end: int, *, at_once: int
) -> dict[str, np.ndarray]:
    """Reads all snippets of a window, which checks them, and keeps the R sampled ones.

    Args:
        video: the video.
        distinct: (R,) snippets that are sampled, rising.
        begin: first snippet of the window.
        end: the snippet after its last one.
        at_once: snippets to read at a time.

    Returns:
        stream -> (R, D).
    """
    end = max(end, distinct[-1] + 1)  # where snippets repeat, the last sample may be of the next window
    parts = []
    for first in range(begin, end, at_once):
        rows = video.read(first, min(first + at_once, end))
        wanted = distinct[(distinct >= first) & (distinct < first + at_once)] - first
        parts.append({stream: values[wanted] for stream, values in rows.items()})
    return {stream: np.concatenate([part[stream] for part in parts]) for stream in parts[0]}


def _bucket(count: int, num_snippets: int) -> int:
    """Snippets that a window of ``count`` distinct ones is padded to: 64, 128, 256 ... or T."""
    size = _SMALLEST_BUCKET
    while size < count:
        size *= 2
    return min(size, num_snippets)


def _fill_up(rows: Mapping[str, np.ndarray], size: int, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Pads (R, D) arrays with zeros to (size, D) arrays of another dtype."""
    filled = {}
    for stream, values in rows.items():
        filled[stream] = allocate_rows(size, values.shape[1], dtype)
        filled[stream][: len(values)] = values
        filled[stream][len(values) :] = 0
    return filled
