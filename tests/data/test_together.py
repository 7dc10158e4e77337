"""Streams together in one file: a few files tell how all are, and an odd one is refused alone."""

import h5py
import numpy as np
import pytest

from case_jax.data.feature_folders import find_sources
from case_jax.data.sources import open_source
from tests.data.conftest import STREAMS
from tests.helpers.files import npy, npz
from tests.helpers.refusals import assert_parts, assert_refused, refusal

WIDTHS = {"rgb": 2, "flow": 2}
EIGHT = np.arange(32, dtype=np.float32).reshape(8, 4)
PER_STREAM = npz(rgb=EIGHT[:, :2], flow=EIGHT[:, 2:])


@pytest.mark.parametrize("widths", [None, WIDTHS])
@pytest.mark.parametrize(
    ("odd", "content", "others", "wrong"),
    [
        ("a.npz", npz(rgb=EIGHT[:, :2]), ("npz", PER_STREAM), "'flow'"),
        ("a.npz", npz(x=EIGHT[:, :2]), ("npz", PER_STREAM), "array 'rgb'"),
        ("a.npz", PER_STREAM, ("npz", npz(x=EIGHT)), "2 arrays"),
        ("a.npz", npz(x=EIGHT[:, :3]), ("npy", npy(EIGHT)), "3 channels"),
        ("a.npy", npy(EIGHT[:, :2]), ("npy", npy(EIGHT)), "2 channels"),
        ("a.npy", npy(EIGHT[:, :3]), ("npy", npy(EIGHT)), "3 channels"),
        ("a.npy", npy(EIGHT[:, :3]), ("npz", PER_STREAM), ""),
        ("a.csv", b"video,seconds\nb,3\n", ("npy", npy(EIGHT)), "cannot be read"),
        ("a.csv", b"video,seconds\nb,3\n", ("npz", PER_STREAM), ""),
    ],
)
def test_an_odd_file_is_refused_alone(odd, content, others, wrong, widths, tmp_path):
    ending, other = others
    (tmp_path / odd).write_bytes(content)
    for name in "bcdefg":
        (tmp_path / f"{name}.{ending}").write_bytes(other)
    found = find_sources(tmp_path, STREAMS, widths=widths).sources
    for name in "bcdefg":
        np.testing.assert_array_equal(open_source(found[name]["rgb"]), EIGHT[:, :2])
        np.testing.assert_array_equal(open_source(found[name]["flow"]), EIGHT[:, 2:])
    assert_parts(refusal(lambda: [open_source(found["a"][s]) for s in STREAMS]), tmp_path / odd, wrong)


@pytest.mark.parametrize("group", [False, True])
def test_an_odd_video_in_a_file_of_many_is_refused_alone(group, tmp_path):
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["a"] = EIGHT[:, :2]
        for name in "bcd":
            if group:
                file[f"{name}/rgb"], file[f"{name}/flow"] = EIGHT[:, :2], EIGHT[:, 2:]
            else:
                file[name] = EIGHT
    for widths in (None, WIDTHS):
        found = find_sources(tmp_path, STREAMS, widths=widths).sources
        np.testing.assert_array_equal(open_source(found["d"]["flow"]), EIGHT[:, 2:])
        assert_parts(refusal(open_source, found["a"]["rgb"]), tmp_path / "features.h5", "data set 'a")


def test_only_a_few_files_tell_how_all_are(tmp_path, monkeypatch):
    for number in range(100):
        (tmp_path / f"{number}.npy").write_bytes(npy(EIGHT))
    opened = []
    monkeypatch.setattr(
        "case_jax.data.together.open_source", lambda source: opened.append(source) or open_source(source)
    )
    assert len(find_sources(tmp_path, STREAMS).sources) == 100
    assert len(opened) == 5
    message = refusal(lambda: find_sources(tmp_path, STREAMS, widths={"rgb": 2, "flow": 3}))
    assert_parts(message, tmp_path / "0.npy", "4 channels", "5 … rgb (2) … flow (3)")
    assert len(opened) == 10


def test_a_file_of_many_videos_without_any_is_told(tmp_path):
    h5py.File(tmp_path / "features.h5", "w").close()
    assert_refused(lambda folder: find_sources(folder, STREAMS), tmp_path, "no features", "rgb/<video>.npy")
