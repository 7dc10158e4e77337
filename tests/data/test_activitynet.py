import json

import h5py
import numpy as np
import pytest

from case_jax.data.activitynet import find_sources, load_activitynet
from case_jax.data.doctor import diagnose
from case_jax.data.formats import Source
from case_jax.data.thumos import is_thumos_layout
from case_jax.errors import InputError

STREAMS = ("rgb", "flow")


def features(length, width=3, seed=0):
    return np.random.default_rng(seed).standard_normal((length, width)).astype(np.float32)


DATABASE = {
    "aaaaaaaaaaa": {
        "subset": "training",
        "duration": 6.4,
        "annotations": [{"label": "Ping-pong", "segment": [0, 3]}],
    },
    "bbbbbbbbbbb": {
        "subset": "training",
        "duration": 12.8,
        "annotations": [{"label": "Doing (crazy) stunts, indoors", "segment": [1, 20]}],
    },
    "ccccccccccc": {"subset": "training", "duration": 9.0, "annotations": []},
    "ddddddddddd": {
        "subset": "validation",
        "duration": 6.4,
        "annotations": [
            {"label": "Ping-pong", "segment": [2, 2]},
            {"label": "Ballet", "segment": ["0.5", "4"]},
        ],
    },
    "eeeeeeeeeee": {
        "subset": "validation",
        "duration": 6.4,
        "annotations": [{"label": "Ping-pong", "segment": [0, 3]}],
    },
    "fffffffffff": {"subset": "testing", "duration": 6.4, "annotations": []},
}
CLASSES = ("Ballet", "Doing (crazy) stunts, indoors", "Ping-pong")
LENGTHS = {"aaaaaaaaaaa": 10, "bbbbbbbbbbb": 20, "ddddddddddd": 10}  # e has no features


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "activity_net.v1-3.min.json").write_text(json.dumps({"version": "1.3", "database": DATABASE}))
    return tmp_path


def array(video, stream):
    return features(LENGTHS[video], seed=hash((video, stream)) % 1000)


def write_per_stream(folder, prefix="v_", parts=("",)):
    for stream in STREAMS:
        for i, video in enumerate(LENGTHS):
            target = folder / "features" / parts[i % len(parts)] / stream
            target.mkdir(parents=True, exist_ok=True)
            np.save(target / f"{prefix}{video}.npy", array(video, stream))


def write_parts(folder):
    write_per_stream(folder, parts=("training", "validation"))


def write_without_prefix(folder):
    write_per_stream(folder, prefix="")


def write_csv(folder):
    for stream in STREAMS:
        (folder / stream).mkdir()
        for video in LENGTHS:
            np.savetxt(folder / stream / f"{video}.csv", array(video, stream), delimiter=",", fmt="%.9g")


def write_side_by_side(folder):
    (folder / "features").mkdir()
    for video in LENGTHS:
        together = np.concatenate([array(video, stream) for stream in STREAMS], axis=1)
        np.save(folder / "features" / f"v_{video}.npy", together)


def write_hdf5(folder):
    (folder / "features").mkdir()
    for stream in STREAMS:
        with h5py.File(folder / "features" / f"{stream}.hdf5", "w") as file:
            for video in LENGTHS:
                file[f"v_{video}/i3d"] = array(video, stream)


def write_one_hdf5(folder):
    with h5py.File(folder / "features.h5", "w") as file:
        for video in LENGTHS:
            file[video] = np.concatenate([array(video, stream) for stream in STREAMS], axis=1)


