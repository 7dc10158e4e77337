"""The folder that a run lives in, and the files in it."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jax.sharding import Mesh

from case_jax.data.files import one_line, read_json, write_text_atomically
from case_jax.errors import InputError
from case_jax.evaluation.health import Health
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.kept import health_of
from case_jax.runs.places import explain_place
from case_jax.runs.rows import read_rows, write_rows
from case_jax.runs.settings import RunSettings
from case_jax.runs.training_features import training_features_path
from case_jax.training.parallel import replicate
from case_jax.training.state import TrainState

__all__ = ["Workdir"]

_EVALUATION: dict[str, Any] = {
    "what": "an evaluation",
    "key": "average",
    "kind": float,
    "also": {"health": Health._fields},
}
_REPORT: dict[str, Any] = {"what": "a report of training", "key": "metrics", "kind": dict}


class Workdir:
    """Files of one run under one folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def of_seed(self, seed: int) -> "Workdir":
        """The workdir of one of several seeds that train together."""
        return Workdir(self.path / f"seed_{seed}")

    def seeds(self) -> list["Workdir"]:
        """The workdirs of several seeds that trained together here; this workdir itself if there are none."""
        if os.path.exists(self.config) or not os.path.isdir(self.path):  # a name may be too long to look up
            return [self]
        names = (path.name.removeprefix("seed_") for path in self.path.glob("seed_*"))
        return [self.of_seed(seed) for seed in sorted(int(n) for n in names if n.isdecimal())] or [self]

    @property
    def config(self) -> Path:
        """`config.json`, the run's settings."""
        return self.path / "config.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the evaluated checkpoints."""
        return self.path / "checkpoints"

    @property
    def interrupted(self) -> Path:
        """Folder of the state in which training was interrupted after the last evaluation, if it was."""
        return self.path / "interrupted"

    @property
    def predictions(self) -> Path:
        """Detections of the best step, or the healthiest, in ActivityNet form."""
        return self.path / "predictions.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def events(self) -> Path:
        """Folder of TensorBoard's events."""
        return self.path / "events"

    @property
    def history_path(self) -> Path:
        """`history.jsonl`, the losses on the way."""
        return self.path / "history.jsonl"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def begin(self, settings: RunSettings) -> None:
        """Writes `config.json`; if the folder holds a run, its settings must be the same, as `check` says.

        Raises:
            InputError: if the folder holds a run of other settings, or cannot be written.
        """
        self.check(settings)
        write_text_atomically(self.config, json.dumps(settings.as_json(), indent=1) + "\n")

    def check(self, settings: RunSettings) -> None:
        """Rejects a folder that holds a run of other settings.

        Only ``num_steps`` may differ, so that a run can be prolonged. Even ``num_steps`` must be the same
        where what a step does depends on how many steps there will be, or there is a second stage.

        Raises:
            InputError: if it does.
        """
        rows = self.metrics()
        if rows and rows[-1]["step"] > settings.num_steps:
            raise InputError(
                f"--num_steps: is {settings.num_steps}; expected at least the {rows[-1]['step']} "
                f"steps already trained in {self.path}"
            )
        if self.config.exists() and (difference := self.settings().difference(settings)) is not None:
            name, old, new = difference
            way_out = "--action_free=leave_out" if name == "action_free" else "the same settings"
            folder = "--workdir" if settings.refinement is None else "folder for the second stage (--output)"
            raise InputError(
                f"{self.path}: holds a run with {name} = {old}, not {new}; expected {way_out}, or an empty "
                f"{folder}"
            )

    def settings(self) -> RunSettings:
        """Reads `config.json`.

        Raises:
            InputError: if it is missing or does not hold a run's settings.
        """
        if not os.path.exists(self.config) and (explained := explain_place(self.path)):
            raise InputError(explained)
        content = read_json(self.config)
        try:
            return RunSettings.from_json(content)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise InputError(
                f"{self.config}: does not hold a run's settings ({one_line(error)}); expected the file that "
                "training wrote"
            ) from None

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, one an evaluation, by step; none where there is no file.

        Raises:
            InputError: if a line is something else.
        """
        return read_rows(self._metrics, **_EVALUATION)

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces `metrics.jsonl`."""
        write_rows(self._metrics, rows)

    def history(self) -> list[dict[str, Any]]:
        """The rows of `history.jsonl`: {"step", "metrics"}, means over the steps since the row before.

        Raises:
            InputError: if a line is something else.
        """
        return read_rows(self.history_path, **_REPORT)

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces `history.jsonl`."""
        write_rows(self.history_path, rows)

    def sweep(self) -> None:
        """Removes what a killed process was writing beside the files."""
        features = training_features_path(self.path)
        for name in (self._metrics.name, self.history_path.name, self.predictions.name, features.name):
            for path in self.path.glob(f".{name}.*"):
                path.unlink()

    def load(
        self, which: Literal["best", "last"] = "best", *, mesh: Mesh | None = None
    ) -> tuple[RunSettings, TrainState]:
        """Restores a trained state. Of several seeds that keep the healthiest, that is the healthiest seed's.

        Args:
            which: "best", by what the run keeps (average mAP, or health), or "last".
            mesh: devices to put the state on; default the first one. Several hosts must all call this, with a
                mesh.

        Returns:
            The run's settings and the state.

        Raises:
            InputError: if there is no run or no checkpoint here, or ``which`` is something else.
        """
        if which not in ("best", "last"):
            raise InputError(f"which: is {which!r}; expected 'best' or 'last'")
        if (seeds := self.seeds()) != [self] and all(map(_keeps_healthiest, seeds)):
            return self.healthiest(which).load(which, mesh=mesh)
        settings = self.settings()
        if not self.checkpoints.is_dir():
            raise InputError(f"{self.checkpoints}: no such folder; expected the checkpoints of a training")
        with CheckpointStore(self.checkpoints, read_only=True) as store:
            step = store.best_step if which == "best" else store.latest_step
            if step is None:
                raise InputError(f"{self.checkpoints}: holds no checkpoint; expected one from training")
            template = settings.fresh_state()
            return settings, store.restore(template if mesh is None else replicate(template, mesh), step)

    def health(self, which: Literal["best", "last"]) -> Health | None:
        """The health of a checkpoint as it was measured in training; see `load` for ``which``.

        Raises:
            InputError: if there is no run, or `metrics.jsonl` holds something else.
        """
        return health_of(self.metrics(), self.settings().keep, which)

    def healthiest(self, which: Literal["best", "last"]) -> "Workdir":
        """The seed whose checkpoint has the highest agreement, the first of equals.

        Args:
            which: see `load`.

        Raises:
            InputError: if the health of a seed was not measured.
        """

        def agreement(seed: "Workdir") -> float:
            health = seed.health(which)
            if health is None:
                raise InputError(
                    f"{seed.path}: its health was not measured; expected --keep=healthiest in training"
                )
            return health.agreement

        return max(self.seeds(), key=agreement)

    def healthy(self, which: Literal["best", "last"]) -> list["Workdir"]:
        """The seeds that have not collapsed, as far as that is known; all of them if all have.

        Args:
            which: see `load`.

        Raises:
            InputError: as `health` does.
        """
        healths = {seed: seed.health(which) for seed in self.seeds()}
        kept = [seed for seed, health in healths.items() if health is None or not health.collapsed]
        return kept or list(healths)

    def load_together(
        self, which: Literal["best", "last"] = "last"
    ) -> tuple[RunSettings, tuple[TrainState, ...]]:
        """Restores the trained states of all seeds that trained together here, but not of collapsed ones.

        Args:
            which: see `load`; each seed's own.

        Returns:
            The settings of the first seed of `healthy`, and one state for each of them.

        Raises:
            InputError: if there are fewer than two seeds, they are of different trainings, or one of them has
                no checkpoint.
        """
        seeds = self.seeds()
        if len(seeds) < 2:
            raise InputError(
                f"{self.path}: holds no runs of several seeds; expected the folder that a training with "
                "--num_seeds wrote"
            )
        first = seeds[0].settings()
        for seed in seeds:
            if (difference := first.difference(seed.settings()._replace(seed=first.seed))) is not None:
                name, old, new = difference
                raise InputError(
                    f"{seed.path}: has {name} = {new}, and {seeds[0].path} has {old}; expected seeds of one "
                    "training"
                )
        loaded = [seed.load(which) for seed in self.healthy(which)]
        return loaded[0][0], tuple(state for _, state in loaded)


def _keeps_healthiest(workdir: Workdir) -> bool:
    """Whether a run keeps its healthiest checkpoint, as far as its settings can be read."""
    with contextlib.suppress(InputError):
        return workdir.settings().keep == "healthiest"
    return False
