"""The second stage of a run: learnt from its detections in the training videos, kept as a run of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from case_jax.data.feature_files import read_snippets
from case_jax.data.packed import DTYPES
from case_jax.errors import InputError
from case_jax.evaluator import Evaluator
from case_jax.method.sampled_videos import sample_videos, score_sampled
from case_jax.refinement.learning import Learning, begin, finish, refine_steps
from case_jax.refinement.settings import RefinementConfig
from case_jax.refinement.targets import Examples, examples_of, raw_detections
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.lock import exclusive
from case_jax.runs.memory import check_examples
from case_jax.runs.narrator import Narrator
from case_jax.runs.record import recording
from case_jax.runs.run import Run
from case_jax.runs.signals import Interrupted, noting_signals
from case_jax.runs.training_features import check_features, note_features
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import Chunk
from case_jax.training.state import TrainState

if TYPE_CHECKING:
    from case_jax.config import CaseConfig
    from case_jax.data.dataset import Dataset, Video
    from case_jax.runs.settings import RunSettings

__all__ = ["refine", "refined_run", "refined_settings"]

_CHUNK = 10  # steps between reports
_VIDEOS_AT_ONCE = 64  # of which memory holds the first stage's scores
_CONSTANT = 1e-3  # of the median channel's deviation; a channel that changes less is not used


def refined_run(
    first: Workdir,
    folder: str | os.PathLike,
    dataset: Dataset,
    *,
    config: CaseConfig | None = None,
    refinement: RefinementConfig | None = None,
) -> Run:
    """The run of a second stage, not begun yet; nothing is written.

    Args:
        first: workdir of the trained run that it refines.
        folder: its own workdir.
        dataset: what the first run was trained on, with its test split.
        config: the first run's config with other settings of test time; default the same.
        refinement: settings of the second stage.

    Raises:
        InputError: if there is no first run, it has a second stage already, the workdirs are the same, or the
            data set does not fit.
    """
    settings = first.settings()
    if settings.refinement is not None:
        raise InputError(f"{first.path}: has a second stage already; expected the run of a first stage")
    if os.path.realpath(first.path) == os.path.realpath(folder):
        raise InputError(f"{folder}: is the first stage's own workdir; expected another folder")
    settings.check_data(dataset, first.path)
    check_features([Run(settings, first, dataset)])
    return Run(refined_settings(settings, config, refinement), Workdir(folder), dataset)


def refined_settings(
    settings: RunSettings, config: CaseConfig | None = None, refinement: RefinementConfig | None = None
) -> RunSettings:
    """The settings of a second stage's run; see `refined_run` for the arguments."""
    refinement = refinement or RefinementConfig()
    return settings._replace(
        config=config or settings.config, eval_every=refinement.num_steps, refinement=refinement
    )


def refine(run: Run, first: TrainState, narrator: Narrator | None = None, *, title: str = "") -> None:
    """Trains the second stage of a run, unless that is done, and evaluates it.

    It takes seconds to minutes. If it is interrupted, the next call begins it anew, with the same result.

    Args:
        run: from `refined_run`; it is begun here.
        first: trained state of the first stage.
        narrator: is told how far training is; default nobody.
        title: what the line about the evaluation begins with.

    Raises:
        InputError: if another training is writing to the workdir, it holds the second stage of another first
            stage, a file cannot be written, memory is too small, or features are so large that a loss is not
            finite.
        Interrupted: by a signal.
    """
    narrator = narrator or Narrator()
    settings, config = run.settings, run.settings.refinement
    assert config is not None
    run.workdir.begin(settings)
    with (
        noting_signals(patient=True) as interruption,
        exclusive(run.workdir.path),
        CheckpointStore(run.workdir.checkpoints) as store,
    ):
        if store.latest_step == config.num_steps:
            _check_same(run, first, store.restore(settings.fresh_state(), config.num_steps))
            return
        check_examples(len(run.dataset.train.videos), sum(settings.stream_widths.values()), config)
        note_features([run], going_on=False)

        def go_on(step: int = 0) -> None:
            if interruption.signal is not None:
                message = f"interrupted at step {step} of {config.num_steps}: the same command begins anew"
                raise Interrupted(interruption.signal, message)

        examples, mean, deviation = _examples(run, first, config, go_on)
        first = first.replace(config=settings.config)
        learning = begin(
            jax.random.fold_in(first.key, 1),
            width=len(mean),
            num_classes=len(settings.info.classes),
            config=config,
        )
        with (
            recording(settings, run.workdir, store, narrator, evaluated=0, step=0, title=title) as record,
            narrator.progress("second stage", 0, config.num_steps) as show,
        ):
            while (step := int(learning.step)) < config.num_steps:
                go_on(step)
                count = min(_CHUNK, config.num_steps - step)
                learning, losses = refine_steps(learning, examples, num_steps=count, config=config)
                metrics = {"loss": float(np.mean(losses, dtype=np.float64))}
                if not np.isfinite(metrics["loss"]):
                    raise InputError(
                        f"{run.workdir.path}: the second stage's loss is {metrics['loss']} at step "
                        f"{step + count}; expected a finite number (are features on a very large scale?)"
                    )
                record.add(Chunk(step + count, first, count, dict(metrics)))
                show(step + count, metrics, [record.last], [record.best])
            state = _with_scorer(first, learning, mean, deviation, config)
            with Evaluator(run.dataset.test, settings.info, settings.config, on_device=run.in_memory) as by:
                evaluation = by.start(state)
                record.evaluated(
                    config.num_steps,
                    state,
                    record.take_losses(),
                    evaluation.detections(),
                    evaluation.health,
                    by,
                )


