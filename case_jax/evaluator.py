"""Whole videos to detections and mAP: scores on the device, then localisation with numpy.

`score_split`, `detect` and `predict` take videos once. An `Evaluator` takes the same videos again and again,
as training does, and localises in worker processes.
"""

import concurrent.futures
import itertools
import multiprocessing
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from case_jax.config import CaseConfig
from case_jax.data.dataset import Split, Video
from case_jax.data.info import DatasetInfo
from case_jax.data.packed import PackedFeatures, pack
from case_jax.evaluation.false_alarms import FalseAlarms, false_alarms
from case_jax.evaluation.health import Health, measure_health
from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.mean_average_precision import DetectionMap, detection_map
from case_jax.localization.detect import localize_videos
from case_jax.localization.detections import Detections, to_activitynet
from case_jax.method.sampled_videos import SampledVideos, sample_videos, score_sampled
from case_jax.method.scores import Foreground, VideoScores
from case_jax.refinement.projection import project_sampled, scorer_of
from case_jax.terminals import ignore_terminal
from case_jax.training.state import TrainState

__all__ = [
    "Evaluation",
    "Evaluator",
    "detect",
    "evaluate_predictions",
    "false_alarms_of",
    "health_of_scores",
    "predict",
    "score_split",
]


def score_split(
    state: TrainState, videos: Sequence[Video], *, foreground: Foreground | None = None
) -> VideoScores:
    """Scores videos of any length, each sampled uniformly to T snippets.

    Args:
        state: a trained state on one device; its Q^C of the last step is used.
        videos: V videos.
        foreground: which foreground probability to fuse; default
            `case_jax.method.scores.default_foreground`.

    Returns:
        `VideoScores` of float32 numpy arrays, with V in place of B.
    """
    features = pack([v.features for v in videos], state.network.streams, state.config.feature_dtype)
    sampled = sample_videos(features, num_snippets=state.config.num_snippets)
    return jax.tree.map(np.asarray, score_sampled(state, sampled, foreground=foreground))


def detect(state: TrainState, videos: Sequence[Video], info: DatasetInfo) -> dict[str, Detections]:
    """Detects actions in videos of any length.

    Args:
        state: a trained state on one device; the "Proposals" settings of its config are used.
        videos: untrimmed videos; annotations are not used.
        info: the data set's streams, and the seconds of a snippet.

    Returns:
        Video name -> `Detections`, times in seconds.
    """
    with Evaluator(Split("", tuple(videos)), info, state.config) as evaluator:
        return evaluator.detect(state)


def predict(state: TrainState, videos: Sequence[Video], info: DatasetInfo) -> dict:
    """`detect`, in the ActivityNet format.

    Args:
        state: see `detect`.
        videos: see `detect`.
        info: the data set's class names and streams, and the seconds of a snippet.

    Returns:
        Predictions with segments in seconds, see `case_jax.localization.detections.to_activitynet`.
    """
    return to_activitynet(detect(state, videos, info), info.classes)


def evaluate_predictions(
    predictions: Mapping, split: Split, tiou_thresholds: Sequence[float]
) -> DetectionMap:
    """Detection mAP of predictions against the annotations of a split.

    Args:
        predictions: predictions in the ActivityNet format, as `predict` returns them.
        split: videos with annotations.
        tiou_thresholds: M thresholds in (0, 1].

    Returns:
        `DetectionMap`.
    """
    return detection_map(
        make_segments(split.ground_truth()),
        make_segments(predictions["results"]),
        tiou_thresholds,
    )


def false_alarms_of(
    split: Split,
    info: DatasetInfo,
    detections: Mapping[str, Detections],
    *,
    scores: Sequence[float] | None = None,
) -> FalseAlarms | None:
    """False alarms per hour in the videos of a split that show no action.

    Args:
        split: the videos that were searched.
        info: the data set's class names, and the seconds of a snippet.
        detections: video name -> `Detections`, times in seconds.
        scores: see `case_jax.evaluation.false_alarms.false_alarms`, as the result is.

    Returns:
        `FalseAlarms`; None if the split has no such video.
    """
    hours = {video.name: video.seconds(info) / 3600 for video in split.videos if video.action_free}
    if not hours:
        return None
    truth = make_segments(split.ground_truth())
    return false_alarms(truth, detected_segments(detections, info.classes), hours, scores=scores)


def _scores(state: TrainState, videos: SampledVideos, *, foreground: Foreground | None = None) -> VideoScores:
    """`score_sampled`, and what a second stage makes of the snippets."""
    scores = score_sampled(state, videos, foreground=foreground)
    if state.scorer is None:
        return scores
    return scores._replace(projected=project_sampled(state.scorer["kernel"], videos, state.network.streams))


def health_of_scores(scores: VideoScores) -> Health | None:
    """The health of the state that gave the scores, see `case_jax.evaluation.health.measure_health`."""
    return measure_health(scores.separation, scores.attention, scores.video)


# Videos scored at a time if their features stay on disk.
_VIDEOS_AT_ONCE = 256


class Evaluation:
    """An evaluation that `Evaluator.start` began."""

    def __init__(self, evaluator: "Evaluator", parts: list[concurrent.futures.Future], health: Health | None):
        self._evaluator, self._parts = evaluator, parts
        self.health = health  # of the state that was evaluated

    def done(self) -> bool:
        """Whether all videos are localised, so that `detections` does not wait."""
        return all(part.done() for part in self._parts)

    def detections(self) -> dict[str, Detections]:
        """Waits until all videos are localised.

        Returns:
            Video name -> `Detections`, times in seconds.
        """
        found = [detections for part in self._parts for detections in part.result()]
        return dict(zip(self._evaluator.names, found))


