"""Training what a table needs, once: every run is kept in the workdir under its settings' hash."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.console import Console

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.data.feature_files import read_snippets
from case_jax.data.files import read_json, write_text_atomically
from case_jax.errors import InputError
from case_jax.evaluator import Evaluator
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.settings import RunSettings
from case_jax.runs.train import Hardware, Run, train
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import NonFiniteLossError
from case_jax.training.state import TrainState
from experiments.ablations.variants import Variant

__all__ = ["Evaluated", "Laboratory", "fingerprint", "run_name"]

Which = Literal["last", "best"]


class Evaluated(NamedTuple):
    """One seed's checkpoint on the test split."""

    step: int
    tiou: tuple[float, ...]
    map: tuple[float, ...]  # mAP in [0, 1] per tIoU
    average: float  # over all of them
    assignment_entropy: float | None  # H of the mean P^S over test snippets, nats; None without clusters


class Laboratory:
    """Trains and evaluates variants of one method on one data set."""

    def __init__(
        self,
        base: RunSettings,
        dataset: Dataset,
        workdir: Workdir,
        hardware: Hardware,
        console: Console,
        *,
        seeds: Sequence[int],
        seeds_at_once: int = 1,
        data_name: str = "the data set",
    ):
        """Prepares; nothing is trained until it is asked for.

        Args:
            base: the full method's settings; its seed is not used.
            dataset: on what.
            workdir: where the runs are kept, in `runs/`.
            hardware: where to compute.
            console: for progress.
            seeds: to train every variant with.
            seeds_at_once: how many of them train together.
            data_name: what the figures are said to be of.
        """
        self.base, self.dataset, self.hardware = base, dataset, hardware
        self.seeds, self.data_name = tuple(seeds), data_name
        self.folder = workdir.path / "runs"
        self._console, self._seeds_at_once = console, seeds_at_once
        self._fingerprint = fingerprint(dataset)
        self._evaluator: Evaluator | None = None
        self._trained: set[Path] = set()  # runs known to be: every cell of a table asks

    def config(self, variant: Variant) -> CaseConfig:
        """The settings that a variant trains with."""
        return dataclasses.replace(self.base.config, **variant.changes)

    def workdir(self, variant: Variant, seed: int) -> Workdir:
        """Where a run is."""
        return Workdir(self.folder / run_name(self._settings(variant, seed), self._fingerprint)).of_seed(seed)

    def train(self, variants: Iterable[Variant]) -> None:
        """Trains all of them that are not trained yet, and goes on where a training was interrupted.

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
        """What came out, one per seed; trains first if need be.

        Args:
            variant: what to test, and with which foreground probability.
            which: the last checkpoint, or the one with the best average mAP (with P^M, where there is one).
        """
        self.train([variant])
        return [self._evaluated(variant, seed, which) for seed in self.seeds]

    def history(self, variant: Variant, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """A metric of training.

        Returns:
            (M,) steps, and (seeds, M) means of the metric over the steps up to each.
        """
        self.train([variant])
        rows = [self.workdir(variant, seed).history() for seed in self.seeds]
        return np.array([row["step"] for row in rows[0]]), np.array(
            [[row["metrics"][metric] for row in of_seed] for of_seed in rows]
        )

    def state(self, variant: Variant, seed: int, which: Which = "last") -> TrainState:
        """A trained state."""
        return self.workdir(variant, seed).load(which)[1]

    @property
    def evaluator(self) -> Evaluator:
        """Of the test split; the same for all variants, which differ in nothing that it keeps."""
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

        # Seeds train together only from the same step on.
        for _, group in itertools.groupby(sorted(seeds, key=progress, reverse=True), key=progress):
            group = list(group)
            for begin in range(0, len(group), self._seeds_at_once):
                together = group[begin : begin + self._seeds_at_once]
                runs = [Run(self._settings(variant, s), self.workdir(variant, s)) for s in together]
                for run in runs:
                    run.workdir.begin(run.settings)
                named = f"{title}, seed {', '.join(map(str, together))}"
                try:
                    train(runs, self.dataset, self.hardware, self._console, title=named, narrate=False)
                except NonFiniteLossError as error:
                    names = [video.name for video in self.dataset.train.videos]
                    raise InputError(f"{variant.name}: {error.with_names(names)}") from None

    def _evaluated(self, variant: Variant, seed: int, which: Which) -> Evaluated:
        workdir = self.workdir(variant, seed)
        path, key = workdir.path / "evaluations.json", f"{which}, {variant.foreground}"
        known = read_json(path) if path.exists() else {}
        if key not in known:
            state = self.state(variant, seed, which)
            scores = self.evaluator.score(state, foreground=variant.foreground)
            detections = self.evaluator.localize(scores, state.config).detections()
            result = self.evaluator.map_of(detections, self.base.tiou)
            entropy = None
            if scores.clusters is not None:
                share = np.asarray(scores.clusters, np.float64).mean(axis=(0, 1))
                entropy = float(-np.sum(share * np.log(np.maximum(share, 1e-300))))
            known[key] = Evaluated(
                int(state.step), self.base.tiou, tuple(result.per_tiou.tolist()), result.average, entropy
            )._asdict()
            write_text_atomically(path, json.dumps(known, indent=1) + "\n")
        try:
            result = Evaluated(**known[key])
            return result._replace(tiou=tuple(result.tiou), map=tuple(result.map))
        except TypeError:
            raise InputError(
                f"{path}: {key!r} is no evaluation; expected what this command wrote, or no such file"
            ) from None


def run_name(settings: RunSettings, data: str) -> str:
    """The folder of a run: a hash of its settings, without the seed, and of its data's `fingerprint`."""
    content: dict[str, Any] = {**settings.as_json(), "data": data}
    del content["seed"], content["longest_video"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def fingerprint(dataset: Dataset) -> str:
    """A hash of names, times, annotations, and some snippets of every video.

    It tells data sets apart, and features from the same ones extracted anew, without reading all of them:
    nine evenly spaced snippets of each video, the first one among them, and the last.
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
    """Steps of which there is a checkpoint."""
    if not workdir.checkpoints.is_dir():
        return []
    with CheckpointStore(workdir.checkpoints, read_only=True) as store:
        return store.steps
