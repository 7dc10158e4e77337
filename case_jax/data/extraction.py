"""How features were made from videos, and `features.json`, the file beside them that says so."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from case_jax.data.files import read_json, write_text_atomically
from case_jax.errors import InputError

__all__ = [
    "Crops",
    "ExtractedVideo",
    "Extraction",
    "Flow",
    "FlowMethod",
    "Precision",
    "Source",
    "Tail",
    "check_fps",
    "common_extraction",
    "features_path",
    "read_record",
    "write_record",
]

Crops = Literal["center", "ten"]
FlowMethod = Literal["tvl1", "dis"]
Flow = Literal["none", FlowMethod]
Tail = Literal["drop", "repeat"]
Precision = Literal["f32", "tf32", "bf16"]
"""How float32 operands are multiplied. "f32": in full; "tf32": as the backend does by default, which is TF32
on NVIDIA GPUs and full float32 on CPUs; "bf16": rounded to bfloat16, with results that are bfloat16, too."""

_EXPECTED = "expected the record that `extract` writes beside features"


class Source(NamedTuple):
    """The weights of one stream's network."""

    name: str  # of the file or package
    sha256: str  # of the file, hexadecimal


def check_fps(fps: float | None) -> None:
    """Rejects frames per second that no frames can be chosen by; None, for every frame of a video, passes.

    Raises:
        InputError: if the number is not above 0 and at most 1000.
    """
    if fps is not None and not (math.isfinite(fps) and 0 < fps <= 1000):
        raise InputError(f"--fps: is {fps}; expected above 0 and at most 1000 frames per second")


