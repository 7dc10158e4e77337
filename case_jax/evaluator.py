"""Whole videos to detections and mAP: the network on the device, then the numpy stage, serial or not."""

import concurrent.futures
import itertools
import multiprocessing
import signal
from collections.abc import Mapping, Sequence

import jax
import numpy as np

from case_jax.config import CaseConfig
from case_jax.data.dataset import Split, Video
from case_jax.data.info import DatasetInfo
from case_jax.data.packed import PackedFeatures, pack
from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.mean_average_precision import DetectionMap, detection_map
from case_jax.localization.detect import localize_videos
from case_jax.localization.detections import Detections, to_activitynet
from case_jax.method.scores import Foreground, VideoScores, sample_videos, score_sampled
from case_jax.training.state import TrainState

__all__ = [
    "Evaluation",
    "Evaluator",
    "detect",
    "evaluate_predictions",
    "predict",
    "score_split",
]


def score_split(
    state: TrainState, videos: Sequence[Video], *, foreground: Foreground | None = None
) -> VideoScores:
    """Scores videos of any length, each sampled uniformly to T snippets.

    Args:
        state: a trained state; its Q^C of the last step is used.
        videos: V videos.
        foreground: as `case_jax.method.scores.score_sampled`.

    Returns:
        `VideoScores` of numpy arrays with V in place of B.
    """
    features = pack([v.features for v in videos], state.network.streams, state.config.feature_dtype)
    sampled = sample_videos(features, num_snippets=state.config.num_snippets)
    return jax.tree.map(np.asarray, score_sampled(state, sampled, foreground=foreground))


def detect(state: TrainState, videos: Sequence[Video], info: DatasetInfo) -> dict[str, Detections]:
    """Detects actions in videos of any length.

    Args:
        state: a trained state.
        videos: untrimmed videos.
        info: for the time of a snippet.

    Returns:
        video name -> `Detections`, times in seconds.
    """
    with Evaluator(Split("", tuple(videos)), info, state.config) as evaluator:
        return evaluator.detect(state)


def predict(state: TrainState, videos: Sequence[Video], info: DatasetInfo) -> dict:
    """`detect`, as a prediction dictionary in the ActivityNet format."""
    return to_activitynet(detect(state, videos, info), info.classes)


def evaluate_predictions(
    predictions: Mapping, split: Split, tiou_thresholds: Sequence[float]
) -> DetectionMap:
    """Detection mAP of a prediction dictionary on the annotated videos of a split.

    Args:
        predictions: as `predict` returns it.
        split: videos with annotations.
        tiou_thresholds: in (0, 1].

    Returns:
        `DetectionMap`.
    """
    return detection_map(
        make_segments(split.ground_truth()),
        make_segments(predictions["results"]),
        tiou_thresholds,
    )


# Videos scored at a time, where their features are on disk.
_VIDEOS_AT_ONCE = 256


class Evaluation:
    """An evaluation under way, from `Evaluator.start`."""

    def __init__(self, evaluator: "Evaluator", parts: list[concurrent.futures.Future]):
        self._evaluator, self._parts = evaluator, parts

    def done(self) -> bool:
        """Whether `detections` would not wait."""
        return all(part.done() for part in self._parts)

    def detections(self) -> dict[str, Detections]:
        """Video name -> `Detections`, times in seconds; waits for them."""
        found = [detections for part in self._parts for detections in part.result()]
        return dict(zip(self._evaluator.names, found))


class Evaluator:
    """Evaluates states again and again on the same videos. Use as a context manager.

    The features stay where they are put (on the device, unless they are left on disk), and the numpy stage
    runs in worker processes while the caller goes on. Results do not depend on the number of workers.
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
            split: V videos; their annotations are needed for `map_of` only.
            info: class names, streams and the time of a snippet.
            config: hyper-parameters; those of the states that will come.
            num_workers: processes for the numpy stage; 0 runs it in `start`. They are started afresh, so a
                program must guard its main part with ``if __name__ == "__main__"``.
            on_device: whether to keep all features on the device.
        """
        videos = split.videos
        parts: list[PackedFeatures | Sequence[Mapping[str, np.ndarray]]]
        if on_device:
            parts = [split.pack(info.streams, config.feature_dtype)]
        else:  # a few at a time, so that memory does not grow with their number
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
                num_workers, multiprocessing.get_context("spawn"), initializer=_ignore_interrupts
            )

    def __enter__(self) -> "Evaluator":
        """Returns the evaluator."""
        return self

    def __exit__(self, *exception) -> None:
        """Stops the workers."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def start(self, state: TrainState) -> Evaluation:
        """Scores the videos and has their actions localised.

        Args:
            state: a trained state on one device; its config's "Proposals" settings are used.

        Returns:
            `Evaluation`; with workers, its numpy stage goes on in them.
        """
        parts, begin = [], 0
        for videos in self._parts:
            end = begin + len(videos.lengths)
            scores = score_sampled(state, videos)
            parts += self._localize(scores, self._durations[begin:end], state.config)
            begin = end
            # No more waits for the workers than one round of it, or memory would hold all scores.
            concurrent.futures.wait(parts[: -4 * self._num_workers or None])
        return Evaluation(self, parts)

    def score(self, state: TrainState, *, foreground: Foreground | None = None) -> VideoScores:
        """The first half of `start`, of all V videos at once.

        Args:
            state: as `start`.
            foreground: as `case_jax.method.scores.score_sampled`.

        Returns:
            `VideoScores`, on the device if the features are.
        """
        parts = [score_sampled(state, videos, foreground=foreground) for videos in self._parts]
        return parts[0] if len(parts) == 1 else jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    def localize(self, scores: VideoScores, config: CaseConfig) -> Evaluation:
        """The second half of `start`: proposals and soft-NMS, with the "Proposals" settings of ``config``."""
        return Evaluation(self, self._localize(scores, self._durations, config))

    def _localize(
        self, scores: VideoScores, durations: np.ndarray, config: CaseConfig
    ) -> list[concurrent.futures.Future]:
        fused, video_scores = np.asarray(scores.fused), np.asarray(scores.video)
        if self._pool is None:
            part: concurrent.futures.Future[list[Detections]] = concurrent.futures.Future()
            part.set_result(localize_videos(fused, video_scores, durations, config))
            return [part]
        # Some more parts than workers even out that videos differ.
        bounds = np.linspace(0, len(fused), min(len(fused), 4 * self._num_workers) + 1).astype(int)
        return [
            self._pool.submit(
                localize_videos, fused[begin:end], video_scores[begin:end], durations[begin:end], config
            )
            for begin, end in itertools.pairwise(bounds)
        ]

    def detect(self, state: TrainState) -> dict[str, Detections]:
        """`start`, and waits: video name -> `Detections`, times in seconds."""
        return self.start(state).detections()

    def map_of(self, detections: Mapping[str, Detections], tiou_thresholds: Sequence[float]) -> DetectionMap:
        """Detection mAP against the split's annotations.

        Args:
            detections: video name -> `Detections`.
            tiou_thresholds: in (0, 1].

        Returns:
            `DetectionMap`.
        """
        found = detected_segments(detections, self._info.classes)
        return detection_map(self._truth, found, tiou_thresholds)


def _ignore_interrupts() -> None:
    """In a worker: Ctrl-C goes to the whole process group, and the main process answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
