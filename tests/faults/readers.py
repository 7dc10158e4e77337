"""Material for fuzzing the readers: valid files, ways to damage them, and rules for what a reader may do.

A reader may return a valid result, or raise InputError with one line that begins with the file's name. It may
open no other file, run nothing and write nothing.
"""

import contextlib
import csv
import io
import json
import math
import os
import pickle
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from case_jax.data.annotations import read_ground_truth, read_intervals
from case_jax.data.files import MAX_SECONDS
from case_jax.data.info import DatasetInfo, Reading, as_fields, read_info
from case_jax.data.names import read_names
from case_jax.data.numpy_pickles import read_pickled_arrays
from case_jax.data.object_arrays import StoredArray, as_list, read_items
from case_jax.data.sources import Source, read_source
from case_jax.data.torch_files import read_state_dict
from case_jax.errors import InputError
from case_jax.localization.detections import read_predictions
from tests.helpers.files import legacy_torch_file, npy, npz, torch_file
from tests.helpers.wtalc import COLUMNS, FEATURES, object_npy

__all__ = ["EDITS", "READERS", "Outcome", "Reader", "damage", "random_edits", "read"]


class Reader(NamedTuple):
    """One kind of file that users hand over."""

    name: str  # the file's name
    read: Callable[[Path], Any]
    check: Callable[[Any], None]  # asserts that a result is valid
    valid: tuple[bytes, ...]  # contents of files that can be read


class Outcome(NamedTuple):
    """What a reader did with a file."""

    result: Any  # None if the file was refused
    message: str | None  # the refusal's message; None if the file was read


# Valid files


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _csv(array: np.ndarray, *header: str) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header] * bool(header) + array.tolist())
    return text.getvalue().encode()


_FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)
_ANNOTATION = {"label": "Jump", "segment": [0.5, "2.0"]}
_TRUTH = {"subset": "test", "duration": 12.5, "annotations": [_ANNOTATION, {**_ANNOTATION, "label": "Läuft"}]}
_DETECTION = {"label": "Jump", "score": 0.75, "segment": [0, 1.5]}
_INFO = as_fields(DatasetInfo(("Jump", "Run"), ("rgb",), 25, 16.0, train_subset="a"), "thumos14")


# Valid results


def _check_features(features: np.ndarray) -> None:
    assert features.dtype == np.float32
    assert features.ndim == 2
    assert features.size
    assert np.isfinite(features).all()


def _check_segment(segment: tuple[float, float]) -> None:
    start, end = segment
    assert type(start) is type(end) is float
    assert -MAX_SECONDS <= start <= end <= MAX_SECONDS


def _check_text(*texts: str) -> None:
    for text in texts:
        assert type(text) is str
        text.encode()
        assert "\0" not in text


def _check_truth(truth: dict) -> None:
    for name, video in truth.items():
        _check_text(name, video.subset)
        assert video.duration is None or 0 <= video.duration <= MAX_SECONDS
        for annotation in video.annotations:
            _check_text(annotation.label)
            _check_segment(annotation[1:])


def _check_predictions(results: dict) -> None:
    for name, entries in results.items():
        _check_text(name)
        for entry in entries:
            assert entry.keys() == {"label", "score", "segment"}
            _check_text(entry["label"])
            _check_segment(entry["segment"])
            assert math.isfinite(entry["score"])


def _check_names(names: list[str]) -> None:
    assert names
    assert len(set(names)) == len(names)
    for name in names:
        _check_text(name)
        assert name == name.strip() != ""
        assert Path("folder", name).parent == Path("folder")
        assert name != ".."


def _check_intervals(intervals: dict) -> None:
    for name, entries in intervals.items():
        _check_text(name)
        assert entries
        for entry in entries:
            _check_segment(entry["segment"])
            assert entry["segment"][0] >= 0


def _check_info(info) -> None:
    for names in (info.classes, info.streams):
        assert names
        assert len(set(names)) == len(names)
        _check_text(*names)
    for stream in info.streams:
        assert Path("folder", stream).parent == Path("folder")
        assert stream != ".."
    _check_text(info.train_subset, info.test_subset)
    assert 0 < info.seconds_per_snippet < math.inf