@dataclasses.dataclass(frozen=True)
class Extraction:
    """All that the features of a video follow from, besides the video.

    Two extractions are equal if they give the same features, up to rounding on other hardware.

    Raises:
        InputError: on construction, if a value is out of its range.
    """

    weights: Mapping[str, Source]  # stream ("rgb", "flow") -> its network's weights
    fps: float | None = 25.0  # frames per second that are taken; None: every frame of a video
    frames: int = 16  # frames of a snippet
    stride: int = 16  # frames from the start of a snippet to the start of the next
    side: int = 256  # pixels of the shorter side of a frame
    crop: int = 224  # pixels of the side of the square that the network sees
    crops: Crops = "center"  # "ten": features are the mean over ten crops
    flow: Flow = "none"  # the algorithm of optical flow; "none": there is no flow stream
    # Frames after the last whole snippet: "drop", as the field's features do, or "repeat" the last frame to
    # fill one more snippet. A video shorter than a snippet is always filled.
    tail: Tail = "drop"
    precision: Precision = "f32"  # of the network's products

    def __post_init__(self):
        check_fps(self.fps)
        for name in ("frames", "stride", "side", "crop"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}: is {getattr(self, name)}; expected 1 or more")
        if self.frames < 9:
            raise InputError(f"--frames: is {self.frames}; expected 9 or more, which the network needs")
        for name, kind in _CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                raise InputError(
                    f"--{name}: is {getattr(self, name)!r}; expected one of {', '.join(get_args(kind))}"
                )
        if set(self.weights) != set(self.streams):
            raise InputError(
                f"--flow: is {self.flow}, and there are weights of {', '.join(self.weights) or 'no stream'}; "
                f"expected weights of {', '.join(self.streams)}"
            )

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams, in the order of the network's."""
        return ("rgb",) if self.flow == "none" else ("rgb", "flow")

    def num_snippets(self, num_frames: int) -> int:
        """Snippets of a video with so many chosen frames, at least 1.

        Example:
            >>> one = Extraction({"rgb": Source("w", "0")})
            >>> [one.num_snippets(n) for n in (7, 16, 31, 32)]
            [1, 1, 1, 2]
            >>> [dataclasses.replace(one, tail="repeat").num_snippets(n) for n in (7, 16, 31, 32)]
            [1, 1, 2, 2]
        """
        after = max(0, num_frames - self.frames)
        return 1 + (after // self.stride if self.tail == "drop" else -(-after // self.stride))

    def difference(self, other: "Extraction") -> tuple[str, str, str] | None:
        """The first setting in which two extractions differ: its name, and both values as text."""
        ours, theirs = self.as_json(), other.as_json()
        for name in ours:
            if ours[name] != theirs[name]:
                return name, _text(ours[name]), _text(theirs[name])
        return None

    def as_json(self) -> dict[str, Any]:
        """A dictionary ready for JSON; the inverse of `from_json`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "weights": {stream: source._asdict() for stream, source in self.weights.items()}}

    @classmethod
    def from_json(cls, content: Any) -> "Extraction":
        """Reads what `as_json` made.

        Raises:
            ValueError, InputError: for anything else.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(content, dict) or set(content) != names:
            raise ValueError("'extraction' has other fields")
        weights = {
            str(stream): Source(**{name: str(value) for name, value in source.items()})
            for stream, source in content["weights"].items()
        }
        fps = content["fps"]
        values = {name: int(content[name]) for name in ("frames", "stride", "side", "crop")}
        return cls(**{**content, **values, "weights": weights, "fps": None if fps is None else float(fps)})


_CHOICES = {"crops": Crops, "flow": Flow, "tail": Tail, "precision": Precision}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        named = (f"{stream} {source['name']} ({source['sha256'][:12]})" for stream, source in value.items())
        return ", ".join(named)
    return str(value)


class ExtractedVideo(NamedTuple):
    """What is known of one video's features."""

    file: str  # the video's path when it was extracted
    size: int  # its bytes; for a folder of images, of all images
    changed: int  # when it was last modified, ns
    fps: float  # frames per second that were taken
    seconds: float  # from its first frame to the end of its last
    frames: int  # frames that were taken
    repeated: int  # of them, frames that are the frame before once more
    skipped: int  # frames of the video that were not taken
    snippets: int
    broken: str | None  # what could not be decoded


def features_path(folder: str | os.PathLike) -> Path:
    """The path of the record of a folder of features."""
    return Path(folder) / "features.json"


def write_record(
    folder: str | os.PathLike,
    extraction: Extraction,
    videos: Mapping[str, ExtractedVideo],
    versions: Mapping[str, str],
) -> None:
    """Writes `features.json`.

    Args:
        folder: holds a folder for each stream.
        extraction: how all its features were made.
        videos: name -> what is known of it.
        versions: package -> version that made the features added last.

    Raises:
        InputError: if the file cannot be written.
    """
    content = {
        "extraction": extraction.as_json(),
        "versions": dict(versions),
        "videos": {name: videos[name]._asdict() for name in sorted(videos)},
    }
    write_text_atomically(features_path(folder), json.dumps(content, indent=1) + "\n")


def read_record(folder: str | os.PathLike) -> tuple[Extraction, dict[str, ExtractedVideo]] | None:
    """Reads `features.json`.

    Args:
        folder: a folder of features.

    Returns:
        How its features were made, and name -> what is known of each video; None if there is no record.

    Raises:
        InputError: if the file is something else.
    """
    path = features_path(folder)
    if not path.exists():
        return None
    content = read_json(path)
    try:
        extraction = Extraction.from_json(content["extraction"])
        videos = {name: _video(entry) for name, entry in content["videos"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{path}: cannot be used ({type(error).__name__}: {error}); {_EXPECTED}") from None
    return extraction, videos


def _video(entry: Mapping[str, Any]) -> ExtractedVideo:
    video = ExtractedVideo(**entry)
    for name, kind in ExtractedVideo.__annotations__.items():
        value = getattr(video, name)
        allowed = (int, float) if kind is float else kind
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise ValueError(f"{name!r} is {value!r}")
    return video


def common_extraction(data_dir: str | os.PathLike) -> Extraction | None:
    """How the features of a data set were made.

    Args:
        data_dir: the data set's folder, in the layout of THUMOS14 (features/train, features/test) or of
            ActivityNet (features).

    Returns:
        The extraction that the records there agree upon; None if there is no record.

    Raises:
        InputError: if a record cannot be read, or two splits differ.
    """
    found: dict[Path, Extraction] = {}
    for part in ("train", "test", ""):
        folder = Path(data_dir) / "features" / part
        if record := read_record(folder):
            found[folder] = record[0]
    if not found:
        return None
    (first, extraction), *others = found.items()
    for folder, other in others:
        if different := extraction.difference(other):
            name, ours, theirs = different
            raise InputError(
                f"{features_path(folder)}: has {name} = {theirs}; expected {ours} as in "
                f"{features_path(first)}"
            )
    return extraction
