"""The folder a run lives in: settings, metrics, checkpoints, predictions."""

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from jax.sharding import Mesh

from case_jax.data.files import read_json, write_text_atomically
from case_jax.errors import InputError
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.settings import RunSettings
from case_jax.training.parallel import replicate
from case_jax.training.state import TrainState

__all__ = ["Workdir"]


class Workdir:
    """Files of one run under one folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def of_seed(self, seed: int) -> "Workdir":
        """Where the run of one of many seeds lives."""
        return Workdir(self.path / f"seed_{seed}")

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def interrupted(self) -> Path:
        """Folder of the state at which training was interrupted since the last evaluation, if it was."""
        return self.path / "interrupted"

    @property
    def predictions(self) -> Path:
        """Detections of the best step, ActivityNet format."""
        return self.path / "predictions.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def _config(self) -> Path:
        return self.path / "config.json"

    @property
    def _metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def _history(self) -> Path:
        return self.path / "history.jsonl"

    def begin(self, settings: RunSettings) -> None:
        """Writes `config.json`, or checks that it is of the same run; only ``num_steps`` may differ.

        Where what is trained in a step depends on how many there will be, not even that.

        Raises:
            InputError: if the folder holds a run of other settings, or cannot be written.
        """
        rows = self.metrics()
        if rows and rows[-1]["step"] > settings.config.num_steps:
            raise InputError(
                f"--num_steps: is {settings.config.num_steps}; expected at least the {rows[-1]['step']} "
                f"steps already trained in {self.path}"
            )
        if self._config.exists():
            old, new = _flatten(self.settings().as_json()), _flatten(settings.as_json())
            may_differ = {"method.num_steps", "data", "longest_video"}
            if settings.config.depends_on_length:
                may_differ.remove("method.num_steps")
            for name in new:
                if name not in may_differ and old.get(name) != new[name]:
                    flag = name.removeprefix("method.")
                    raise InputError(
                        f"{self.path}: holds a run with {flag} = {_short(old.get(name))}, not "
                        f"{_short(new[name])}; expected the same settings, or an empty --workdir"
                    )
        text = json.dumps(settings.as_json(), indent=1)
        write_text_atomically(self._config, text + "\n")

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps other trainings out of the folder until the end, or until this process ends.

        Where the system or its file system knows no locks, nobody is kept out.

        Raises:
            InputError: if another one is in it.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        folder = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"{self.path}: another training is writing to it; expected one at a time, or another "
                    "--workdir"
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
                    raise
            yield
        finally:
            os.close(folder)  # which gives up the lock

    def settings(self) -> RunSettings:
        """Reads `config.json`.

        Raises:
            InputError: if it is missing or not a run's settings.
        """
        content = read_json(self._config)
        try:
            return RunSettings.from_json(content)
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{self._config}: is no run's settings ({reason}); expected the file that training wrote"
            ) from None

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of `metrics.jsonl`, by step; none where there is no file.

        Raises:
            InputError: if a line is not an evaluation's.
        """
        return _read_rows(self._metrics, "evaluation", "average", float)

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces `metrics.jsonl` as a whole, so that it never holds a torn line."""
        _write_rows(self._metrics, rows)

    def history(self) -> list[dict[str, Any]]:
        """The rows of `history.jsonl`: {"step", "metrics"}, means over the steps since the row before.

        Raises:
            InputError: if a line is something else.
        """
        return _read_rows(self._history, "report of training", "metrics", dict)

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces `history.jsonl` as a whole."""
        _write_rows(self._history, rows)

    def load(
        self, which: Literal["best", "last"] = "best", *, mesh: Mesh | None = None
    ) -> tuple[RunSettings, TrainState]:
        """Restores a trained state.

        Args:
            which: "best" by average mAP, or "last".
            mesh: devices to put it on; default the first one. Several hosts must all call this, with one.

        Returns:
            The run's settings and the state.

        Raises:
            InputError: if there is no run or no checkpoint here, or ``which`` is something else.
        """
        if which not in ("best", "last"):
            raise InputError(f"which: is {which!r}; expected 'best' or 'last'")
        settings = self.settings()
        if not self.checkpoints.is_dir():
            raise InputError(f"{self.checkpoints}: no such folder; expected the checkpoints of a training")
        with CheckpointStore(self.checkpoints, read_only=True) as store:
            step = store.best_step if which == "best" else store.latest_step
            if step is None:
                raise InputError(f"{self.checkpoints}: holds no checkpoint; expected one from training")
            template = settings.fresh_state()
            return settings, store.restore(template if mesh is None else replicate(template, mesh), step)


def _read_rows(path: Path, what: str, key: str, kind: type) -> list[dict[str, Any]]:
    """The JSON objects of a file, one a line, each with a "step" and a ``key`` that is a ``kind``.

    A dict must hold finite numbers by name, the same names in every row; a float must be finite.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected one {what} a line") from None
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
            row = {**row, "step": int(row["step"]), key: kind(row[key])}
            numbers = row[key] if kind is dict else {key: row[key]}
            if row["step"] < 0 or not all(map(math.isfinite, numbers.values())):
                raise ValueError
            if kind is dict and rows and numbers.keys() != rows[0][key].keys():
                raise ValueError
        except (ValueError, KeyError, TypeError, ArithmeticError, RecursionError):
            raise InputError(
                f"{path}: line {number} is no {what}; expected a JSON object with 'step' and {key!r}"
            ) from None
        rows.append(row)
    return rows


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_text_atomically(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def _flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, Mapping):
        return {prefix: list(content) if isinstance(content, tuple) else content}
    flat = {}
    for name, value in content.items():
        flat.update(_flatten(value, f"{prefix}.{name}" if prefix else name))
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