FORMS = [
    write_per_stream,
    write_parts,
    write_without_prefix,
    write_csv,
    write_side_by_side,
    write_hdf5,
    write_one_hdf5,
]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_the_same_data_set(folder, write, in_memory):
    write(folder)
    data = load_activitynet(folder, in_memory=in_memory)
    assert data.info.classes == CLASSES
    assert (data.info.train_subset, data.info.test_subset) == ("training", "validation")
    assert data.stream_widths == {"rgb": 3, "flow": 3}
    names = [[video.name for video in split.videos] for split in (data.train, data.test)]
    assert names == [["aaaaaaaaaaa", "bbbbbbbbbbb"], ["ddddddddddd"]]
    for split in (data.train, data.test):
        assert (split.packed is not None) == in_memory
        for video in split.videos:
            assert video.num_snippets == LENGTHS[video.name]
            assert video.seconds(data.info) == pytest.approx(LENGTHS[video.name] * 0.64)
            for stream in STREAMS:
                np.testing.assert_allclose(video.features[stream], array(video.name, stream), rtol=1e-6)
    assert data.test.videos[0].annotations == (("Ping-pong", 2.0, 2.0), ("Ballet", 0.5, 4.0))
    assert data.train.population == "2 videos with 2 instances (left out: 1 without annotations)"
    assert data.test.population == "1 videos with 2 instances (left out: 1 without features)"


def test_annotations_without_subsets_need_split_files(folder):
    write_per_stream(folder)
    (folder / "activity_net.v1-3.min.json").unlink()
    flat = {
        f"v_{video}": {"duration_second": entry["duration"], "annotations": entry["annotations"]}
        for video, entry in DATABASE.items()
    }
    (folder / "anno.json").write_text(json.dumps(flat))
    with pytest.raises(InputError) as raised:
        load_activitynet(folder)
    assert str(raised.value) == (
        f"{folder / 'anno.json'}: has no video of subset 'training', only of ''; expected some, or "
        "split_train.txt beside it"
    )
    (folder / "split_train.txt").write_text("aaaaaaaaaaa\nv_bbbbbbbbbbb\n")
    (folder / "split_test.txt").write_text("ddddddddddd\n")
    data = load_activitynet(folder)
    assert [video.name for video in data.train.videos] == ["v_aaaaaaaaaaa", "v_bbbbbbbbbbb"]


def test_rescaled_features_last_as_long_as_the_video(folder):
    write_per_stream(folder)
    (folder / "dataset.json").write_text(json.dumps({"rescaled": True}))
    data = load_activitynet(folder)
    assert [video.seconds(data.info) for video in data.train.videos] == [6.4, 12.8]
    assert data.info.rescaled


def change(folder, **fields):
    (folder / "dataset.json").write_text(json.dumps(fields))


def without_durations(folder):
    database = {v: {k: e[k] for k in ("subset", "annotations")} for v, e in DATABASE.items()}
    (folder / "activity_net.v1-3.min.json").write_text(json.dumps({"database": database}))
    change(folder, rescaled=True)


def odd_width(folder):
    for path in (folder / "features").rglob("*.npy"):
        path.unlink()
    for stream in STREAMS:
        (folder / "features" / stream).rmdir()
    np.save(folder / "features" / "aaaaaaaaaaa.npy", features(4, width=5))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda folder: (folder / "other.json").write_text("{}"),
            "{folder}: holds 2 .json files (activity_net.v1-3.min.json, other.json); expected one with "
            "annotations, or its name as 'annotations' in dataset.json",
        ),
        (
            lambda folder: change(folder, annotations="../gt.json"),
            "{folder}/dataset.json: 'annotations' is '../gt.json'; expected the name of a file beside it",
        ),
        (
            lambda folder: change(folder, rescaled=1),
            "{folder}/dataset.json: 'rescaled' is 1; expected true or false",
        ),
        (
            lambda folder: change(folder, classes=["Ballet"]),
            "{folder}/activity_net.v1-3.min.json: video 'aaaaaaaaaaa' has label 'Ping-pong'; expected one of "
            "the 1 classes in dataset.json",
        ),
        (
            lambda folder: change(folder, subsets={"test": "val"}),
            "{folder}/activity_net.v1-3.min.json: has no video of subset 'val', only of 'testing', "
            "'training', 'validation'; expected some, or split_test.txt beside it",
        ),
        (
            lambda folder: change(folder, streams=["tsn"]),
            "{folder}/features: holds no features; expected tsn/<video>.npy, <video>.npy, .csv or HDF5 files",
        ),
        (
            without_durations,
            "{folder}/activity_net.v1-3.min.json: video 'aaaaaaaaaaa' has no duration; expected one, since "
            "features are rescaled",
        ),
        (
            odd_width,
            "{folder}/features/aaaaaaaaaaa.npy: has 5 channels; expected a multiple of 2, for the streams "
            "rgb, flow side by side",
        ),
        (
            lambda folder: [p.rename(p.with_name("x" + p.name)) for p in folder.rglob("*.npy")],
            "{folder}: has features of none of the 2 annotated videos of subset 'training'; expected names "
            "as in {folder}/activity_net.v1-3.min.json, such as aaaaaaaaaaa",
        ),
        (
            lambda folder: (folder / "split_train.txt").write_text("ddddddddddd\n"),
            "{folder}/activity_net.v1-3.min.json: video 'ddddddddddd' is of subset 'validation'; expected "
            "'training' because {folder}/split_train.txt lists it",
        ),
    ],
)
def test_what_is_wrong_is_named(folder, spoil, message):
    write_per_stream(folder)
    spoil(folder)
    with pytest.raises(InputError) as raised:
        load_activitynet(folder)
    assert str(raised.value) == message.format(folder=folder)


