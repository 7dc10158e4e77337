"""A report of a small made-up run."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.evaluator import Evaluator
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores
from case_jax.report.write import write_report
from case_jax.runs.outcome import Outcome
from case_jax.runs.run import Run
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir

ODD_NAME = 'a</script><b title="&">'  # ends scripts, opens elements and quotes
CONFIG = CaseConfig(num_snippets=24, batch_size=2, hidden_dim=8, num_clusters=4, num_steps=20)
BASELINE = dataclasses.replace(CONFIG, scc=False, ccc=False, clustering_assisted_testing=False)
TIOU = (0.1, 0.3, 0.5)


class Reported(NamedTuple):
    """A report, and what it reports."""

    path: Path
    run: Run
    outcome: Outcome

    @property
    def dataset(self) -> Dataset:
        return self.run.dataset

    @property
    def scores(self) -> VideoScores:
        return self.outcome.scores

    @property
    def detections(self) -> dict[str, Detections]:
        return self.outcome.detections


def make_report(folder: Path, config: CaseConfig = CONFIG) -> Reported:
    """Reports an untrained network on five test videos, with made-up metrics of training."""
    dataset = _dataset()
    run = Run(
        RunSettings.of(config, dataset, seed=7, eval_every=10, tiou=TIOU, data="synthetic"),
        Workdir(folder / "a run & <more>"),
        dataset,
    )
    run.workdir.begin(run.settings)
    _write_records(run)
    # dtypes are promoted as for users: Adam's step count is an integer.
    with jax.numpy_dtype_promotion("standard"):
        outcome = _outcome(run)
    return Reported(write_report(run, outcome, seconds=12.0), run, outcome)


def _dataset() -> Dataset:
    dataset = make_synthetic_dataset(3, SyntheticSpec(num_train=4, num_test=5, num_classes=3, width=6))
    videos = list(dataset.test.videos)
    videos[1] = videos[1]._replace(name=ODD_NAME)
    return dataclasses.replace(
        dataset, test=dataclasses.replace(dataset.test, videos=tuple(videos), packed=None)
    )


def _write_records(run: Run) -> None:
    config = run.settings.config
    names = [name for name, on in (("entropy_snippets", config.scc), ("entropy_clusters", config.ccc)) if on]
    run.workdir.write_history(
        [
            {"step": step, "metrics": {"loss": 9 / step, "loss_video": 5 / step} | dict.fromkeys(names, 1.25)}
            for step in (5, 10, 15, 20)
        ]
    )
    row = {"losses": {"loss": 1.0}, "tiou": TIOU, "map": [0.5] * 3}
    run.workdir.write_metrics([{"step": 10, "average": 0.5, **row}, {"step": 20, "average": 0.25, **row}])


def _outcome(run: Run) -> Outcome:
    config, state = run.settings.config, run.settings.fresh_state()
    # Labels that differ, so that P^T does, and activations that cross the thresholds.
    labels = np.linspace(0, 1, config.num_clusters, dtype=np.float32)
    state = state.replace(
        cluster_labels=jax.numpy.stack([labels, 1 - labels], axis=1),
        params=jax.tree.map(lambda leaf: 4 * leaf, state.params),
    )
    with Evaluator(run.dataset.test, run.dataset.info, config) as evaluator:
        scores = evaluator.score(state)
        detections = evaluator.localize(scores, state).detections()
        result = evaluator.map_of(detections, TIOU)
    results = {"last (step 20)": result, "best (step 10)": result}
    return Outcome(run.settings, results, state, jax.tree.map(np.asarray, scores), detections)
