"""The facts of a data set that its arrays do not tell, and `dataset.json`, the file that holds them.

`FIELDS` lists what the file may hold. The readers, the writers and the messages all follow that table.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from case_jax.data.ambiguous import is_ambiguous
from case_jax.data.files import read_json
from case_jax.errors import InputError

__all__ = [
    "ACTIVITYNET",
    "AS_STORED",
    "FIELDS",
    "THUMOS14",
    "Crops",
    "DatasetInfo",
    "Dtype",
    "Field",
    "Layout",
    "Reading",
    "as_fields",
    "as_settings",
    "info_from",
    "info_path",
    "known_fields",
    "read_fields",
    "read_info",
]

Layout = Literal["thumos14", "activitynet"]

Crops = Literal["none", "mean", "mean_first", "mean_second"]
"""What a third axis of a file's array is. "none": there is none. "mean": crops of the frames, whose mean is
taken; the axis is the one of 5 or 10, or the first one. "mean_first", "mean_second": the first or the second
axis, where the shape alone does not tell."""

Dtype = Literal["stored", "bfloat16"]
"""What 2-byte values without a type are. numpy writes bfloat16 so. "stored": they are refused."""


class Reading(NamedTuple):
    """How the arrays in a data set's files are to be taken."""

    rescaled: bool = False  # see `DatasetInfo`; a file may then have its 100 snippets as columns
    crops: Crops = "none"
    dtype: Dtype = "stored"

    @property
    def is_known(self) -> bool:
        """Whether the values are among those that there are."""
        return self.crops in get_args(Crops) and self.dtype in get_args(Dtype)


AS_STORED = Reading()
_LATER = ("crops", "dtype")  # facts that runs of version 0.1.0 do not have


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The facts of a data set that its arrays do not tell."""

    classes: tuple[str, ...]
    streams: tuple[str, ...] = ("rgb", "flow")
    frames_per_second: float = 25.0
    frames_per_snippet: float = 16.0  # distance between the starts of consecutive snippets, in frames
    train_subset: str = "train"  # the annotations' name for the videos that train
    test_subset: str = "test"  # and for those that test
    # Each video's features were rescaled to a number of snippets that covers the whole video. The annotated
    # duration then tells the time; frames do not.
    rescaled: bool = False
    crops: Crops = "none"
    dtype: Dtype = "stored"

    @property
    def reading(self) -> Reading:
        """How the arrays in the files are to be taken."""
        return Reading(self.rescaled, self.crops, self.dtype)

    @property
    def seconds_per_snippet(self) -> float:
        """Snippet t starts at t times this many seconds, unless features are rescaled."""
        return self.frames_per_snippet / self.frames_per_second


THUMOS14 = DatasetInfo(
    classes=(
        "BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving",
        "CricketBowling", "CricketShot", "Diving", "FrisbeeCatch", "GolfSwing",
        "HammerThrow", "HighJump", "JavelinThrow", "LongJump", "PoleVault",
        "Shotput", "SoccerPenalty", "TennisSwing", "ThrowDiscus", "VolleyballSpiking",
    )
)  # fmt: skip
# No classes: the annotations' labels are the classes.
ACTIVITYNET = DatasetInfo(classes=(), train_subset="training", test_subset="validation")

_DEFAULTS: dict[str, DatasetInfo] = {"thumos14": THUMOS14, "activitynet": ACTIVITYNET}


# What a value may be. Each check takes the file and field, for its message, and the value as it was parsed.


def _check_names(where: str, value: Any) -> tuple[str, ...]:
    valid = isinstance(value, list) and value and all(isinstance(name, str) and name for name in value)
    if not valid or len(set(value)) != len(value):
        raise InputError(f"{where} is {value!r}; expected a list of different names")
    return tuple(value)


def _check_classes(where: str, value: Any) -> tuple[str, ...]:
    names = _check_names(where, value)
    if unclear := [name for name in names if is_ambiguous(name)]:
        raise InputError(
            f"{where} has {unclear[0]!r}, which marks intervals that are neither action nor background; "
            "expected the classes without it"
        )
    return names


_LONGEST_NAME = 255  # bytes in a file system's name of a file or folder


def _check_folder_names(where: str, value: Any) -> tuple[str, ...]:
    names = _check_names(where, value)
    for name in names:
        if name in (".", "..") or any(c in name for c in "/\\\0"):
            raise InputError(f"{where} has {name!r}, which is a path; expected folder names")
        if len(name.encode()) > _LONGEST_NAME:
            raise InputError(f"{where} has {name!r}, which is too long; expected folder names")
    return names


def _check_rate(where: str, value: Any) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 < value < math.inf):
        raise InputError(f"{where} is {value!r}; expected a number above 0")
    if not 1e-6 <= value <= 1e9:  # beyond, times could not be computed
        raise InputError(f"{where} is {value!r}; expected a number between 1e-6 and 1e9")
    return float(value)


def _check_subsets(where: str, value: Any) -> dict[str, str]:
    valid = isinstance(value, dict) and set(value) <= {"train", "test"}
    if not valid or not all(isinstance(name, str) for name in value.values()):
        raise InputError(f'{where} is {value!r}; expected {{"train": ..., "test": ...}}')
    return value


def _check_file_name(where: str, value: Any) -> str | None:
    valid = value is None or (
        isinstance(value, str) and Path(value).name == value and value not in ("", "..")
    )
    if not valid:
        raise InputError(f"{where} is {value!r}; expected the name of a file beside it")
    return value


def _check_bool(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{where} is {value!r}; expected true or false")
    return value


def _check_one_of(kind: Any) -> Callable[[str, Any], str]:
    known = get_args(kind)

    def check(where: str, value: Any) -> str:
        if value not in known:
            raise InputError(f"{where} is {value!r}; expected one of {', '.join(known)}")
        return value

    return check


class Field(NamedTuple):
    """One field of dataset.json.

    Attributes:
        name: its name in the file.
        check: takes "<file>: '<field>'" and the parsed value; returns the value to keep, or raises
            `InputError`.
        fills: the field of `DatasetInfo` that it fills; for an object, one per key; None if it fills none.
        layouts: the layouts that allow it.
        in_annotations: whether ActivityNet's annotations tell it, so that its writer leaves it out.
        rare: whether the writers leave it out where it has its default.
    """

    name: str
    check: Callable[[str, Any], Any]
    fills: str | Mapping[str, str] | None
    layouts: tuple[Layout, ...] = ("thumos14", "activitynet")
    in_annotations: bool = False
    rare: bool = False


FIELDS = (
    Field("streams", _check_folder_names, "streams"),
    Field("frames_per_second", _check_rate, "frames_per_second"),
    Field("frames_per_snippet", _check_rate, "frames_per_snippet"),
    Field("classes", _check_classes, "classes", in_annotations=True),
    Field("subsets", _check_subsets, {"train": "train_subset", "test": "test_subset"}, in_annotations=True),
    Field("annotations", _check_file_name, None, layouts=("activitynet",)),
    Field("rescaled", _check_bool, "rescaled", layouts=("activitynet",), rare=True),
    Field("crops", _check_one_of(Crops), "crops", rare=True),
    Field("dtype", _check_one_of(Dtype), "dtype", rare=True),
)


def info_path(data_dir: str | os.PathLike) -> Path:
    """The path of a data set's dataset.json."""
    return Path(data_dir) / "dataset.json"