def test_a_video_of_both_splits_is_refused(folder):
    write_per_stream(folder)
    flat = {v: {"annotations": e["annotations"], "duration": e["duration"]} for v, e in DATABASE.items()}
    (folder / "activity_net.v1-3.min.json").write_text(json.dumps(flat))
    (folder / "split_train.txt").write_text("aaaaaaaaaaa\nddddddddddd\n")
    (folder / "split_test.txt").write_text("v_ddddddddddd\n")
    with pytest.raises(InputError) as raised:
        load_activitynet(folder)
    assert str(raised.value) == f"{folder}: video 'ddddddddddd' is in both splits; expected it in one"
    (folder / "split_train.txt").write_text("aaaaaaaaaaa\nv_aaaaaaaaaaa\n")
    with pytest.raises(InputError) as raised:
        load_activitynet(folder)
    names = folder / "split_train.txt"
    assert str(raised.value) == (
        f"{names}: names 'aaaaaaaaaaa' with and without the prefix v_; expected it once"
    )


def test_a_wider_file_of_streams_side_by_side_is_refused(folder):
    write_side_by_side(folder)
    path = folder / "features" / "v_bbbbbbbbbbb.npy"
    np.save(path, features(20, width=8))
    with pytest.raises(InputError) as raised:
        load_activitynet(folder)
    assert str(raised.value) == f"{path}: has 8 channels; expected 6 as in other videos"
    assert diagnose(folder).refused


def test_annotations_may_be_named_as_thumos14s(folder):
    write_per_stream(folder)
    (folder / "activity_net.v1-3.min.json").rename(folder / "gt.json")
    assert not is_thumos_layout(folder)
    assert len(load_activitynet(folder).train.videos) == 2


def test_features_that_are_there_twice_are_told(tmp_path):
    for part in ("a", "b"):
        for stream in STREAMS:
            (tmp_path / part / stream).mkdir(parents=True)
            np.save(tmp_path / part / stream / ("v_x.npy" if part == "b" else "x.npy"), features(2))
    sources, repeated = find_sources(tmp_path, STREAMS)
    assert sources == {"x": {stream: Source(tmp_path / "a" / stream / "x.npy") for stream in STREAMS}}
    assert repeated == ("v_x",)
    (tmp_path / "a" / "flow" / "x.csv").write_text("1,2,3\n")
    again, repeated = find_sources(tmp_path, STREAMS)
    assert again == sources
    assert repeated == ("x", "v_x")


