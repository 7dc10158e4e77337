"""The facts of a data set that its arrays do not tell, and `dataset.json`, which holds them."""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path

from case_jax.data.files import (
    read_json,
)
from case_jax.errors import InputError

__all__ = ["THUMOS14", "DatasetInfo", "read_info"]


_LONGEST_NAME = 255  # bytes of a folder's or a file's name


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The facts of a data set that its arrays do not tell."""

    classes: tuple[str, ...]
    streams: tuple[str, ...] = ("rgb", "flow")
    frames_per_second: float = 25.0
    frames_per_snippet: float = 16.0  # distance between the starts of consecutive snippets
    train_subset: str = "train"  # name in gt.json of the videos that train
    test_subset: str = "test"
    # Every video's features were rescaled to some number of snippets, which together last as long as it does;
    # frames then say nothing.
    rescaled: bool = False

    @property
    def seconds_per_snippet(self) -> float:
        """Snippet t starts at t times this, unless features are rescaled."""
        return self.frames_per_snippet / self.frames_per_second


THUMOS14 = DatasetInfo(
    classes=(
        "BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving",
        "CricketBowling", "CricketShot", "Diving", "FrisbeeCatch", "GolfSwing",
        "HammerThrow", "HighJump", "JavelinThrow", "LongJump", "PoleVault",
        "Shotput", "SoccerPenalty", "TennisSwing", "ThrowDiscus", "VolleyballSpiking",
    )
)  # fmt: skip


def read_info(
    data_dir: str | os.PathLike, default: DatasetInfo = THUMOS14, more: Sequence[str] = ()
) -> DatasetInfo:
    """Reads ``dataset.json``.

    Args:
        data_dir: the folder it is in.
        default: values for whatever it leaves out, or if there is none.
        more: fields that it may hold besides; of these only "rescaled" is looked at.

    Raises:
        InputError: if it has an unknown field or a value of the wrong kind.
    """
    path = Path(data_dir) / "dataset.json"
    if not path.exists():
        return default
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no JSON object; expected one with fields such as 'classes'")
    known = ("streams", "frames_per_second", "frames_per_snippet", "classes", "subsets", *more)
    for field in content:
        if field not in known:
            raise InputError(f"{path}: has unknown field {field!r}; expected only {', '.join(known)}")

    def names(field: str, default: tuple[str, ...]) -> tuple[str, ...]:
        if field not in content:
            return default
        value = content[field]
        valid = isinstance(value, list) and value and all(isinstance(v, str) and v for v in value)
        if not valid or len(set(value)) != len(value):
            raise InputError(f"{path}: {field!r} is {value!r}; expected a list of different names")
        return tuple(value)

    def positive(field: str, default: float) -> float:
        value = content.get(field, default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and 0 < value < math.inf):
            raise InputError(f"{path}: {field!r} is {value!r}; expected a number above 0")
        if not 1e-6 <= value <= 1e9:  # times could not be computed
            raise InputError(f"{path}: {field!r} is {value!r}; expected a number between 1e-6 and 1e9")
        return float(value)

    subsets = content.get("subsets", {})
    valid = isinstance(subsets, dict) and set(subsets) <= {"train", "test"}
    if not valid or not all(isinstance(name, str) for name in subsets.values()):
        raise InputError(f'{path}: \'subsets\' is {subsets!r}; expected {{"train": ..., "test": ...}}')
    rescaled = content.get("rescaled", default.rescaled)
    if not isinstance(rescaled, bool):
        raise InputError(f"{path}: 'rescaled' is {rescaled!r}; expected true or false")
    streams = names("streams", default.streams)
    for stream in streams:
        if stream in (".", "..") or any(c in stream for c in "/\\\0"):
            raise InputError(f"{path}: stream {stream!r} is a path; expected a folder name")
        if len(stream.encode()) > _LONGEST_NAME:
            raise InputError(f"{path}: stream {stream!r} is too long; expected a folder name")
    return DatasetInfo(
        classes=names("classes", default.classes),
        streams=streams,
        frames_per_second=positive("frames_per_second", default.frames_per_second),
        frames_per_snippet=positive("frames_per_snippet", default.frames_per_snippet),
        train_subset=subsets.get("train", default.train_subset),
        test_subset=subsets.get("test", default.test_subset),
        rescaled=rescaled,
    )