def _check_state_dict(state_dict: dict) -> None:
    assert state_dict
    for name, array in state_dict.items():
        assert type(name) is str
        assert isinstance(array, np.ndarray)
        assert array.dtype.kind in "fiV"  # bfloat16 is V to numpy
        array.copy()  # touches all of its memory


def _check_pickled_arrays(arrays: dict) -> None:
    _check_state_dict({"/".join(names): array for names, array in arrays.items()})


def _read_objects(path: Path) -> list:
    """The elements of a file, with arrays that are read. A damaged list may contain itself."""

    def read(value: Any, depth: int = 0) -> Any:
        if isinstance(value, StoredArray) and value.dtype != object:
            return value.read()
        if isinstance(value, StoredArray | list | tuple):
            try:
                return [read(item, depth + 1) for item in as_list(value)] if depth < 5 else None
            except InputError:
                raise
            except ValueError:
                return None
        return value

    return read(read_items(path))


def _check_objects(values: Any) -> None:
    if isinstance(values, list):
        for value in values:
            _check_objects(value)
    else:
        assert values is None or isinstance(values, np.ndarray | str | bytes | int | float)


_UTF8 = "Rübe\r\nvideo_test_0000001\n\nc 1\n".encode()
READERS = {
    "npy": Reader(
        "v.npy",
        lambda path: read_source(Source(path)),
        _check_features,
        (npy(_FEATURES), npy(np.asfortranarray(_FEATURES.astype(">f8"))), npy(_FEATURES.astype(np.int16))),
    ),
    "csv": Reader(
        "v.csv",
        lambda path: read_source(Source(path)),
        _check_features,
        (_csv(_FEATURES), _csv(_FEATURES, "a", "b", "c"), _csv(-_FEATURES / 7)),
    ),
    "npz": Reader(
        "v.npz",
        lambda path: read_source(Source(path)),
        _check_features,
        (npz(x=_FEATURES), npz(x=_FEATURES.astype(">f8")), npz(only=_FEATURES.astype(np.int16))),
    ),
    "tensor": Reader(
        "v.pt",
        lambda path: read_source(Source(path)),
        _check_features,
        (
            torch_file(_FEATURES),
            torch_file({"x": _FEATURES.astype(np.float16)}),
            legacy_torch_file(_FEATURES),
        ),
    ),
    "crops": Reader(
        "v.npy",
        lambda path: read_source(Source(path, reading=Reading(True, "mean", "bfloat16"))),
        _check_features,
        (npy(np.ones((10, 3, 2), np.float32)), npy(_FEATURES.astype(ml_dtypes.bfloat16))),
    ),
    "truth": Reader(
        "gt.json",
        read_ground_truth,
        _check_truth,
        (_json({"database": {"v": _TRUTH, "w": {**_TRUTH, "subset": "train"}}}), _json({"v": _TRUTH})),
    ),
    "predictions": Reader(
        "p.json",
        read_predictions,
        _check_predictions,
        (
            _json({"version": "1", "results": {"v": [_DETECTION, _DETECTION], "w": []}, "external_data": {}}),
            _json({"results": {"ü": [_DETECTION]}}),
        ),
    ),
    "split": Reader("split_test.txt", read_names, _check_names, (_UTF8, b"\xef\xbb\xbfa\nb\n")),
    "intervals": Reader("a.txt", read_intervals, _check_intervals, (b"v 1.5 2\r\nw 3 4e1\n", b"v 0 0\n")),
    "info": Reader("dataset.json", lambda path: read_info(path.parent), _check_info, (_json(_INFO), b"{}")),
    "state_dict": Reader(
        "best_model.pkl",
        read_state_dict,
        _check_state_dict,
        (
            torch_file({"a.weight": _FEATURES, "a.bias": _FEATURES[0]}),
            torch_file({"module.a": _FEATURES.T, "module.b": _FEATURES[:0]}),
            legacy_torch_file({"a.weight": _FEATURES, "a.bias": _FEATURES[0]}),
        ),
    ),
    "pickled_arrays": Reader(
        "weights.ckpt",
        read_pickled_arrays,
        _check_pickled_arrays,
        (pickle.dumps({"a": {"kernel": _FEATURES, "bias": _FEATURES[0]}, "b": _FEATURES.T}, 4),),
    ),
    "object_arrays": Reader(
        "labels.npy",
        _read_objects,
        _check_objects,
        tuple(
            object_npy(array, protocol)
            for array in (FEATURES, COLUMNS["segments"], COLUMNS["labels"])
            for protocol in ("python 2", 2, 4)
        ),
    ),
}


