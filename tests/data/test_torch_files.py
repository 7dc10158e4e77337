"""State dicts in PyTorch's form, made without PyTorch: read, refused, and never run."""

import collections
import io
import os
import pickle
import pickletools
import struct
import sys
import types
import zipfile

import ml_dtypes
import numpy as np
import pytest

from case_jax.data.torch_files import read_state_dict, write_state_dict
from tests.helpers.files import ONES, Trap, npz, torch_file
from tests.helpers.places import PLACES
from tests.helpers.refusals import assert_refused, bad, refusal

PYTORCH = "torch.save(model.state_dict(), path)"
STATE = {"a.weight": ONES, "a.bias": ONES[0]}


# Reading

ARRAYS = {
    "cas.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "cas.bias": np.array([1.5, -2.0], np.float64),
    "steps": np.array(7, np.int64),
}
_STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


@pytest.fixture
def torch_names(monkeypatch):
    """Stands for the parts of PyTorch that its files name, so that such files can be made without it."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("never called while writing")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in _STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


class Storage:
    def __init__(self, kind, key, count):
        self.pid = ("storage", kind, key, "cpu", count)


class Tensor:
    def __init__(self, storage, offset, size, stride):
        self.arguments = (storage, offset, size, stride, False, collections.OrderedDict())

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.pid if isinstance(value, Storage) else None


def write(path, content, data):
    """A file in PyTorch's form from a pickle's content and the bytes of its storages."""
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", buffer.getvalue())
        archive.writestr("model/byteorder", "little")
        for key, blob in data.items():
            archive.writestr(f"model/data/{key}", blob)


def tensor(torch, array, key, **changes):
    kind = getattr(torch, _STORAGES[array.dtype.str[1:]])
    strides = tuple(step // array.itemsize for step in array.strides)
    fields = {"offset": 0, "size": array.shape, "stride": strides, "count": array.size} | changes
    return Tensor(Storage(kind, key, fields["count"]), fields["offset"], fields["size"], fields["stride"])


def state_dict(torch, prefix=""):
    named = collections.OrderedDict(
        (prefix + name, tensor(torch, array, str(i))) for i, (name, array) in enumerate(ARRAYS.items())
    )
    return named, {str(i): array.tobytes() for i, array in enumerate(ARRAYS.values())}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_reads_what_was_written(torch_names, tmp_path, prefix):
    write(tmp_path / "m.pkl", *state_dict(torch_names, prefix))
    got = read_state_dict(tmp_path / "m.pkl")
    assert list(got) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


def test_a_view_of_a_storage(torch_names, tmp_path):
    whole = np.arange(12, dtype=np.float32)
    view = tensor(torch_names, whole, "0", offset=2, size=(2, 3), stride=(1, 2))
    write(tmp_path / "m.pkl", {"x": view}, {"0": whole.tobytes()})
    np.testing.assert_array_equal(read_state_dict(tmp_path / "m.pkl")["x"], [[2, 4, 6], [3, 5, 7]])


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"offset": 1}, "beyond its storage"),
        ({"offset": -1}, "impossible shape"),
        ({"size": (6, 2)}, "beyond its storage"),
        ({"stride": (3,)}, "impossible shape"),
        ({"size": (10**6, 10**6), "stride": (0, 0)}, "repeats its storage"),
        ({"count": 7}, "model/data/0 … 7 numbers"),
    ],
)
def test_a_tensor_stays_within_its_bytes(torch_names, tmp_path, changes, reason):
    array = ARRAYS["cas.weight"]
    write(tmp_path / "m.pkl", {"x": tensor(torch_names, array, "0", **changes)}, {"0": array.tobytes()})
    assert_refused(read_state_dict, tmp_path / "m.pkl", reason, PYTORCH)


@pytest.mark.parametrize("content", [{}, [1], {"x": 1}, {1: None}, "text"])
def test_only_named_tensors_are_a_state_dict(tmp_path, content):
    write(tmp_path / "m.pkl", content, {})
    assert_refused(read_state_dict, tmp_path / "m.pkl", "named tensors", PYTORCH)


# Hostile and damaged files


def global_of(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def called(module, name, argument=b"true"):
    return global_of(module, name) + b"X" + struct.pack("<I", len(argument)) + argument + b"\x85R0"


def compressed():
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(torch_file(STATE))) as archive,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as smaller,
    ):
        for name in archive.namelist():
            smaller.writestr(name, archive.read(name))
    return buffer.getvalue()


def archive_of(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


def number_an_object_2_billion():
    """Opcodes that make a plain reader of pickles take 16 GB: to number None 2^31 - 1."""
    return b"Nr" + struct.pack("<I", 2**31 - 1) + b"0"


def change_a_kind_of_storage():
    """Opcodes that would make all later bfloat16 in the process big-endian."""
    state = pickle.dumps((3, ">", None, None, None, -1, -1, 0), 2)
    return global_of("torch", "BFloat16Storage") + pickletools.optimize(state)[2:-1] + b"b0"


@pytest.mark.parametrize(
    "content, wrong",
    [
        bad("empty file", b"", "a file of PyTorch"),
        bad("plain pickle", lambda: pickle.dumps(Trap()), "a file of PyTorch"),
        bad("cut", torch_file(STATE)[:-30], "a file of PyTorch"),
        bad("cut at the front", torch_file(STATE)[40:], "cannot be read ("),
        bad("npz", npz(x=ONES), "no data.pkl"),
        bad("two pickles", archive_of(a__data_pkl=b"N.", b__data_pkl=b"N."), "no data.pkl"),
        bad("compressed", compressed(), "compressed"),
        bad("big-endian", archive_of(m__data_pkl=b"N.", m__byteorder=b"big"), "little-endian"),
        bad("None", archive_of(m__data_pkl=b"\x80\2N."), "named tensors"),
        bad("nothing by name", torch_file({}), "named tensors"),
        bad("a number by name", torch_file(STATE, hostile=3), "named tensors"),
        bad(
            "an object that runs something", lambda: torch_file(STATE, hostile=Trap()), "__builtin__.getattr"
        ),
        *(
            bad(f"{module}.{name}", torch_file(STATE, opcodes=called(module, name)), f"{module}.{name}")
            for module, name in (
                ("os", "system"),
                ("posix", "system"),
                ("builtins", "eval"),
                ("builtins", "__import__"),
                ("subprocess", "getoutput"),
                ("torch", "load"),
                ("torch.hub", "load"),
                ("numpy", "load"),
                ("operator", "attrgetter"),
            )
        ),
        bad(
            "an object of number 2^31", torch_file(STATE, opcodes=number_an_object_2_billion()), "2147483647"
        ),
        bad(
            "a string of 2^62 bytes",
            torch_file(STATE, opcodes=b"\x8e" + struct.pack("<Q", 2**62)),
            "cannot be read (",
        ),
        bad(
            "a kind of storage that is changed",
            torch_file(STATE, opcodes=change_a_kind_of_storage()),
            "cannot be read (",
        ),
    ],
)
def test_files_that_cannot_be_used(content, wrong, tmp_path, trap):
    path = tmp_path / "best_model.pkl"
    path.write_bytes(content() if callable(content) else content)
    assert_refused(read_state_dict, path, wrong, PYTORCH)
    # The refused file leaves no trace: the next file is read as ever.
    assert np.dtype(ml_dtypes.bfloat16).isnative
    path.write_bytes(torch_file(STATE))
    np.testing.assert_array_equal(read_state_dict(path)["a.weight"], ONES)


def test_nothing_in_a_file_is_called(torch_names, tmp_path):
    trace = tmp_path / "trace"
    for hostile, name in (
        (Hostile(os.system, f"touch {trace}"), f"{os.name}.system"),
        (Hostile(eval, f"open({str(trace)!r}, 'w')"), "__builtin__.eval"),
        (Hostile(getattr, "text", "upper"), "__builtin__.getattr"),
    ):
        write(tmp_path / "m.pkl", {"x": hostile}, {})
        assert_refused(read_state_dict, tmp_path / "m.pkl", name, PYTORCH)
        assert not trace.exists()


class Hostile:
    """Calls a function if it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path):
    whole = torch_file(STATE)
    for cut in range(0, len(whole), 37):
        (tmp_path / "m.pkl").write_bytes(whole[:cut])
        refusal(read_state_dict, tmp_path / "m.pkl")


@pytest.mark.parametrize("make, reason", PLACES)
def test_places_of_state_dicts(make, reason, tmp_path):
    path = tmp_path / "best_model.pkl"
    make(path)
    assert_refused(read_state_dict, path, reason, PYTORCH)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "best_model.pkl")
    assert_refused(read_state_dict, tmp_path / "best_model.pkl", "pipe", PYTORCH)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the process's memory as Linux does")
def test_many_tensors_of_one_storage_take_its_memory_once(tmp_path):
    import resource

    ones = np.ones(2**20, np.float32)
    (tmp_path / "m.pkl").write_bytes(torch_file(dict.fromkeys(map(str, range(500)), ones)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(read_state_dict(tmp_path / "m.pkl")) == 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; copies would be 2 GB


# Writing


def test_written_files_are_read_by_pytorch_and_by_us(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "m.pkl"
    write_state_dict(path, ARRAYS)
    loaded = torch.load(path, weights_only=True)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(loaded[name].numpy(), array)
        np.testing.assert_array_equal(read_state_dict(path)[name], array)


def test_without_pytorch_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "m.pkl"
    assert_refused(lambda path: write_state_dict(path, ARRAYS), path, "PyTorch", "'.[torch]'")
    assert not path.exists()
