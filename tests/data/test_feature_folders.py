"""Features of many videos in every form in which they are handed around."""

import os

import h5py
import numpy as np
import pytest

from case_jax.data.feature_folders import find_sources
from case_jax.data.formats import FORMATS, Source, describe_formats, open_source
from tests.data.conftest import STREAMS
from tests.helpers.files import ONES, npy
from tests.helpers.refusals import assert_parts, assert_refused, refusal


def write_stream_files(made):
    made.write_features()


def write_without_prefix(made):
    made.write_features(prefix="")


def write_parts(made):
    made.write_features(parts=("training", "validation"))


def write_csv(made):
    """In the folder itself, not in "features"."""
    for stream in STREAMS:
        (made.path / stream).mkdir()
        for video in made.lengths:
            np.savetxt(made.path / stream / f"{video}.csv", made.array(video, stream), "%.9g", delimiter=",")


def write_side_by_side(made):
    (made.path / "features").mkdir()
    for video in made.lengths:
        np.save(made.path / "features" / f"v_{video}.npy", together(made, video))


def write_hdf5(made):
    (made.path / "features").mkdir()
    for stream in STREAMS:
        with h5py.File(made.path / "features" / f"{stream}.hdf5", "w") as file:
            for video in made.lengths:
                file[f"v_{video}/i3d"] = made.array(video, stream)


def write_one_hdf5(made):
    with h5py.File(made.path / "features.h5", "w") as file:
        for video in made.lengths:
            file[video] = together(made, video)


def together(made, video):
    return np.concatenate([made.array(video, stream) for stream in STREAMS], axis=1)


FORMS = [
    write_stream_files,
    write_without_prefix,
    write_parts,
    write_csv,
    write_side_by_side,
    write_hdf5,
    write_one_hdf5,
]


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_the_same_features(bare_activitynet, write):
    made = bare_activitynet
    write(made)
    found = find_sources(made.path, STREAMS)
    assert found.repeated == ()
    assert sorted(name.removeprefix("v_") for name in found.sources) == sorted(made.lengths)
    for name, of_video in found.sources.items():
        for stream in STREAMS:
            expected = made.array(name.removeprefix("v_"), stream)
            np.testing.assert_allclose(open_source(of_video[stream]), expected, rtol=1e-6)


@pytest.mark.parametrize("ending", [ending for form in FORMATS if not form.keys for ending in form.endings])
def test_files_of_any_ending_are_found(ending, tmp_path):
    for stream in STREAMS:
        (tmp_path / stream).mkdir()
        (tmp_path / stream / f"x{ending}").touch()
    found = find_sources(tmp_path, STREAMS)
    assert found.sources == {"x": {stream: Source(tmp_path / stream / f"x{ending}") for stream in STREAMS}}


def test_features_that_are_there_twice_are_told(tmp_path):
    for part in ("a", "b"):
        for stream in STREAMS:
            (tmp_path / part / stream).mkdir(parents=True)
            np.save(tmp_path / part / stream / ("v_x.npy" if part == "b" else "x.npy"), ONES)
    sources, repeated = find_sources(tmp_path, STREAMS)
    assert sources == {"x": {stream: Source(tmp_path / "a" / stream / "x.npy") for stream in STREAMS}}
    assert repeated == ("v_x",)
    (tmp_path / "a" / "flow" / "x.csv").write_text("1,2,3\n")
    again, repeated = find_sources(tmp_path, STREAMS)
    assert again == sources
    assert repeated == ("x", "v_x")


def test_streams_may_name_a_video_with_and_without_the_prefix(tmp_path):
    for stream, name in (("rgb", "x"), ("flow", "v_x")):
        (tmp_path / stream).mkdir()
        (tmp_path / stream / f"{name}.npy").touch()
    (found,) = find_sources(tmp_path, STREAMS).sources.values()
    assert [source.path.name for source in found.values()] == ["x.npy", "v_x.npy"]


@pytest.mark.parametrize("container", [False, True])
def test_a_video_that_lacks_a_stream_is_left_out_or_told(container, tmp_path):
    for stream, names in (("rgb", "xy"), ("flow", "yz")):
        if container:
            with h5py.File(tmp_path / f"{stream}.h5", "w") as file:
                for name in names:
                    file[name] = ONES
        else:
            (tmp_path / stream).mkdir()
            for name in names:
                (tmp_path / stream / f"{name}.npy").write_bytes(npy(ONES))

    def place(stream, name):
        if container:
            return Source(tmp_path / f"{stream}.h5", name)
        return Source(tmp_path / stream / f"{name}.npy")

    assert list(find_sources(tmp_path, STREAMS).sources) == ["y"]
    found = find_sources(tmp_path, STREAMS, complete=True).sources
    assert found == {name: {stream: place(stream, name) for stream in STREAMS} for name in "xyz"}
    message = refusal(open_source, found["x"]["flow"])
    wrong, expected = ("not there", "data set") if container else ("no such file", ".npy")
    assert_parts(message, place("flow", "x"), wrong, expected)


def test_known_widths_divide_streams_side_by_side(tmp_path):
    array = np.arange(30, dtype=np.float32).reshape(3, 10)
    np.save(tmp_path / "x.npy", array)
    (found,) = find_sources(tmp_path, STREAMS, widths={"rgb": 6, "flow": 4}).sources.values()
    np.testing.assert_array_equal(open_source(found["rgb"]), array[:, :6])
    np.testing.assert_array_equal(open_source(found["flow"]), array[:, 6:])
    message = refusal(lambda: find_sources(tmp_path, STREAMS, widths={"rgb": 6, "flow": 6}))
    assert_parts(message, tmp_path / "x.npy", "10 channels", "12 … rgb (6) … flow (6)")


def test_streams_side_by_side_are_equally_wide_unless_told(tmp_path):
    np.save(tmp_path / "x.npy", ONES[:, :3])
    message = refusal(find_sources, tmp_path, STREAMS)
    assert_parts(message, tmp_path / "x.npy", "3 channels", "multiple of 2 … rgb, flow")
    assert find_sources(tmp_path, ["rgb"]).sources == {"x": {"rgb": Source(tmp_path / "x.npy")}}


def test_rescaled_files_are_marked(tmp_path):
    (tmp_path / "x.csv").write_text("1,2\n")
    (found,) = find_sources(tmp_path, ["rgb"], rescaled=True).sources.values()
    assert found["rgb"].rescaled


def test_no_features_is_told_with_every_format(tmp_path):
    assert_refused(
        lambda folder: find_sources(folder, ["tsn", "flow"]),
        tmp_path,
        "no features",
        f"tsn/<video>.npy … flow/<video>.npy … {describe_formats()}",
    )


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    for stream in STREAMS:
        (tmp_path / stream).mkdir()
        (tmp_path / stream / os.fsdecode(b"caf\xe9.npy")).write_bytes(npy(ONES))
    message = refusal(find_sources, tmp_path, STREAMS)
    assert_parts(message, f"{tmp_path}/rgb/caf\\udce9.npy", "UTF-8", "written")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    assert_refused(lambda p: find_sources(p, STREAMS), tmp_path, "Permission denied", "features")