# Damage

EDITS = ("flip", "set", "truncate", "delete", "repeat", "splice", "insert")
# Bytes that random damage hardly ever makes.
TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"1e308", b"-1", b"9" * 5000, b"null", b"{}", b"[]", b'""', b"true"),
    *(b'"\\ud800"', b'"\\u0000"', b"[" * 2000, b'{"a":' * 2000, b"../", b"/etc/passwd", b"\0", b"\r", b","),
    *(b"\xff\xfe", b"\xef\xbb\xbf", "\u2028".encode(), b"|O", b">f8", b"True", b"10000000000"),
    *(b"r\xff\xff\xff\x7f", b"cos\nsystem\n", b"b", b"R", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"."),
)
Edit = tuple[str, float, float, int]  # kind, begin and end as shares of the content, and a choice


def damage(content: bytes, edits: list[Edit], other: bytes) -> bytes:
    """The content after some edits; parts of ``other`` are spliced in."""
    for kind, first, second, choice in edits:
        begin, end = sorted(int(place * len(content)) for place in (first, second))
        before, part, after = content[:begin], content[begin:end], content[end:]
        if kind == "flip":
            part = bytes([part[0] ^ (1 << choice % 8)]) + part[1:] if part else part
        elif kind == "set":
            part = bytes([choice % 256]) + part[1:] if part else part
        elif kind == "truncate":
            after = b""
        elif kind == "delete":
            part = b""
        elif kind == "repeat":
            part = part * (2 + choice % 3)
        elif kind == "splice":
            part = other[int(first * len(other)) : int(second * len(other))]
        elif kind == "insert":
            part = TOKENS[choice % len(TOKENS)] + part * (choice % 2)
        content = before + part + after
    return content[:100_000]


def random_edits(rng: random.Random) -> list[Edit]:
    return [
        (rng.choice(EDITS), rng.random(), rng.random(), rng.randrange(1 << 16))
        for _ in range(rng.randint(1, 4))
    ]


# Reading while being watched


def read(reader: Reader, folder: Path, content: bytes) -> Outcome:
    """Writes a file to an empty folder and reads it.

    Raises:
        AssertionError: if the reader broke a rule.
    """
    path = folder / reader.name
    path.write_bytes(content)
    result = message = None
    with _watched(folder) as reached:
        try:
            result = reader.read(path)
        except InputError as error:
            message = str(error)
    assert not reached, f"reached {reached}"
    assert os.listdir(folder) == [reader.name]
    if message is None:
        reader.check(result)
    else:
        assert message.isprintable(), message  # so it is one line
        assert message.startswith(f"{path}: "), message
        assert "; expected " in message, message
    return Outcome(result, message)


_watching: tuple[str, list[str]] | None = None
_hooked = False
_FORBIDDEN = ("os.", "pickle.", "shutil.", "socket.", "subprocess.", "tempfile.")
_HARMLESS = ("os.listdir", "os.scandir")
_PYTHON = (sys.prefix, sys.base_prefix, "<frozen ")  # places whose modules may be imported


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[list[str]]:
    """Lists what is opened outside of a folder, or run, while the context lasts."""
    global _watching, _hooked
    if not _hooked:
        sys.addaudithook(_audit)  # a hook cannot be removed
        _hooked = True
    reached: list[str] = []
    _watching = str(folder), reached
    try:
        yield reached
    finally:
        _watching = None


def _audit(event: str, arguments: tuple) -> None:
    if _watching is None:
        return
    folder, reached = _watching
    if event == "open":
        path, mode, flags = arguments
        known = isinstance(path, str) and (os.path.dirname(path) == folder or path.startswith(_PYTHON))
        if not known or (flags & (os.O_WRONLY | os.O_RDWR)):
            reached.append(f"open {path!r} {mode!r}")
    elif event == "exec":
        if not arguments[0].co_filename.startswith(_PYTHON):
            reached.append(f"exec {arguments[0]!r}")
    elif event.startswith(_FORBIDDEN) and event not in _HARMLESS:
        reached.append(f"{event} {arguments!r}"[:200])
