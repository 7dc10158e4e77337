import collections
import io
import pickle
import sys
import types
import zipfile

import numpy as np
import pytest

from case_jax.data.torch_files import read_state_dict, write_state_dict
from case_jax.errors import InputError

EXPECTED = "expected a state dict as torch.save(model.state_dict(), path) writes it"
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


class Hostile:
    """What runs a command where it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def test_nothing_in_a_file_is_called(torch_names, tmp_path):
    import os

    trace = tmp_path / "trace"
    for hostile, name in (
        (Hostile(os.system, f"touch {trace}"), f"{os.name}.system"),
        (Hostile(eval, f"open({str(trace)!r}, 'w')"), "__builtin__.eval"),
        (Hostile(getattr, "text", "upper"), "__builtin__.getattr"),
    ):
        write(tmp_path / "m.pkl", {"x": hostile}, {})
        with pytest.raises(InputError) as raised:
            read_state_dict(tmp_path / "m.pkl")
        assert str(raised.value) == (
            f"{tmp_path / 'm.pkl'}: cannot be read (it asks for {name}, which no tensor needs); {EXPECTED}"
        )
        assert not trace.exists()


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"offset": 1}, "a tensor reaches beyond its storage"),
        ({"offset": -1}, "a tensor has an impossible shape"),
        ({"size": (6, 2)}, "a tensor reaches beyond its storage"),
        ({"stride": (3,)}, "a tensor has an impossible shape"),
        ({"size": (10**6, 10**6), "stride": (0, 0)}, "a tensor repeats its storage"),
        ({"count": 7}, "model/data/0 has not the size of 7 numbers"),
    ],
)
def test_a_tensor_stays_within_its_bytes(torch_names, tmp_path, changes, reason):
    array = ARRAYS["cas.weight"]
    write(tmp_path / "m.pkl", {"x": tensor(torch_names, array, "0", **changes)}, {"0": array.tobytes()})
    with pytest.raises(InputError) as raised:
        read_state_dict(tmp_path / "m.pkl")
    assert str(raised.value) == f"{tmp_path / 'm.pkl'}: cannot be read ({reason}); {EXPECTED}"


@pytest.mark.parametrize("content", [{}, [1], {"x": 1}, {1: None}, "text"])
def test_something_else_than_tensors_by_name(tmp_path, content):
    write(tmp_path / "m.pkl", content, {})
    with pytest.raises(InputError) as raised:
        read_state_dict(tmp_path / "m.pkl")
    assert str(raised.value) == f"{tmp_path / 'm.pkl'}: holds something else than tensors by name; {EXPECTED}"


def test_files_that_are_none(torch_names, tmp_path):
    path = tmp_path / "m.pkl"
    for content, reason in (
        (None, "no such file"),
        (pickle.dumps({}), "is no archive of PyTorch 1.6 or newer"),
        (b"", "is no archive of PyTorch 1.6 or newer"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError) as raised:
            read_state_dict(path)
        assert str(raised.value) == f"{path}: {reason}; {EXPECTED}"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(InputError, match="it holds no data"):
        read_state_dict(path)
    write(path, *state_dict(torch_names))
    whole = path.read_bytes()
    for cut in range(0, len(whole), 37):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError):
            read_state_dict(path)


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
    with pytest.raises(InputError) as raised:
        write_state_dict(tmp_path / "m.pkl", ARRAYS)
    path = tmp_path / "m.pkl"
    assert str(raised.value) == f"{path}: needs PyTorch to be written; expected pip install '.[torch]'"
    assert not path.exists()