def known_fields(layout: Layout) -> dict[str, Field]:
    """The fields that a layout allows, by name, in the order of `FIELDS`."""
    return {field.name: field for field in FIELDS if layout in field.layouts}


def read_info(data_dir: str | os.PathLike, layout: Layout = "thumos14") -> DatasetInfo:
    """Reads the facts of a data set from ``dataset.json``.

    Args:
        data_dir: the data set's folder.
        layout: "thumos14" or "activitynet". The layout decides which fields the file may hold, and the values
            of those that it leaves out; there need be no file.

    Returns:
        `DatasetInfo`.

    Raises:
        InputError: if the file has an unknown field or a value of the wrong kind.
    """
    return info_from(read_fields(data_dir, layout), layout)


def read_fields(data_dir: str | os.PathLike, layout: Layout) -> dict[str, Any]:
    """Reads and checks the fields of ``dataset.json``; args and errors as `read_info`.

    Returns:
        Field name -> checked value, of the fields that are there; empty if there is no file.
    """
    path = info_path(data_dir)
    if not path.exists():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: is not a JSON object; expected one with fields such as 'classes'")
    known = known_fields(layout)
    for name in content:
        if name not in known:
            raise InputError(f"{path}: has unknown field {name!r}; expected only {', '.join(known)}")
    return {
        name: field.check(f"{path}: {name!r}", content[name])
        for name, field in known.items()
        if name in content
    }


def info_from(fields: Mapping[str, Any], layout: Layout) -> DatasetInfo:
    """`DatasetInfo` with the checked values of `read_fields`; the layout's defaults fill the rest."""
    changes: dict[str, Any] = {}
    for name, value in fields.items():
        fills = known_fields(layout)[name].fills
        if isinstance(fills, str):
            changes[fills] = value
        elif fills is not None:
            changes |= {fills[key]: part for key, part in value.items()}
    return dataclasses.replace(_DEFAULTS[layout], **changes)


def as_fields(info: DatasetInfo, layout: Layout) -> dict[str, Any]:
    """What dataset.json has to hold for `read_info` to return ``info``: the inverse of `info_from`."""
    fields: dict[str, Any] = {}
    for name, field in known_fields(layout).items():
        if isinstance(field.fills, str):
            if not (field.rare and getattr(info, field.fills) == getattr(_DEFAULTS[layout], field.fills)):
                fields[name] = getattr(info, field.fills)
        elif field.fills is not None:
            fields[name] = {key: getattr(info, filled) for key, filled in field.fills.items()}
    return fields


def as_settings(info: DatasetInfo) -> dict[str, Any]:
    """All facts by name, as a run keeps them. Those that came later are left out where they are as ever."""
    facts = dataclasses.asdict(info)
    return {n: value for n, value in facts.items() if n not in _LATER or value != getattr(AS_STORED, n)}