class Evaluator:
    """Evaluates states again and again on the same videos. Use it as a context manager.

    The features are placed once: on the device, or left on disk. Localisation runs in worker processes while
    the caller goes on. Results do not depend on the number of workers.
    """

    def __init__(
        self,
        split: Split,
        info: DatasetInfo,
        config: CaseConfig,
        *,
        num_workers: int = 0,
        on_device: bool = True,
    ):
        """Prepares the videos and starts the workers.

        Args:
            split: V videos; only `map_of` needs their annotations.
            info: the data set's class names and streams, and the seconds of a snippet.
            config: hyper-parameters of the states that will be evaluated.
            num_workers: worker processes that localise; 0 localises in `start`. Workers import the main
                program, which must therefore guard its main part with ``if __name__ == "__main__"``.
            on_device: True keeps all features on the device; False reads some videos at a time.
        """
        videos = split.videos
        parts: list[PackedFeatures | Sequence[Mapping[str, np.ndarray]]]
        if on_device:
            parts = [split.pack(info.streams, config.feature_dtype)]
        else:  # some videos at a time, so that memory does not grow with their number
            features = [video.features for video in videos]
            parts = [features[i : i + _VIDEOS_AT_ONCE] for i in range(0, len(features), _VIDEOS_AT_ONCE)]
        self.names = [video.name for video in videos]
        self._parts = [sample_videos(part, num_snippets=config.num_snippets) for part in parts]
        self._durations = np.array([video.seconds(info) for video in videos])
        self._info = info
        self._truth = make_segments(split.ground_truth())
        self._num_workers = num_workers
        self._pool = None
        if num_workers:
            self._pool = concurrent.futures.ProcessPoolExecutor(
                num_workers, multiprocessing.get_context("spawn"), initializer=ignore_terminal
            )

    def __enter__(self) -> "Evaluator":
        """Returns the evaluator."""
        return self

    def __exit__(self, *exception) -> None:
        """Stops the workers."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def start(self, state: TrainState) -> Evaluation:
        """Scores the videos and begins to localise their actions.

        Args:
            state: a trained state on one device; the "Proposals" settings of its config are used.

        Returns:
            `Evaluation`, which goes on in the workers, if there are any.
        """
        parts, begin = [], 0
        told = []
        for videos in self._parts:
            end = begin + len(videos.lengths)
            scores = _scores(state, videos)
            told.append((scores.separation, scores.attention, scores.video))
            parts += self._localize(scores, self._durations[begin:end], state)
            begin = end
            # At most one round of work waits for the workers; otherwise memory would hold all scores.
            concurrent.futures.wait(parts[: -4 * self._num_workers or None])
        of_all = jax.tree.map(lambda *arrays: np.concatenate(arrays), *told)
        return Evaluation(self, parts, measure_health(*of_all))

    def score(self, state: TrainState, *, foreground: Foreground | None = None) -> VideoScores:
        """Scores the videos; the first half of `start`, for all V videos at once.

        Args:
            state: a trained state on one device.
            foreground: which foreground probability to fuse; default
                `case_jax.method.scores.default_foreground`.

        Returns:
            `VideoScores` with V in place of B, on the device if the features are.
        """
        parts = [_scores(state, videos, foreground=foreground) for videos in self._parts]
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    def localize(self, scores: VideoScores, state: TrainState) -> Evaluation:
        """Begins to localise the actions of scored videos; the second half of `start`.

        Args:
            scores: scores of all V videos, from `score`.
            state: whose "Proposals" settings and second stage are used.

        Returns:
            `Evaluation`, see `start`.
        """
        parts = self._localize(scores, self._durations, state)
        return Evaluation(self, parts, health_of_scores(scores))

    def _localize(
        self, scores: VideoScores, durations: np.ndarray, state: TrainState
    ) -> list[concurrent.futures.Future]:
        """Parts of the videos, in order, each a future list of one `Detections` for each video.

        ``durations`` are seconds.
        """
        of_videos = [np.asarray(scores.fused), np.asarray(scores.video), durations]
        scorer = None if state.scorer is None else scorer_of(state.scorer)
        projected = None if scores.projected is None else np.asarray(scores.projected)

        def arguments(chosen: slice) -> tuple:
            given = [array[chosen] for array in of_videos]
            return *given, state.config, scorer, None if projected is None else projected[chosen]

        if self._pool is None:
            part: concurrent.futures.Future[list[Detections]] = concurrent.futures.Future()
            part.set_result(localize_videos(*arguments(slice(None))))
            return [part]
        # More parts than workers: a part with long videos then keeps no worker idle.
        count = len(durations)
        bounds = np.linspace(0, count, min(count, 4 * self._num_workers) + 1).astype(int)
        return [
            self._pool.submit(localize_videos, *arguments(slice(begin, end)))
            for begin, end in itertools.pairwise(bounds)
        ]

    def detect(self, state: TrainState) -> dict[str, Detections]:
        """Detects the actions in the videos.

        Args:
            state: see `start`.

        Returns:
            Video name -> `Detections`, times in seconds.
        """
        return self.start(state).detections()

    def map_of(self, detections: Mapping[str, Detections], tiou_thresholds: Sequence[float]) -> DetectionMap:
        """Detection mAP against the split's annotations.

        Args:
            detections: video name -> `Detections`, times in seconds.
            tiou_thresholds: M thresholds in (0, 1].

        Returns:
            `DetectionMap`.
        """
        found = detected_segments(detections, self._info.classes)
        return detection_map(self._truth, found, tiou_thresholds)
