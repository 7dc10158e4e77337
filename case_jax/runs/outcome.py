"""What came out of a run: its last and its best checkpoint, evaluated, and the report of it."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jax.sharding import Mesh

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.errors import InputError
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.evaluator import Evaluator
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training import parallel
from case_jax.training.state import TrainState

__all__ = ["Outcome", "evaluate_run"]


class Outcome(NamedTuple):
    """The evaluation of a run. In every process but the first one, what was found is empty."""

    settings: RunSettings
    results: dict[str, DetectionMap]  # "last (step ...)" and "best (step ...)"
    state: TrainState  # the best one
    scores: VideoScores | None  # of the test videos, by the best state
    detections: dict[str, Detections]  # by the best state


def evaluate_run(
    workdir: Workdir,
    dataset: Dataset,
    evaluator: Evaluator | None,
    *,
    mesh: Mesh | None,
    tiou: Sequence[float],
    config: Callable[[CaseConfig], CaseConfig] | None = None,
) -> Outcome:
    """Evaluates the last and the best checkpoint; once only where these are the same.

    Args:
        workdir: of the run.
        dataset: on the test videos of what.
        evaluator: of the test videos; None in every process but the first one.
        mesh: as `Workdir.load`; all processes must call this.
        tiou: thresholds of mAP.
        config: what to make of the trained config, for settings that are tried at test time.

    Raises:
        InputError: if there is no run, or one of other classes, streams or widths.
    """
    results: dict[str, DetectionMap] = {}
    result, scores, detections, step = None, None, {}, -1
    for which in ("last", "best"):
        settings, state = workdir.load(which, mesh=mesh)
        if (settings.info, settings.stream_widths) != (dataset.info, dataset.stream_widths):
            raise InputError(
                f"{workdir.path}: was trained on other classes, streams or widths; expected those of the "
                "data set given"
            )
        if evaluator is None:
            continue
        state = parallel.local_copy(state)
        if config is not None:
            state = state.replace(config=config(settings.config))
        if int(state.step) != step:
            step, scores = int(state.step), evaluator.score(state)
            detections = evaluator.localize(scores, state.config).detections()
            result = evaluator.map_of(detections, tiou)
        results[f"{which} (step {step})"] = result
    return Outcome(settings, results, state, scores, detections)