def test_the_doctor_tells_what_is_odd_and_what_is_done(folder):
    write_per_stream(folder)
    broken = features(20)
    broken[7, 1] = np.nan
    np.save(folder / "features" / "rgb" / "v_bbbbbbbbbbb.npy", broken)
    np.save(folder / "features" / "flow" / "v_ddddddddddd.npy", features(30))
    for stream in STREAMS:
        np.save(folder / "features" / stream / "v_unknown.npy", features(4))
    result = diagnose(folder)
    counts = {f.what: (f.counts["train"], f.counts["test"], f.example) for f in result.findings if f.total}
    assert counts == {
        "videos without annotations": (1, 0, "ccccccccccc"),
        "videos without features": (0, 1, "eeeeeeeeeee"),
        "features of no annotated video": (1, 0, "v_unknown"),
        "streams of different lengths": (0, 1, "ddddddddddd: 10 and 30 snippets"),
        "segments beyond the video": (1, 0, "bbbbbbbbbbb [1.0, 20.0] of 12.8 s"),
        "segments of no length": (0, 1, "ddddddddddd [2.0, 2.0]"),
        "classes without a training video": (1, 0, "Ballet"),
        "classes without a test video": (0, 1, "Doing (crazy) stunts, indoors"),
        "values that are not finite": (1, 0, str(folder / "features/rgb/v_bbbbbbbbbbb.npy")),
    }
    assert result.refused
    assert result.facts[1] == "training (subset training): 2 of 3 videos are used, with 2 instances"
    assert not diagnose(folder, values=False).findings[-1].what.startswith("values")


def test_the_doctor_refuses_a_split_without_videos_and_what_overflows(folder):
    write_per_stream(folder)
    huge = np.full((10, 3), 1e300)
    np.save(folder / "features" / "rgb" / "v_aaaaaaaaaaa.npy", huge)
    (folder / "features" / "rgb" / "v_ddddddddddd.npy").unlink()
    found = {f.what: (f.counts, f.fatal) for f in diagnose(folder).findings if f.total}
    assert found["splits without a video to use"] == ({"train": 0, "test": 1}, True)
    assert found["values that are not finite"] == ({"train": 1, "test": 0}, True)


def test_the_doctor_compares_lengths_with_durations_and_features_with_each_other(folder):
    write_per_stream(folder)
    for stream in STREAMS:
        same = array("aaaaaaaaaaa", stream)
        np.save(folder / "features" / stream / "v_bbbbbbbbbbb.npy", same)
    result = diagnose(folder)
    found = {f.what: f for f in result.findings if f.total}
    odd = found["lengths that do not fit the duration"]
    assert odd.example == "bbbbbbbbbbb: 10 snippets are 6.4 s, the video 12.8 s"
    assert odd.then == "used as they are: check the frame rate and stride"
    assert found["the same features under two names"].example == "bbbbbbbbbbb and aaaaaaaaaaa"
    assert not result.refused


def test_the_doctor_on_the_real_annotations_with_generated_features(shared_data, tmp_path):
    name = "activity_net.v1-2.json"
    (tmp_path / name).symlink_to(shared_data / "activitynet" / name)
    database = json.loads((tmp_path / name).read_text())["database"]
    chosen = [v for v, e in database.items() if e["subset"] != "testing"][::10]
    with h5py.File(tmp_path / "features.h5", "w") as file:
        for i, video in enumerate(chosen):
            length = max(1, round(database[video]["duration"] / 0.64))
            file[f"v_{video}"] = np.full((length, 4), i, np.float32)
    result = diagnose(tmp_path)
    found = {f.what: sum(f.counts.values()) for f in result.findings}
    assert result.facts[0].endswith("; 100 classes")
    assert found["videos without features"] == 4441 + 2198 - len(chosen)
    segments = [
        (*a["segment"], database[video]["duration"])
        for video in chosen
        for a in database[video]["annotations"]
    ]
    assert found["segments of no length"] == sum(start == end for start, end, _ in segments)
    beyond = sum(end > duration and end > start for start, end, duration in segments)
    assert found["segments beyond the video"] == beyond > 5
    assert found["lengths that do not fit the duration"] == 0
    assert not result.refused