def _check_same(run: Run, first: TrainState, refined: TrainState) -> None:
    """Rejects a second stage that was learnt from another first stage."""
    same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), first.params, refined.params)
    if not all(jax.tree.leaves(same)):
        raise InputError(
            f"{run.workdir.path}: holds the second stage of another first stage; expected the same --workdir "
            "and --which, or an empty --output"
        )


def _with_scorer(
    first: TrainState, learning: Learning, mean: np.ndarray, deviation: np.ndarray, config: RefinementConfig
) -> TrainState:
    return first.replace(step=learning.step, scorer=finish(learning, mean, deviation, config))


def _examples(
    run: Run, first: TrainState, config: RefinementConfig, go_on: Callable[[], None]
) -> tuple[Examples, np.ndarray, np.ndarray]:
    """The examples of all training videos with standardised features; (D,) means and deviations of these."""
    training, info, trained = run.dataset.train, run.settings.info, first.config
    labels = training.video_labels(info.classes)
    mean, deviation = _moments(training.videos, first, go_on)
    examples: Examples | None = None
    for begin_at in range(0, len(training.videos), _VIDEOS_AT_ONCE):
        videos = training.videos[begin_at : begin_at + _VIDEOS_AT_ONCE]
        sampled = sample_videos([video.features for video in videos], num_snippets=trained.num_snippets)
        scores = jax.tree.map(np.asarray, score_sampled(first, sampled))
        for row, video in enumerate(videos):
            go_on()
            duration = video.seconds(info)
            found = raw_detections(scores.fused[row], scores.video[row], duration=duration, config=trained)
            of_video = examples_of(
                (_sampled(video, first) - mean) / deviation,
                found,
                labels[begin_at + row],
                duration=duration,
                config=config,
            )
            if examples is None:  # made at once, because it is most of the memory that a second stage takes
                examples = Examples(*(np.empty((len(labels), *a.shape), a.dtype) for a in of_video))
            for whole, part in zip(examples, of_video):
                whole[begin_at + row] = part
    assert examples is not None  # a split has videos
    return jax.device_put(examples), mean, deviation


def _moments(
    videos: Sequence[Video], first: TrainState, go_on: Callable[[], None]
) -> tuple[np.ndarray, np.ndarray]:
    """(D,) float32 means and standard deviations of the sampled features.

    The deviation of a channel that hardly changes is infinite, so that the second stage does not see it: by
    its deviation in training, anything else in a new video would be huge.
    """
    total, squares, count = 0.0, 0.0, 0
    for video in videos:
        go_on()
        features = _sampled(video, first).astype(np.float64)
        total, squares = total + features.sum(axis=0), squares + np.square(features).sum(axis=0)
        count += len(features)
    mean = np.asarray(total) / count
    deviation = np.sqrt(np.maximum(np.asarray(squares) / count - np.square(mean), 0))
    constant = deviation <= np.maximum(_CONSTANT * np.median(deviation), 1e-6 * np.abs(mean))
    return mean.astype(np.float32), np.where(constant, np.inf, deviation).astype(np.float32)


def _sampled(video: Video, first: TrainState) -> np.ndarray:
    """(T, D) float32 features of all streams side by side, evenly spaced over the video."""
    positions = np.arange(first.config.num_snippets) * video.num_snippets // first.config.num_snippets
    distinct, inverse = np.unique(positions, return_inverse=True)
    streams = [read_snippets(video.features, name, distinct) for name in first.network.streams]
    rows = np.concatenate([np.asarray(rows, np.float32) for rows in streams], axis=1)[inverse]
    return rows.astype(DTYPES[first.config.feature_dtype]).astype(np.float32)  # as the first stage has them
