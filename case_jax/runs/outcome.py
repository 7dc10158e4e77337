"""The outcome of a run: its last checkpoint and the one it keeps, evaluated on the test videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from jax.sharding import Mesh

from case_jax.config import CaseConfig
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.evaluator import Evaluator, health_of_scores
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores
from case_jax.runs.settings import RunSettings
from case_jax.training import parallel
from case_jax.training.state import TrainState

if TYPE_CHECKING:
    from case_jax.runs.run import Run

__all__ = ["Outcome", "evaluate_run", "warnings_about"]


class Outcome(NamedTuple):
    """The evaluation of a run. Only the first of several processes has results, scores and detections."""

    settings: RunSettings
    results: dict[str, DetectionMap]  # "last (step ...)" and "best (step ...)", or "healthiest (step ...)"
    state: TrainState  # the state that the run keeps: the best, or the healthiest
    scores: VideoScores | None  # of the test videos, by this state
    detections: dict[str, Detections]  # test video -> detections by this state
    last_scores: VideoScores | None = None  # of the test videos, by the last state


def evaluate_run(
    run: Run,
    evaluator: Evaluator | None,
    *,
    tiou: Sequence[float],
    mesh: Mesh | None = None,
    config: Callable[[CaseConfig], CaseConfig] | None = None,
) -> Outcome:
    """Evaluates the last checkpoint and the best or healthiest one; only once where they are the same.

    Args:
        run: a trained run; its data set's test split is evaluated.
        evaluator: of these test videos; None in every process but the first one.
        tiou: thresholds of mAP, in (0, 1].
        mesh: devices to restore on, as `Workdir.load`. Several processes must all call this, with a mesh.
        config: changes the trained config, to try other settings at test time.

    Raises:
        InputError: if there is no run, or a run with other classes, streams or widths than the data set.
    """
    results: dict[str, DetectionMap] = {}
    scores, last_scores, detections, step = None, None, {}, -1
    checkpoints: tuple[Literal["last", "best"], ...] = ("last", "best")
    for which in checkpoints:
        settings, state = run.workdir.load(which, mesh=mesh)
        settings.check_data(run.dataset, run.workdir.path)
        if evaluator is None:
            continue
        state = parallel.local_copy(state)
        if config is not None:
            state = state.replace(config=config(settings.config))
        if int(state.step) != step:
            step, scores = int(state.step), evaluator.score(state)
            detections = evaluator.localize(scores, state).detections()
            scores = scores._replace(projected=None)  # it is large, and of no use any more
            last_scores = scores if last_scores is None else last_scores
            result = evaluator.map_of(detections, tiou)
        results[f"{settings.keep if which == 'best' else which} (step {step})"] = result
    return Outcome(settings, results, state, scores, detections, last_scores)


def warnings_about(outcome: Outcome, *, one_of_many: bool) -> list[str]:
    """What a user should know about a run: that its last state has collapsed.

    Args:
        outcome: of the first process, which has scores.
        one_of_many: whether the run is one of several seeds, which is then named.
    """
    assert outcome.last_scores is not None
    health = health_of_scores(outcome.last_scores)
    if health is None or not health.collapsed:
        return []
    who = f"seed {outcome.settings.seed}" if one_of_many else "the run"
    return [f"warning: {who} {health.in_words()}"]
