"""The facts of a data set that its arrays do not tell, and `dataset.json`, the file that holds them.

`FIELDS` lists what the file may hold. The readers, the writers and the messages all follow that table.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from case_jax.data.files import read_json
from case_jax.errors import InputError

__all__ = [
    "ACTIVITYNET",
    "FIELDS",
    "THUMOS14",
    "DatasetInfo",
    "Field",
    "Layout",
    "as_fields",
    "info_from",
    "info_path",
    "known_fields",
    "read_fields",
    "read_info",
]

Layout = Literal["thumos14", "activitynet"]


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


class Field(NamedTuple):
    """One field of dataset.json.

    Attributes:
        name: its name in the file.
        check: takes "<file>: '<field>'" and the parsed value; returns the value to keep, or raises
            `InputError`.
        fills: the field of `DatasetInfo` that it fills; for an object, one per key; None if it fills none.
        layouts: the layouts that allow it.
        in_annotations: whether ActivityNet's annotations tell it, so that its writer leaves it out.
    """

    name: str
    check: Callable[[str, Any], Any]
    fills: str | Mapping[str, str] | None
    layouts: tuple[Layout, ...] = ("thumos14", "activitynet")
    in_annotations: bool = False


FIELDS = (
    Field("streams", _check_folder_names, "streams"),
    Field("frames_per_second", _check_rate, "frames_per_second"),
    Field("frames_per_snippet", _check_rate, "frames_per_snippet"),
    Field("classes", _check_names, "classes", in_annotations=True),
    Field("subsets", _check_subsets, {"train": "train_subset", "test": "test_subset"}, in_annotations=True),
    Field("annotations", _check_file_name, None, layouts=("activitynet",)),
    Field("rescaled", _check_bool, "rescaled", layouts=("activitynet",)),
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
            fields[name] = getattr(info, field.fills)
        elif field.fills is not None:
            fields[name] = {key: getattr(info, filled) for key, filled in field.fills.items()}
    if not info.rescaled:
        fields.pop("rescaled", None)  # the usual case needs no word
    return fields
