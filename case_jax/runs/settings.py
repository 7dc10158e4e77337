"""All that a run follows from, besides the features: what `config.json` holds."""

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.data.info import DatasetInfo
from case_jax.training.state import TrainState, create_train_state

__all__ = ["SYNTHETIC", "RunSettings"]


# What stands in place of a folder where the data set is the embedded one.
SYNTHETIC = "synthetic"


class RunSettings(NamedTuple):
    """All that a run follows from, besides the features: what `config.json` holds."""

    config: CaseConfig
    info: DatasetInfo
    stream_widths: dict[str, int]
    seed: int
    eval_every: int
    tiou: tuple[float, ...]
    # Where the data set was read from: a folder, `SYNTHETIC`, or None if that is not known. No setting: data
    # may be moved between a run and its resumption.
    data: str | None = None
    # Snippets of the longest test video, which evaluation judged as a whole. No setting either.
    longest_video: int | None = None

    @classmethod
    def of(
        cls,
        config: CaseConfig,
        dataset: Dataset,
        *,
        seed: int,
        eval_every: int,
        tiou: Sequence[float],
        data: str | None = None,
    ) -> "RunSettings":
        """The settings of training ``config`` on ``dataset``."""
        longest = max(video.num_snippets for video in dataset.test.videos)
        return cls(config, dataset.info, dataset.stream_widths, seed, eval_every, tuple(tiou), data, longest)

    def fresh_state(self) -> TrainState:
        """The state at step 0."""
        widths = tuple(self.stream_widths.items())
        return _create(self.config, jax.random.key(self.seed), widths, len(self.info.classes))

    def as_json(self) -> dict[str, Any]:
        """A dictionary ready for JSON; the inverse of `from_json`."""
        return {
            "method": dataclasses.asdict(self.config),
            "dataset": dataclasses.asdict(self.info),
            "stream_widths": self.stream_widths,
            "seed": self.seed,
            "eval_every": self.eval_every,
            "tiou": self.tiou,
            "data": self.data,
            "longest_video": self.longest_video,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunSettings":
        """Reads what `as_json` made.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, ArithmeticError: if it is something else.
        """

        def tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
            return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}

        settings = cls(
            CaseConfig(**_checked(tuples(content["method"]), CaseConfig)),
            DatasetInfo(**_checked(tuples(content["dataset"]), DatasetInfo)),
            {str(k): int(v) for k, v in content["stream_widths"].items()},
            int(content["seed"]),
            int(content["eval_every"]),
            tuple(float(v) for v in content["tiou"]),
            content.get("data"),
            content.get("longest_video"),
        )
        info, widths = settings.info, settings.stream_widths
        if not isinstance(settings.data, str | None):
            raise ValueError(f"'data' is {settings.data!r}")
        longest = settings.longest_video
        if not (longest is None or (_is_of(longest, int) and longest > 0)):
            raise ValueError(f"'longest_video' is {longest!r}")
        if set(widths) != set(info.streams) or not all(0 < width < 2**31 for width in widths.values()):
            raise ValueError(f"'stream_widths' is {widths!r}")
        if not (info.classes and 1e-15 <= info.seconds_per_snippet <= 1e15):
            raise ValueError("'dataset' has no classes or no time of a snippet")
        if not (0 <= settings.seed < 2**31 and settings.eval_every > 0):
            raise ValueError("'seed' or 'eval_every' is out of range")
        if not (settings.tiou and all(0 < threshold <= 1 for threshold in settings.tiou)):
            raise ValueError(f"'tiou' is {settings.tiou!r}")
        return settings


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _create(config: CaseConfig, key: jax.Array, widths: tuple, num_classes: int) -> TrainState:
    """Compiled once for all seeds."""
    return create_train_state(config, key, stream_widths=dict(widths), num_classes=num_classes)


def _checked(fields: Mapping[str, Any], of: type) -> Mapping[str, Any]:
    """The fields of a dataclass, if those that it knows have values of their types."""
    for field in dataclasses.fields(of):
        if field.name in fields and not _is_of(fields[field.name], field.type):
            raise ValueError(f"{field.name!r} is {fields[field.name]!r}")
    return fields


def _is_of(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(v, typing.get_args(kind)[0]) for v in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind if isinstance(kind, type) else str)  # a Literal is of text
