"""Features of many videos in every form in which they are handed around."""

import os
import types

import h5py
import numpy as np
import pytest

from case_jax.data.feature_folders import find_sources
from case_jax.data.formats import FORMATS, describe_formats
from case_jax.data.info import Reading
from case_jax.data.sources import Source, open_source
from tests.data.conftest import STREAMS
from tests.helpers.files import ONES, npy, npz, torch_file
from tests.helpers.refusals import assert_parts, assert_refused, refusal


def write_stream_files(made):
    made.write_features()


def write_without_prefix(made):
    made.write_features(prefix="")


def write_parts(made):
    made.write_features(parts=("training", "validation"))


def write_npz_in_parts(made):
    """With any names, since the streams' names tell what the files are."""
    for part, video in zip("xyx", made.lengths):
        (made.path / "features" / part).mkdir(parents=True, exist_ok=True)
        arrays = {stream: made.array(video, stream) for stream in STREAMS}
        np.savez(made.path / "features" / part / f"{video}.npz", **arrays)


def write_side_by_side_in_parts(made):
    """Beside a table."""
    for part, video in zip(("train", "test", "train"), made.lengths):
        (made.path / "features" / part).mkdir(parents=True, exist_ok=True)
        np.save(made.path / "features" / part / f"{video}.npy", together(made, video))
    (made.path / "features" / "labels.csv").write_text("video,label\n")
    (made.path / "features" / "train" / "labels.csv").write_text("video,label\n")


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


def write_npz(made):
    """In the folder itself, beside a table of labels and what macOS leaves."""
    for video in made.lengths:
        np.savez(made.path / f"{video}.npz", **{stream: made.array(video, stream) for stream in STREAMS})
    (made.path / "labels.csv").write_text("video,label\n")
    (made.path / "._a.npz").write_bytes(b"\0\5\026\7")


def write_torch(made):
    (made.path / "features").mkdir()
    for video in made.lengths:
        content = torch_file({stream: made.array(video, stream) for stream in STREAMS}, hostile=25.0)
        (made.path / "features" / f"v_{video}.pt").write_bytes(content)


def write_hdf5_per_video(made):
    for video in made.lengths:
        with h5py.File(made.path / f"{video}.h5", "w") as file:
            for stream in STREAMS:
                file[stream] = made.array(video, stream)


def write_hdf5_groups_of_videos(made):
    with h5py.File(made.path / "features.h5", "w") as file:
        for video in made.lengths:
            for stream in STREAMS:
                file[f"v_{video}/{stream}"] = made.array(video, stream)


def write_hdf5_groups_of_streams(made):
    (made.path / "features").mkdir()
    with h5py.File(made.path / "features" / "features.hdf5", "w") as file:
        for video in made.lengths:
            for stream, prefix in zip(STREAMS, ("v_", "")):
                file[f"{stream}/{prefix}{video}"] = made.array(video, stream)
        file["flow/._x"] = ONES


def write_several_formats(made):
    for video, write in zip(made.lengths, (write_npz, write_torch, write_hdf5_per_video)):
        write(types.SimpleNamespace(path=made.path, lengths=[video], array=made.array))
    for path in (made.path / "features").iterdir():
        path.rename(made.path / path.name)
    (made.path / "features").rmdir()


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
    write_npz,
    write_torch,
    write_hdf5_per_video,
    write_hdf5_groups_of_videos,
    write_hdf5_groups_of_streams,
    write_npz_in_parts,
    write_side_by_side_in_parts,
    write_several_formats,
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


@pytest.mark.parametrize("ending", [ending for form in FORMATS for ending in form.endings])
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


READING = Reading(rescaled=True, crops="mean", dtype="bfloat16")


@pytest.mark.parametrize("write", FORMS)
def test_every_source_says_how_it_is_to_be_read(write, bare_activitynet):
    write(bare_activitynet)
    for of_video in find_sources(bare_activitynet.path, STREAMS, reading=READING).sources.values():
        assert [source.reading for source in of_video.values()] == [READING, READING]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    for folder in (tmp_path, tmp_path / "__MACOSX", tmp_path / ".part"):
        for stream in STREAMS:
            (folder / stream).mkdir(parents=True)
            for name in ("._x.npy", ".DS_Store", "Thumbs.db"):
                (folder / stream / name).write_bytes(b"\0\5\026\7")
    for stream in STREAMS:
        (tmp_path / stream / "x.npy").write_bytes(npy(ONES))
        (tmp_path / ".part" / stream / "y.npy").write_bytes(npy(ONES))
    found = find_sources(tmp_path, STREAMS, complete=True)
    assert list(found.sources) == ["x"]
    assert found.repeated == ()


