"""Arrays of objects in .npy files: their arrays are found where they lie, and nothing is unpickled.

np.save pickles an array whose elements are arrays of different lengths, lists or text. This reader follows
the opcodes of the pickle itself. It knows the few that such arrays are made of, and runs nothing that a file
names. It skips the numbers of inner arrays and keeps their places. So a file of 30 GB is looked through in
seconds, and memory holds only the one array that is read. Python 2's pickles, which hold text as bytes, are
read as well as Python 3's.

The opcodes and their arguments are those of Python's `pickletools`.
"""

import dataclasses
import math
import os
import pickletools
import re
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from case_jax.data.files import one_line, refuse_pipes
from case_jax.errors import InputError

__all__ = ["StoredArray", "as_list", "read_items"]

_EXPECTED = "expected a .npy file of arrays, lists, text and numbers"
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_SHORT = 1 << 10  # bytes up to which text and numbers are read at once; longer ones keep their place
_MOST_EMPTY = 1 << 20  # rows of an array without elements

# Opcodes whose argument is text: its kind, and how many bytes tell its length.
_TEXTS = {
    "BINSTRING": ("bytes", 4),  # Python 2's text, or the numbers of its arrays
    "SHORT_BINSTRING": ("bytes", 1),
    "BINBYTES": ("bytes", 4),
    "SHORT_BINBYTES": ("bytes", 1),
    "BINBYTES8": ("bytes", 8),
    "BINUNICODE": ("text", 4),
    "SHORT_BINUNICODE": ("text", 1),
    "BINUNICODE8": ("text", 8),
}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_KINDS = re.compile(r"[iu][1248]|f[248]|b1|[SU][1-9]\d{0,5}|O[48]?")


@dataclasses.dataclass(frozen=True)
class _Place:
    """Bytes that stay in the file."""

    start: int
    length: int
    recoded: bool = False  # whether they are text whose characters stand for bytes, as Python 3 writes for 2


@dataclasses.dataclass(frozen=True)
class _Global:
    """A name that a pickle asks for: never looked up."""

    name: str


class StoredArray:
    """An array inside an array of objects.

    Attributes:
        shape: of the array.
        dtype: of numbers or text; object if the array holds objects.
    """

    def __init__(self, path: Path):
        self._path = path
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(object)
        self._by_columns = False
        self._data: bytes | _Place | list = []

    def __repr__(self) -> str:
        return f"{self.dtype} array of shape {self.shape}"

    def set_state(self, state: Any) -> None:
        """Takes (version, shape, dtype, whether columns come first, data)."""
        _, shape, dtype, by_columns, data = state
        if not all(isinstance(length, int) and length >= 0 for length in shape):
            raise ValueError(f"an array has shape {shape}")
        if 0 in shape and math.prod(max(1, length) for length in shape) > _MOST_EMPTY:
            raise ValueError(f"an array of shape {shape} is too large")
        kind = dtype.get()
        if kind.hasobject:
            if not isinstance(data, list) or len(data) != math.prod(shape):
                raise ValueError(f"an array of objects has shape {shape} and other contents")
        else:
            wanted = math.prod(shape) * kind.itemsize
            length = data.length if isinstance(data, _Place) else len(_bytes(data))
            # Text takes one or two bytes for each byte that it stands for; they are counted when read.
            recoded = isinstance(data, _Place) and data.recoded
            if not (wanted <= length if recoded else wanted == length):
                raise ValueError(f"an array of shape {shape} has {length} bytes")
        self.shape, self.dtype, self._by_columns, self._data = tuple(shape), kind, bool(by_columns), data

    def read(self) -> np.ndarray:
        """Reads the array from the file.

        Returns:
            The array, of its shape and dtype.

        Raises:
            InputError: if it holds objects, or the file is damaged or has changed.
        """
        if isinstance(self._data, list):
            raise InputError(f"{self._path}: holds objects in the place of numbers; {_EXPECTED}")
        try:
            content = self._data if isinstance(self._data, bytes) else _fetch(self._path, self._data)
            if 0 in self.shape:
                return np.zeros(self.shape, self.dtype)
            array = np.frombuffer(content, self.dtype)
            return array.reshape(self.shape, order="F" if self._by_columns else "C")
        except (OSError, ValueError) as error:
            raise InputError(f"{self._path}: cannot be read ({one_line(error)}); {_EXPECTED}") from None

    def items(self) -> list:
        """The elements along the first axis, as `read_items` returns them.

        Raises:
            ValueError: if one is neither array, list, text nor number.
        """
        if not isinstance(self._data, list):
            return self.read().tolist() if self.shape else [self.read().item()]
        return _checked(_nested(self._data, self.shape or (1,)))


