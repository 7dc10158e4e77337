"""Files of PyTorch before 1.6: read as newer ones are, refused if damaged or hostile, and never run."""

import pickle
import struct

import numpy as np
import pytest

from case_jax.data.torch_files import read_state_dict
from tests.helpers.files import ONES, Trap, legacy_torch_file
from tests.helpers.refusals import assert_refused, bad, refusal

STATE = {"a.weight": np.arange(12, dtype=np.float32).reshape(4, 3), "a.bias": ONES[0]}
PYTORCH = "torch.save(model.state_dict(), path)"


@pytest.mark.parametrize("prefix", ["", "module."])
def test_reads_named_arrays(prefix, tmp_path):
    path = tmp_path / "rgb_imagenet.pt"
    strided = np.arange(12, dtype=np.float32).reshape(4, 3).T  # its storage has another order
    named = {**STATE, "again": STATE["a.weight"], "strided": strided}
    path.write_bytes(legacy_torch_file({prefix + name: array for name, array in named.items()}))
    found = read_state_dict(path)
    assert list(found) == list(named)
    for name, array in named.items():
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.writeable


def called(module, name):
    return pickle.GLOBAL + f"{module}\n{name}\n".encode() + b"X\x04\0\0\0true\x85R0"


def replaced(old, new):
    whole = legacy_torch_file(STATE)
    assert old in whole
    return whole.replace(old, new)


@pytest.mark.parametrize(
    "content, wrong",
    [
        bad("magic alone", legacy_torch_file(STATE)[:15], "cannot be read ("),
        bad("of another version", replaced(pickle.dumps(1001, 2), pickle.dumps(1002, 2)), "no version"),
        bad("big-endian", replaced(b"little_endianq\x02\x88", b"little_endianq\x02\x89"), "little-endian"),
        bad("another count", replaced(struct.pack("<q", 12), struct.pack("<q", 13)), "12 numbers"),
        bad("a part of a storage", replaced(b"K\x0cN", b"K\x0cK\x01"), "part of another"),
        bad("nothing by name", legacy_torch_file({}), "named tensors"),
        bad("a number by name", legacy_torch_file(STATE, hostile=3), "named tensors"),
        bad("runs something", lambda: legacy_torch_file(STATE, hostile=Trap()), "__builtin__.getattr"),
        bad("os.system", legacy_torch_file(STATE, opcodes=called("os", "system")), "os.system"),
        bad("torch.load", legacy_torch_file(STATE, opcodes=called("torch", "load")), "torch.load"),
        bad(
            "an object of number 2^31",
            legacy_torch_file(STATE, opcodes=b"Nr" + struct.pack("<I", 2**31 - 1) + b"0"),
            "2147483647",
        ),
        bad(
            "names of storages that run something",
            lambda: replaced(pickle.dumps(["0", "1"], 2), pickle.dumps(Trap(), 2)),
            "__builtin__.getattr",
        ),
    ],
)
def test_files_that_cannot_be_used(content, wrong, tmp_path, trap):
    path = tmp_path / "rgb_imagenet.pt"
    path.write_bytes(content() if callable(content) else content)
    assert_refused(read_state_dict, path, wrong, PYTORCH)


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path):
    whole = legacy_torch_file(STATE)
    for cut in range(0, len(whole), 11):
        (tmp_path / "m.pt").write_bytes(whole[:cut])
        refusal(read_state_dict, tmp_path / "m.pt")


def test_reads_what_pytorch_writes(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array.copy()) for name, array in STATE.items()}
    network = torch.nn.BatchNorm1d(3)
    torch.save(tensors, tmp_path / "t.pt", _use_new_zipfile_serialization=False)
    torch.save(network.state_dict(), tmp_path / "n.pt", _use_new_zipfile_serialization=False)
    for name, array in read_state_dict(tmp_path / "t.pt").items():
        np.testing.assert_array_equal(array, STATE[name])
    assert set(read_state_dict(tmp_path / "n.pt")) == set(network.state_dict())
