"""What the readers are fuzzed with: valid files, ways to damage them, and what a reader may do with them.

A reader may return what is valid, or raise InputError with one line that begins with the file's name.
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
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from case_jax.data.annotations import read_ground_truth, read_intervals
from case_jax.data.files import MAX_SECONDS, read_names
from case_jax.data.formats import Source, read_source
from case_jax.data.info import read_info
from case_jax.data.torch_files import read_state_dict
from case_jax.errors import InputError
from case_jax.localization.detections import read_predictions

__all__ = ["EDITS", "READERS", "Outcome", "Reader", "damage", "random_edits", "read", "torch_file"]


class Reader(NamedTuple):
    """One kind of file that users hand over."""

    name: str  # of the file
    read: Callable[[Path], Any]
    check: Callable[[Any], None]  # that what was read is valid
    valid: tuple[bytes, ...]  # files that are read


class Outcome(NamedTuple):
    """What a reader did with a file."""

    result: Any  # None if it was refused
    message: str | None  # of the refusal


# Valid files


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def torch_file(named: dict[str, np.ndarray], *, opcodes: bytes = b"", hostile: Any = None) -> bytes:
    """A state dict in PyTorch's form, made without it.

    Args:
        named: name -> array of float32.
        opcodes: of the pickle, run before the rest.
        hostile: an object that is pickled with the rest.
    """
    buffer = io.BytesIO()
    arrays = {id(array): array for array in named.values()}  # what is there twice is stored once
    keys = {of: str(key) for key, of in enumerate(arrays)}
    content = OrderedDict((name, _Tensor(array, keys[id(array)])) for name, array in named.items())
    if hostile is not None:
        content["hostile"] = hostile
    _TensorPickler(buffer, protocol=2).dump(content)
    text = buffer.getvalue()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model/data.pkl", text[:2] + opcodes + text[2:])
        archive.writestr("model/byteorder", "little")
        for of, array in arrays.items():
            archive.writestr(f"model/data/{keys[of]}", array.ravel("K").tobytes())
    return file.getvalue()


class _Global(NamedTuple):
    """A name of PyTorch's, to be pickled by name."""

    module: str
    name: str


class _Tensor(NamedTuple):
    array: np.ndarray
    key: str


class _StorageOf(NamedTuple):
    array: np.ndarray
    key: str


class _TensorPickler(pickle._Pickler):
    """Pickles arrays as PyTorch pickles tensors, by names of what need not be installed."""

    def save(self, value, save_persistent_id=True):
        if isinstance(value, _Global):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _StorageOf):
            kind = _Global("torch", "FloatStorage")
            self.save(("storage", kind, value.key, "cpu", value.array.size))
            self.write(pickle.BINPERSID)
        elif isinstance(value, _Tensor):
            array = value.array
            strides = tuple(step // array.itemsize for step in array.strides)
            self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
            self.save((_StorageOf(*value), 0, array.shape, strides, False, OrderedDict()))
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


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
_INFO = {
    "streams": ["rgb"],
    "frames_per_second": 25,
    "frames_per_snippet": 16.0,
    "classes": ["Jump", "Run"],
    "subsets": {"train": "a", "test": "b"},
}


# What is valid


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
        array.copy()  # all of it can be reached


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
        ),
    ),
}


# Damage

EDITS = ("flip", "set", "truncate", "delete", "repeat", "splice", "insert")
# What is hard to find by chance.
TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"1e308", b"-1", b"9" * 5000, b"null", b"{}", b"[]", b'""', b"true"),
    *(b'"\\ud800"', b'"\\u0000"', b"[" * 2000, b'{"a":' * 2000, b"../", b"/etc/passwd", b"\0", b"\r", b","),
    *(b"\xff\xfe", b"\xef\xbb\xbf", "\u2028".encode(), b"|O", b">f8", b"True", b"10000000000"),
    *(b"r\xff\xff\xff\x7f", b"cos\nsystem\n", b"b", b"R", b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"."),
)
Edit = tuple[str, float, float, int]  # its kind, where from and to in [0, 1], and a choice


def damage(content: bytes, edits: list[Edit], other: bytes) -> bytes:
    """Some bytes after some edits; ``other`` is what parts are spliced in from."""
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


# Reading under watch


def read(reader: Reader, folder: Path, content: bytes) -> Outcome:
    """Reads a file of a folder that holds nothing else.

    Raises:
        AssertionError: if the reader did what none may do.
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
_PYTHON = (sys.prefix, sys.base_prefix, "<frozen ")  # whose modules may be imported when they are needed


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[list[str]]:
    """What is opened outside of a folder, or run, while the context lasts."""
    global _watching, _hooked
    if not _hooked:
        sys.addaudithook(_audit)  # there is no way to take it back
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