_VALUES = (StoredArray, list, tuple, str, bytes, int, float, type(None))


def _checked(items: list) -> list:
    for item in items:
        if not isinstance(item, _VALUES):
            raise ValueError(f"it holds a {type(item).__name__.strip('_').lower()} in the place of a value")
    return items


def _nested(flat: list, shape: tuple[int, ...]) -> list:
    first, *rest = shape
    if not rest:
        return flat
    step = math.prod(rest)
    return [_nested(flat[i * step : (i + 1) * step], tuple(rest)) for i in range(first)]


def _fetch(path: Path, place: _Place) -> bytes:
    with open(path, "rb") as file:
        file.seek(place.start)
        content = file.read(place.length)
    if len(content) != place.length:
        raise ValueError("it ends early")
    return content.decode().encode("latin1") if place.recoded else content


def as_list(value: Any) -> list:
    """The elements of a list, a tuple or an array along its first axis.

    Args:
        value: an element of what `read_items` returned.

    Raises:
        ValueError: if the value is anything else, or an element is neither array, list, text nor number.
    """
    if isinstance(value, StoredArray):
        return value.items()
    if isinstance(value, np.ndarray) and value.ndim:
        return value.tolist()
    if isinstance(value, list | tuple):
        return _checked(list(value))
    raise ValueError(f"a {type(value).__name__} is no list")


def read_items(path: str | os.PathLike) -> list:
    """Reads the elements of an array along its first axis.

    Args:
        path: a .npy file of objects, numbers or text. Arrays in it are not read yet, so that memory holds one
            of them at a time if the caller does not keep what `StoredArray.read` returns.

    Returns:
        Of an array of objects: `StoredArray`, list, tuple, str, bytes, number or None each, and lists of such
        elements where the array has several axes. Of an array of numbers or text: arrays that are mapped from
        the file, or the elements themselves where there is one axis.

    Raises:
        InputError: if the file is missing, damaged, or made of anything else.
    """
    path = Path(path)
    refuse_pipes(path, expected=_EXPECTED)
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of headers that Python 2 wrote
            if not _holds_objects(file):
                array = np.load(path, allow_pickle=False, mmap_mode="r")
                if not array.ndim or not array.size:
                    raise ValueError(f"it holds an array of shape {array.shape}")
                return list(array) if array.ndim > 1 else array.tolist()
            found = _Walk(path, file).run()
            if not isinstance(found, StoredArray):
                raise ValueError(f"it holds a {type(found).__name__}")
            return found.items()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {_EXPECTED}") from None
    except InputError:
        raise
    except Exception as error:  # a damaged file makes its readers raise nearly anything
        raise InputError(f"{path}: cannot be read ({one_line(error)}); {_EXPECTED}") from None


def _holds_objects(file: BinaryIO) -> bool:
    """Reads the header; the file is then at its pickle, if it has one."""
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in read_header:
        raise ValueError(f"it is of version {version}")
    _, _, dtype = read_header[version](file)
    return dtype.hasobject


