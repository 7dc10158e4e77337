"""Trains each run that a table needs only once: runs are kept in folders named by a hash of the settings."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.data.feature_files import read_snippets
from case_jax.data.files import read_json, write_text_atomically
from case_jax.errors import InputError
from case_jax.evaluator import Evaluator
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.hardware import Hardware
from case_jax.runs.narrator import Narrator
from case_jax.runs.run import Run
from case_jax.runs.settings import RunSettings
from case_jax.runs.train import train
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import NonFiniteLossError
from case_jax.training.state import TrainState
from experiments.ablations.variants import Variant

__all__ = ["Evaluated", "Laboratory", "fingerprint", "run_name"]

Which = Literal["last", "best"]


class Evaluated(NamedTuple):
    """The evaluation of one seed's checkpoint on the test split."""

    step: int
    tiou: tuple[float, ...]
    map: tuple[float, ...]  # mAP in [0, 1] per tIoU
    average: float  # mean of `map`
    assignment_entropy: float | None  # of the mean P^S over test snippets, nats; None without clusters


class Laboratory:
    """Trains and evaluates variants of one method on one data set."""

    def __init__(
        self,
        base: RunSettings,
        dataset: Dataset,
        workdir: Workdir,
        hardware: Hardware,
        narrator: Narrator,
        *,
        seeds: Sequence[int],
        seeds_at_once: int = 1,
        data_name: str = "the data set",
    ):
        """Prepares a laboratory. Nothing is trained until its result is asked for.

        Args:
            base: settings of the full method; their seed is ignored.
            dataset: all runs train and test on it.
            workdir: its subfolder `runs` keeps the runs.
            hardware: devices and worker processes.
            narrator: hears about the progress of training.
            seeds: every variant is trained with each of them.
            seeds_at_once: how many seeds train together.
            data_name: name of the data set in tables and figures.
        """
        self.base, self.dataset, self.hardware = base, dataset, hardware
        self.seeds, self.data_name = tuple(seeds), data_name
        self.folder = workdir.path / "runs"
        self._narrator, self._seeds_at_once = narrator, seeds_at_once
        self._fingerprint = fingerprint(dataset)
        self._evaluator: Evaluator | None = None
        self._trained: set[Path] = set()  # runs known to be trained; every cell of a table asks

    def config(self, variant: Variant) -> CaseConfig:
        """The config with which a variant trains."""
        return dataclasses.replace(self.base.config, **variant.changes)

    def workdir(self, variant: Variant, seed: int) -> Workdir:
        """The folder of a variant's run with one seed."""
        return Workdir(self.folder / run_name(self._settings(variant, seed), self._fingerprint)).of_seed(seed)

    def train(self, variants: Iterable[Variant]) -> None:
        """Trains the variants that are not trained yet, and goes on where a training was interrupted.

        Raises:
            InputError: if a loss is not finite, or a run in the workdir cannot be read.
        """
        missing: dict[Path, tuple[Variant, list[int]]] = {}
        for variant in variants:
            seeds = [seed for seed in self.seeds if not self._is_trained(variant, seed)]
            if seeds:
                missing.setdefault(self.workdir(variant, seeds[0]).path.parent, (variant, seeds))
        for number, (variant, seeds) in enumerate(missing.values(), start=1):
            self._train(variant, seeds, f"{number} of {len(missing)}: {variant.name}")

    def evaluated(self, variant: Variant, which: Which = "last") -> list[Evaluated]:
        """Evaluates a variant, after training it if needed.

        Args:
            variant: what to train, and the foreground probability to test with.
            which: "last" for the last checkpoint, "best" for the one with the best average mAP during
                training (with P^M, if the variant has it).

        Returns:
            One `Evaluated` per seed.
        """
        self.train([variant])
        return [self._evaluated(variant, seed, which) for seed in self.seeds]

    def history(self, variant: Variant, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """A metric of training, after training the variant if needed.

        Args:
            variant: what to train.
            metric: a name in `history.jsonl`.

        Returns:
            (M,) int steps, and (seeds, M) float means of the metric over the steps since the step before.
        """
        self.train([variant])
        rows = [self.workdir(variant, seed).history() for seed in self.seeds]
        return np.array([row["step"] for row in rows[0]]), np.array(
            [[row["metrics"][metric] for row in of_seed] for of_seed in rows]
        )

    def state(self, variant: Variant, seed: int, which: Which = "last") -> TrainState:
        """The state in a checkpoint of a variant that is trained."""
        return self.workdir(variant, seed).load(which)[1]

    @property
    def evaluator(self) -> Evaluator:
        """The evaluator of the test split. All variants share it: it keeps nothing in which they differ."""
        if self._evaluator is None:
            self._evaluator = Evaluator(
                self.dataset.test, self.dataset.info, self.base.config, on_device=self.hardware.on_device
            )
        return self._evaluator

    def _settings(self, variant: Variant, seed: int) -> RunSettings:
        return self.base._replace(config=self.config(variant), seed=seed)

    def _is_trained(self, variant: Variant, seed: int) -> bool:
        workdir = self.workdir(variant, seed)
        if workdir.path not in self._trained and self.config(variant).num_steps in _steps(workdir):
            self._trained.add(workdir.path)
        return workdir.path in self._trained

    def _train(self, variant: Variant, seeds: Sequence[int], title: str) -> None:
        def progress(seed: int) -> int:
            return max(_steps(self.workdir(variant, seed)), default=0)

        # Only seeds that are at the same step can train together.
        for _, group in itertools.groupby(sorted(seeds, key=progress, reverse=True), key=progress):
            group = list(group)
            for begin in range(0, len(group), self._seeds_at_once):
                together = group[begin : begin + self._seeds_at_once]
                self._train_together(variant, together, f"{title}, seed {', '.join(map(str, together))}")

    def _train_together(self, variant: Variant, seeds: Sequence[int], title: str) -> None:
        runs = [Run(self._settings(variant, s), self.workdir(variant, s), self.dataset) for s in seeds]
        for run in runs:
            run.workdir.begin(run.settings)
        try:
            train(runs, self.hardware, self._narrator, title=title, narrate=False)
        except NonFiniteLossError as error:
            raise InputError(f"{variant.name}: {runs[0].named(error)}") from None

    def _evaluated(self, variant: Variant, seed: int, which: Which) -> Evaluated:
        workdir = self.workdir(variant, seed)
        path, key = workdir.path / "evaluations.json", f"{which}, {variant.foreground}"
        known = read_json(path) if path.exists() else {}
        if key not in known:
            known[key] = self._evaluate(variant, seed, which)._asdict()
            write_text_atomically(path, json.dumps(known, indent=1) + "\n")
        try:
            result = Evaluated(**known[key])
            return result._replace(tiou=tuple(result.tiou), map=tuple(result.map))
        except TypeError:
            raise InputError(
                f"{path}: {key!r} is not an evaluation; expected what this command wrote, or no such file"
            ) from None

    def _evaluate(self, variant: Variant, seed: int, which: Which) -> Evaluated:
        state = self.state(variant, seed, which)
        scores = self.evaluator.score(state, foreground=variant.foreground)
        detections = self.evaluator.localize(scores, state).detections()
        result = self.evaluator.map_of(detections, self.base.tiou)
        return Evaluated(
            int(state.step),
            self.base.tiou,
            tuple(result.per_tiou.tolist()),
            result.average,
            None if scores.clusters is None else _entropy_of_mean(scores.clusters),
        )


def run_name(settings: RunSettings, data: str) -> str:
    """Name of a run's folder: a hash of its settings without the seed, and of its data's `fingerprint`."""
    content: dict[str, Any] = {**settings.as_json(), "data": data}
    del content["seed"], content["longest_video"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def fingerprint(dataset: Dataset) -> str:
    """A hash of the names, times, annotations and some snippets of all videos.

    It differs between data sets, and changes when features are extracted anew. Only nine evenly spaced
    snippets of each video, the first one among them, and the last snippet are read.
    """
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for video in split.videos:
            facts = (video.name, video.num_snippets, video.seconds(dataset.info), video.annotations)
            digest.update(repr(facts).encode())
            some = np.unique(np.append(np.arange(9) * video.num_snippets // 9, video.num_snippets - 1))
            for stream in dataset.info.streams:
                rows = read_snippets(video.features, stream, some)
                digest.update(np.ascontiguousarray(rows, np.float32).tobytes())
    return digest.hexdigest()


def _steps(workdir: Workdir) -> list[int]:
    """Steps that have a checkpoint."""
    if not workdir.checkpoints.is_dir():
        return []
    with CheckpointStore(workdir.checkpoints, read_only=True) as store:
        return store.steps


def _entropy_of_mean(assignments: Any) -> float:
    """Entropy in nats of the mean of (V, T, K) assignments."""
    share = np.asarray(assignments, np.float64).mean(axis=(0, 1))
    return float(-np.sum(share * np.log(np.maximum(share, 1e-300))))
