"""Tensors of features in PyTorch's files, made without PyTorch."""

import ml_dtypes
import numpy as np
import pytest

from case_jax.data.sources import Source, read_source
from case_jax.data.torch_features import list_keys, read_tensor
from tests.helpers.files import ONES, Trap, legacy_torch_file, npy, torch_file
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
FORMS = pytest.mark.parametrize("form", [torch_file, legacy_torch_file])
DTYPES = (
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    np.int64,
    np.int32,
    np.int16,
    np.int8,
    np.uint8,
)


@FORMS
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_tensor_of_any_dtype(form, dtype, tmp_path):
    path = tmp_path / "v.pt"
    path.write_bytes(form(ROWS.astype(dtype)))
    assert list_keys(path) == []
    np.testing.assert_array_equal(read_tensor(path), ROWS.astype(dtype), strict=True)
    np.testing.assert_array_equal(read_source(Source(path)), ROWS, strict=True)
    assert_parts(refusal(read_tensor, path, "rgb"), path, "one tensor", "dictionary with 'rgb'")


@FORMS
def test_tensors_by_name(form, tmp_path):
    path = tmp_path / "v.pth"
    path.write_bytes(form({"rgb": ROWS, "flow": np.asfortranarray(2 * ROWS)}, hostile=25.0))
    assert list_keys(path) == ["rgb", "flow"]  # beside a number, which is no tensor
    np.testing.assert_array_equal(read_tensor(path, "flow"), 2 * ROWS)
    assert_refused(read_tensor, path, "2 tensors ('rgb', 'flow')", "one tensor … per stream")
    assert_parts(refusal(read_tensor, path, "depth"), path, "no tensor 'depth', only 'rgb'", "torch.save")
    path.write_bytes(form({"features": ROWS}))
    np.testing.assert_array_equal(read_tensor(path), ROWS)


@pytest.mark.parametrize(
    "content, wrong",
    [
        bad("empty file", b"", "not a file of PyTorch"),
        bad("npy by another name", npy(ONES), "not a file of PyTorch"),
        bad("cut", torch_file(ONES)[:-30], "not a file of PyTorch"),
        bad("legacy, cut", legacy_torch_file(ONES)[:-3], "cannot be read ("),
        bad("no tensor", torch_file({}), "no tensor"),
        bad("numbers only", torch_file({}, hostile=3), "no tensor"),
        bad("an object that runs something", lambda: torch_file({}, hostile=Trap()), "__builtin__.getattr"),
    ],
)
def test_files_that_cannot_be_used(content, wrong, tmp_path, trap):
    path = tmp_path / "v.pt"
    path.write_bytes(content() if callable(content) else content)
    assert_refused(read_tensor, path, wrong, "torch.save")
    assert_refused(list_keys, path, wrong, "torch.save")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int16"])
def test_what_pytorch_writes(dtype, tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(ROWS.copy()).to(getattr(torch, dtype))
    for new_form in (True, False):
        torch.save(tensor, tmp_path / "v.pt", _use_new_zipfile_serialization=new_form)
        np.testing.assert_array_equal(read_source(Source(tmp_path / "v.pt")), ROWS, strict=True)
        torch.save({"rgb": tensor, "fps": 25}, tmp_path / "v.pt", _use_new_zipfile_serialization=new_form)
        np.testing.assert_array_equal(read_source(Source(tmp_path / "v.pt", "rgb")), ROWS, strict=True)
