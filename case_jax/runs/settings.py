"""All that a run follows from, besides the features: what `config.json` holds."""

import dataclasses
import functools
import json
import math
import os
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.data.extraction import Extraction, common_extraction
from case_jax.data.info import DatasetInfo, as_settings
from case_jax.errors import InputError
from case_jax.refinement.learning import empty_scorer
from case_jax.refinement.settings import RefinementConfig
from case_jax.training.state import TrainState, create_train_state

__all__ = ["EVAL_EVERY", "SYNTHETIC", "TIOU", "Keep", "RunSettings"]

# Stands in place of a folder's path where the data set is the embedded one.
SYNTHETIC = "synthetic"

# Unless told otherwise: steps between evaluations, and THUMOS14's thresholds of mAP.
EVAL_EVERY = 50
TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

# Which checkpoint a run keeps besides the latest: the best by mAP on the test videos, or the healthiest,
# which needs no annotations.
Keep = Literal["best", "healthiest"]

# The algorithm of random numbers: JAX's default, named so that a seed means the same whatever JAX is told.
_RANDOM = "threefry2x32"

# Settings that may change between a run and its resumption: data may be moved, and the longest test video
# does not change what is trained.
_MAY_DIFFER = ("data", "longest_video")


class RunSettings(NamedTuple):
    """The settings of one run."""

    config: CaseConfig
    info: DatasetInfo
    stream_widths: dict[str, int]  # stream -> D, channels
    seed: int
    eval_every: int  # steps between evaluations
    tiou: tuple[float, ...]  # thresholds of mAP
    data: str | None = None  # where the data set was: a folder, `SYNTHETIC`, or None if not known
    longest_video: int | None = None  # snippets of the longest test video, which evaluation judged as a whole
    extraction: Extraction | None = None  # how features were made from videos; None if not known
    keep: Keep = "best"  # which checkpoint, and of several seeds which seed
    refinement: RefinementConfig | None = None  # of the second stage, if the run has one

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
        keep: Keep = "best",
    ) -> "RunSettings":
        """The settings of training on a data set.

        Args:
            config: hyper-parameters. ``action_free="auto"`` becomes "learn" where videos without any action
                train, so that the settings alone tell what the model is.
            dataset: whose facts are taken down.
            seed: initial parameters, shuffling and sampling follow from it.
            eval_every: steps between evaluations.
            tiou: thresholds of mAP.
            data: where the data set was read from, if that is known. If records of an extraction are there
                (features.json), the settings name it.
            keep: which checkpoint the run keeps besides the latest.

        Raises:
            InputError: if such a record cannot be read, the splits were extracted in different ways, or the
                healthiest checkpoint is to be kept where health cannot be measured.
        """
        if config.action_free == "auto" and dataset.train.num_action_free:
            config = dataclasses.replace(config, action_free="learn")
        if keep == "healthiest" and len(dataset.info.classes) == 1 and not config.has_background:
            raise InputError(
                "--keep: is 'healthiest', for which classes are compared; expected 'best', as there is a "
                "single class and no training video without it"
            )
        extraction = None if data in (None, SYNTHETIC) else common_extraction(data)
        longest = max(video.num_snippets for video in dataset.test.videos)
        return cls(
            config,
            dataset.info,
            dataset.stream_widths,
            seed,
            eval_every,
            tuple(tiou),
            data,
            longest,
            extraction,
            keep,
        )

    def check_data(self, dataset: Dataset, folder: str | os.PathLike) -> None:
        """Rejects a data set that the run was not trained for.

        Args:
            dataset: the data set.
            folder: of the run, for the message.

        Raises:
            InputError: if its classes, streams or widths are others.
        """
        if (self.info, self.stream_widths) != (dataset.info, dataset.stream_widths):
            raise InputError(
                f"{folder}: was trained on other classes, streams or widths; expected those of the data set "
                "given"
            )

    @property
    def num_steps(self) -> int:
        """Steps of the whole training, or of the second stage alone if the run is one."""
        return self.config.num_steps if self.refinement is None else self.refinement.num_steps

    def fresh_state(self) -> TrainState:
        """The state at step 0."""
        widths = tuple(self.stream_widths.items())
        key = jax.random.key(self.seed, impl=_RANDOM)
        state = _create(self.config, key, widths, len(self.info.classes))
        if self.refinement is None:
            return state
        width, num_classes = sum(self.stream_widths.values()), len(self.info.classes)
        return state.replace(scorer=empty_scorer(width, num_classes, self.refinement))

    def difference(self, other: "RunSettings") -> tuple[str, str, str] | None:
        """The first setting that keeps ``other`` from continuing this run: its name, and both values as text.

        Returns:
            None if ``other`` may continue this run.
        """
        if (self.refinement is None) != (other.refinement is None):
            stages = ["none" if one.refinement is None else "a second stage" for one in (self, other)]
            return "refinement", stages[0], stages[1]
        may_differ = set(_MAY_DIFFER)
        if not other.config.depends_on_length and self.refinement is None:
            may_differ.add("method.num_steps")
        old, new = ({"keep": one.keep, **_flatten(one.as_json())} for one in (self, other))
        kinds = {old["method.action_free"], new["method.action_free"]}
        if kinds == {"auto", "leave_out"}:  # neither has a background class
            may_differ.add("method.action_free")
        if self.extraction is None or other.extraction is None:  # one of them may only not be known
            may_differ |= {name for name in {**new, **old} if name.startswith("extraction.")}
        for name in {**new, **old}:  # each may have facts that the other leaves out
            if name not in may_differ and old.get(name) != new.get(name):
                return name.removeprefix("method."), _short(old.get(name)), _short(new.get(name))
        return None

    def as_json(self) -> dict[str, Any]:
        """A dictionary ready for JSON; the inverse of `from_json`."""
        return {
            "method": dataclasses.asdict(self.config),
            "dataset": as_settings(self.info),
            "stream_widths": self.stream_widths,
            "seed": self.seed,
            "eval_every": self.eval_every,
            "tiou": self.tiou,
            "data": self.data,
            "longest_video": self.longest_video,
            **({} if self.extraction is None else {"extraction": self.extraction.as_json()}),
            **({} if self.keep == "best" else {"keep": self.keep}),
            **({} if self.refinement is None else {"refinement": dataclasses.asdict(self.refinement)}),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "RunSettings":
        """Reads what `as_json` made.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, ArithmeticError: for anything else.
        """
        settings = cls(
            CaseConfig(**_fields_of(CaseConfig, content["method"])),
            DatasetInfo(**_fields_of(DatasetInfo, content["dataset"])),
            {str(k): int(v) for k, v in content["stream_widths"].items()},
            int(content["seed"]),
            int(content["eval_every"]),
            tuple(float(v) for v in content["tiou"]),
            content.get("data"),
            content.get("longest_video"),
            Extraction.from_json(content["extraction"]) if "extraction" in content else None,
            content.get("keep", "best"),
            RefinementConfig(**_fields_of(RefinementConfig, content["refinement"]))
            if "refinement" in content
            else None,
        )
        settings._check()
        return settings

    def _check(self) -> None:
        """Raises a ValueError if a value is out of range."""
        longest = self.longest_video
        widths_fit = set(self.stream_widths) == set(self.info.streams)
        checks = {
            f"'data' is {self.data!r}": isinstance(self.data, str | None),
            f"'longest_video' is {longest!r}": longest is None or (_is_of(longest, int) and longest > 0),
            f"'stream_widths' is {self.stream_widths!r}": widths_fit
            and all(0 < width < 2**31 for width in self.stream_widths.values()),
            "'dataset' has no classes or no time of a snippet": bool(self.info.classes)
            and 1e-15 <= self.info.seconds_per_snippet <= 1e15,
            "'dataset' has unknown 'crops' or 'dtype'": self.info.reading.is_known,
            "'seed' or 'eval_every' is out of range": 0 <= self.seed < 2**31 and self.eval_every > 0,
            f"'keep' is {self.keep!r}": self.keep in typing.get_args(Keep),
            f"'tiou' is {self.tiou!r}": bool(self.tiou) and all(0 < t <= 1 for t in self.tiou),
        }
        for what, holds in checks.items():
            if not holds:
                raise ValueError(what)


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _create(config: CaseConfig, key: jax.Array, widths: tuple, num_classes: int) -> TrainState:
    """`create_train_state`, compiled once for all seeds."""
    return create_train_state(config, key, stream_widths=dict(widths), num_classes=num_classes)


def _fields_of(kind: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass from JSON, whose lists stand for tuples; ValueError for other types."""
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
    for field in dataclasses.fields(kind):
        if field.name in values and not _is_of(values[field.name], field.type):
            raise ValueError(f"{field.name!r} is {values[field.name]!r}")
    return values


def _is_of(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(v, typing.get_args(kind)[0]) for v in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind if isinstance(kind, type) else str)  # a Literal is text


def _flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with names joined by dots."""
    if not isinstance(content, Mapping):
        return {prefix: list(content) if isinstance(content, tuple) else content}
    flat = {}
    for name, value in content.items():
        flat.update(_flatten(value, f"{prefix}.{name}" if prefix else name))
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