def test_a_damaged_file_leaves_the_others_in_their_form(tmp_path):
    for name in "bc":
        (tmp_path / f"{name}.npz").write_bytes(npz(rgb=ONES, flow=ONES))
    (tmp_path / "a.npz").write_bytes(b"PK")
    found = find_sources(tmp_path, STREAMS).sources
    assert [source.key for source in found["a"].values()] == list(STREAMS)
    assert_parts(refusal(open_source, found["a"]["rgb"]), tmp_path / "a.npz", "not a whole .npz", ".npz")
    np.testing.assert_array_equal(open_source(found["c"]["flow"]), ONES)
    (tmp_path / "b.npz").unlink()
    (tmp_path / "c.npz").unlink()
    assert "not a whole" in refusal(find_sources, tmp_path, STREAMS)


EIGHT = np.arange(32, dtype=np.float32).reshape(8, 4)
PER_STREAM = npz(rgb=EIGHT[:, :2], flow=EIGHT[:, 2:])


@pytest.mark.parametrize("streams", [("rgb",), STREAMS])
@pytest.mark.parametrize("width", [3, 4])
def test_folders_of_streams_of_other_names_are_not_taken_for_parts(streams, width, tmp_path):
    for folder in ("rgb_i3d", "flow_i3d"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.npy").write_bytes(npy(EIGHT[:, :width]))
    assert_refused(lambda folder: find_sources(folder, streams), tmp_path, "no features", "rgb/<video>.npy")


def test_folders_beside_files_are_parts_only_if_no_file_fits(tmp_path):
    (tmp_path / "train").mkdir()
    for name in ("x.npz", "train/y.npz", "train/x.npz"):
        (tmp_path / name).write_bytes(PER_STREAM)
    assert find_sources(tmp_path, STREAMS).sources.keys() == {"x"}
    (tmp_path / "x.npz").unlink()
    (tmp_path / "durations.csv").write_text("video,seconds\nx,3\n")
    assert find_sources(tmp_path, STREAMS).sources.keys() == {"durations", "x", "y"}
    for name in "xy":
        (tmp_path / "train" / f"{name}.npz").unlink()
    assert_parts(refusal(find_sources, tmp_path, STREAMS), tmp_path / "durations.csv", "cannot be read")


def test_arrays_of_other_names_are_told(tmp_path):
    (tmp_path / "a.npz").write_bytes(npz(RGB=ONES, FLOW=ONES))
    message = refusal(find_sources, tmp_path, STREAMS)
    assert_parts(
        message, tmp_path / "a.npz", "2 arrays ('RGB', 'FLOW')", "per stream under the stream's name"
    )


def test_groups_of_other_names_are_told(tmp_path):
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["x/RGB"], file["x/FLOW"] = ONES, ONES
    message = refusal(find_sources, tmp_path, STREAMS)
    wrong = "data set 'x': is a group of 2 ('FLOW', 'RGB')"
    assert_parts(message, tmp_path / "features.h5", wrong, "per stream under the stream's name")


def test_a_group_of_one_stream_is_read_as_the_only_stream(tmp_path):
    with h5py.File(tmp_path / "features.h5", "w") as file:
        file["x/rgb"], file["y/i3d"] = ONES, 2 * ONES
    found = find_sources(tmp_path, ["rgb"]).sources
    np.testing.assert_array_equal(open_source(found["x"]["rgb"]), ONES)
    np.testing.assert_array_equal(open_source(found["y"]["rgb"]), 2 * ONES)


def test_one_stream_alone_is_no_video(tmp_path):
    with h5py.File(tmp_path / "rgb.h5", "w") as file:
        file["x"], file["y"] = ONES, ONES
    assert_refused(lambda folder: find_sources(folder, STREAMS), tmp_path, "no features", "rgb/<video>.npy")


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
