"""Which videos the doctor looks at: files that the loader refuses are counted, not raised."""

import pytest

from case_jax.data.doctor import diagnose
from case_jax.data.load import load_dataset
from tests.helpers.files import ONES, npy, npz
from tests.helpers.refusals import refusal


@pytest.mark.parametrize(
    ("name", "content"),
    [("b.npz", b"PK"), ("b.npy", npy(ONES)), ("b.npz", npz(rgb=ONES)), ("b.npz", npz(x=ONES, y=ONES))],
)
def test_thumos14s_layout_counts_damaged_files_of_all_streams(name, content, thumos):
    for stream in ("rgb", "flow"):
        (thumos / "features" / "train" / stream / "b.npy").unlink()
    path = thumos / "features" / "train" / name
    path.write_bytes(content)
    diagnosis = diagnose(thumos)
    (finding,) = (f for f in diagnosis.findings if f.what == "features that cannot be read")
    assert finding.counts == {"train": 1, "test": 0}
    assert str(path) in finding.example
    assert diagnosis.refused
    assert str(path) in refusal(load_dataset, thumos)