class _Dtype:
    """Stands for a dtype that a pickle makes: numpy's own could be changed for the whole process."""

    def __init__(self, name: Any):
        self._name, self._order = _text(name), "|"

    def set_state(self, state: Any) -> None:
        self._order = _text(state[1])

    def get(self) -> np.dtype:
        if not _KINDS.fullmatch(self._name) or self._order not in ("<", ">", "|", "="):
            raise ValueError(f"it holds values of kind {self._order}{self._name}")
        return np.dtype(object if self._name[0] == "O" else self._order + self._name)


class _Walk:
    """Follows the opcodes of one pickle."""

    def __init__(self, path: Path, file: BinaryIO):
        self._path, self._file = path, file
        self._end = os.fstat(file.fileno()).st_size
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """What the pickle makes."""
        while True:
            code = self._file.read(1)
            if not code:
                raise ValueError("it ends early")
            known = _OPCODES.get(code.decode("latin1"))
            if known is None:
                raise ValueError(f"it has the byte {code!r} in the place of an opcode")
            if known.name == "STOP":
                return self._stack.pop()
            if known.name in _TEXTS:
                self._stack.append(self._read_text(*_TEXTS[known.name]))
            else:
                self._step(known)

    def _read_text(self, kind: str, count: int) -> bytes | str | _Place:
        length = int.from_bytes(self._file.read(count), "little")
        start = self._file.tell()
        if start + length > self._end:
            raise ValueError("it ends early")
        if length > _SHORT:
            self._file.seek(length, os.SEEK_CUR)
            return _Place(start, length, recoded=kind == "text")
        content = self._file.read(length)
        return content.decode() if kind == "text" else content

    def _step(self, opcode: pickletools.OpcodeInfo) -> None:
        name, stack = opcode.name, self._stack
        if name in ("GLOBAL", *_NUMBERS, "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "PROTO", "FRAME"):
            argument = opcode.arg.reader(self._file)  # type: ignore[union-attr]  # these have one
        if name in _NUMBERS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        elif name in ("APPEND", "APPENDS"):
            added = [stack.pop()] if name == "APPEND" else self._since_mark()
            if not isinstance(stack[-1], list):
                raise ValueError("it appends to what is no list")
            stack[-1].extend(added)
        elif name == "GLOBAL":
            stack.append(_Global(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            last = stack.pop()
            stack.append(_Global(f"{_text(stack.pop())}.{_text(last)}"))
        elif name == "REDUCE":
            arguments = stack.pop()
            stack.append(self._make(stack.pop(), arguments))
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], StoredArray | _Dtype):
                raise ValueError("it changes what is no array")
            stack[-1].set_state(state)
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"it uses the opcode {name}, which no array needs")

    def _since_mark(self) -> list:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _make(self, called: Any, arguments: Any) -> Any:
        """What a call in the pickle would return, for the few calls that arrays are made by."""
        name = called.name if isinstance(called, _Global) else repr(called)
        _, _, short = name.replace("numpy._core.", "numpy.core.").rpartition("numpy.core.")
        # The first numpy had another name for the same.
        if short in ("multiarray._reconstruct", "_internal._reconstruct"):
            return StoredArray(self._path)
        if short == "multiarray.scalar":
            dtype, data = arguments
            (value,) = np.frombuffer(_bytes(data), dtype.get()).tolist()
            return value
        if name == "numpy.dtype":
            return _Dtype(arguments[0])
        if name == "_codecs.encode":  # Python 3's protocol 2 writes bytes as text
            text, encoding = arguments
            if _text(encoding) != "latin1":
                raise ValueError(f"it holds bytes in the encoding {encoding!r}")
            return text if isinstance(text, _Place) else _text(text).encode("latin1")
        if name in ("__builtin__.bytes", "builtins.bytes") and arguments == ():
            return b""
        raise ValueError(f"it asks for {name}, which no array needs")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"it holds a {type(value).__name__} in the place of bytes")
    return value


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise ValueError(f"it holds a {type(value).__name__} in the place of text")
    return value
