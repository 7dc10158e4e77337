"""The doctor finds each oddity, and refuses exactly what the loaders refuse."""

import json
import unicodedata

import h5py
import numpy as np
import pytest

from case_jax.data.doctor import diagnose
from case_jax.data.load import load_dataset
from case_jax.errors import InputError
from tests.helpers.files import ONES, edit_json, npy
from tests.helpers.refusals import assert_refused


def found_in(folder, **options):
    """What was found -> its finding, of all kinds that were found at least once."""
    return {f.what: f for f in diagnose(folder, **options).findings if f.total}


def assert_refused_alike(folder):
    """The doctor and the loader judge the data set alike."""
    refused = diagnose(folder).refused
    try:
        load_dataset(folder)
    except InputError:
        assert refused
    else:
        assert not refused
    return refused


def thumos_features(folder, video, array, stream="rgb"):
    split = "test" if video == "c" else "train"
    (folder / "features" / split / stream / f"{video}.npy").write_bytes(npy(array))


# A data set without oddities


def test_facts_of_thumos14s_layout(thumos):
    result = diagnose(thumos)
    assert result.facts == (
        f"annotations: {thumos / 'gt.json'}; 20 classes",
        "training (subset train): 2 of 2 videos are used, with 2 instances",
        "test (subset test): 1 of 1 videos are used, with 1 instance",
        "features: rgb (3), flow (3); one snippet every 0.64 s",
    )
    assert not assert_refused_alike(thumos)
    # 19 of THUMOS14's classes are missing in each split, and all features are the same.
    assert {what: f.counts for what, f in found_in(thumos).items()} == {
        "the same features under two names": {"train": 1, "test": 1},
        "splits whose videos all have the same labels": {"train": 1, "test": 0},
        "classes without a training video": {"train": 19, "test": 0},
        "classes without a test video": {"train": 0, "test": 19},
    }


def test_facts_of_activitynets_layout(activitynet):
    activitynet.configure(rescaled=True)
    assert diagnose(activitynet.path).facts == (
        f"annotations: {activitynet.annotations}; 3 classes",
        "training (subset training): 2 of 3 videos are used, with 2 instances",
        "test (subset validation): 1 of 2 videos are used, with 2 instances",
        "features: rgb (3), flow (3); rescaled to the videos' durations",
    )


def test_progress_wraps_the_videos_that_are_used(activitynet):
    seen = []

    def progress(videos):
        for video in videos:
            seen.append(video.name)
            yield video

    diagnose(activitynet.path, progress=progress)
    assert seen == ["a" * 11, "b" * 11, "d" * 11]


def test_all_kinds_are_reported_in_the_same_order(activitynet):
    whole = [f.what for f in diagnose(activitynet.path).findings]
    assert [f.what for f in diagnose(activitynet.path, values=False).findings] == whole[:-1]
    assert whole[-1] == "values that are not finite"
    activitynet.configure(rescaled=True)
    assert [f.what for f in diagnose(activitynet.path).findings] == [*whole, "no duration, though rescaled"]


# Videos and files


def test_a_listed_video_must_be_annotated(thumos):
    (thumos / "split_train.txt").write_text("a\nb\nx\n")
    finding = found_in(thumos)["videos that are not annotated at all"]
    assert (finding.counts, finding.example, finding.fatal) == ({"train": 1, "test": 0}, "x", True)
    assert assert_refused_alike(thumos)


def test_a_listed_video_must_be_of_the_splits_subset(thumos):
    edit_json(thumos / "gt.json", lambda c: c["database"]["b"].update(subset="val"))
    finding = found_in(thumos)["videos of another subset"]
    assert (finding.counts, finding.example) == ({"train": 1, "test": 0}, "b of 'val'")
    assert assert_refused_alike(thumos)


def test_thumos14s_layout_refuses_videos_without_features_but_not_without_actions(thumos):
    edit_json(thumos / "gt.json", lambda c: c["database"]["b"].update(annotations=[]))
    assert not assert_refused_alike(thumos)
    (thumos / "features" / "test" / "flow" / "c.npy").unlink()
    found = found_in(thumos)
    assert found["videos without annotations"].counts == {"train": 1, "test": 0}
    assert found["videos without features"].counts == {"train": 0, "test": 1}
    assert found["videos without features"].then.startswith("refused")
    assert found["splits without an annotated video to use"].counts == {"train": 0, "test": 1}
    assert assert_refused_alike(thumos)


def test_activitynets_layout_leaves_them_out(activitynet):
    found = found_in(activitynet.path)
    assert found["videos without features"].counts == {"train": 1, "test": 1}  # c and e
    assert found["videos without features"].then.startswith("left out")
    assert not assert_refused_alike(activitynet.path)


def test_ambiguous_intervals_are_told_and_are_no_class(activitynet):
    assert "ambiguous intervals" not in [f.what for f in diagnose(activitynet.path).findings]
    classes = diagnose(activitynet.path).facts[0]
    vague = {"label": "Ambiguous", "segment": [0, 1]}
    activitynet.database["a" * 11]["annotations"] += [vague, vague]
    activitynet.database["c" * 11]["annotations"] = [vague]
    del activitynet.database["e" * 11]["annotations"]
    activitynet.annotate()
    told = f'{classes}; 3 intervals are "Ambiguous", which is never a class'
    assert diagnose(activitynet.path).facts[0] == told
    found = found_in(activitynet.path)
    ambiguous = found["ambiguous intervals"]
    assert (ambiguous.counts, ambiguous.example) == ({"train": 3, "test": 0}, "aaaaaaaaaaa [0.0, 1.0]")
    assert ambiguous.then.startswith("never a class")
    unsure = found["videos that may or may not show an action"]
    assert unsure.counts == {"train": 1, "test": 1}  # of c, all is ambiguous; e has no list of annotations
    assert not assert_refused_alike(activitynet.path)


def test_a_split_needs_a_video_to_use(activitynet):
    (activitynet.path / "features" / "rgb" / "v_ddddddddddd.npy").unlink()
    finding = found_in(activitynet.path)["splits without an annotated video to use"]
    assert (finding.counts, finding.fatal) == ({"train": 0, "test": 1}, True)
    assert assert_refused_alike(activitynet.path)


def test_a_name_longer_than_any_file_has_no_features(thumos):
    name = "a" * 300
    (thumos / "split_train.txt").write_text(f"a\n{name}\n")
    edit_json(thumos / "gt.json", lambda c: c["database"].update({name: c["database"]["a"]}))
    assert found_in(thumos)["videos without features"].counts == {"train": 1, "test": 0}
    assert assert_refused_alike(thumos)


@pytest.mark.parametrize("layout", ["thumos", "activitynet"])
def test_features_of_no_annotated_video_are_ignored(layout, request):
    made = request.getfixturevalue(layout)
    folder, part = (made, "features/train") if layout == "thumos" else (made.path, "features")
    for stream in ("rgb", "flow"):
        (folder / part / stream / "unknown.npy").write_bytes(npy(ONES))
    finding = found_in(folder)["features of no annotated video"]
    assert (finding.counts, finding.example) == ({"train": 1, "test": 0}, "unknown")
    assert not assert_refused_alike(folder)


@pytest.mark.parametrize("layout", ["thumos", "activitynet"])
def test_features_that_are_there_in_two_formats(layout, request):
    made = request.getfixturevalue(layout)
    folder, part = (made, "features/train") if layout == "thumos" else (made.path, "features")
    name = next((folder / part / "rgb").iterdir()).stem
    (folder / part / "rgb" / f"{name}.csv").write_text("1,2,3\n")
    finding = found_in(folder)["features that are there twice"]
    assert (finding.counts, finding.example) == ({"train": 1, "test": 0}, name)
    assert not assert_refused_alike(folder)


# Features


@pytest.mark.parametrize(
    "video, array, what, example",
    [
        ("b", ONES[0], "features that cannot be read", "shape (3,)"),
        ("b", ONES[:, :2], "other widths than the first video", "b.npy: 2, not 3"),
        ("c", ONES[:2], "streams of different lengths", "c: 2 and 4 snippets"),
        ("c", ONES * np.nan, "values that are not finite", "c.npy"),
        ("a", ONES.astype(np.float64) * 1e300, "values that are not finite", "a.npy"),
    ],
)
def test_features_that_training_refuses(video, array, what, example, thumos):
    thumos_features(thumos, video, array)
    finding = found_in(thumos)[what]
    assert finding.counts == {"train": int(video != "c"), "test": int(video == "c")}
    assert example in finding.example
    assert assert_refused_alike(thumos)


def test_values_are_read_only_if_asked_for(thumos):
    thumos_features(thumos, "a", ONES * np.nan)
    assert not diagnose(thumos, values=False).refused


def test_lengths_are_compared_with_durations(activitynet):
    for stream in ("rgb", "flow"):
        array = activitynet.array("a" * 11, stream)
        np.save(activitynet.path / "features" / stream / "v_bbbbbbbbbbb.npy", array)
    found = found_in(activitynet.path)
    odd = found["lengths that do not fit the duration"]
    assert odd.example == "bbbbbbbbbbb: 10 snippets are 6.4 s, the video 12.8 s"
    assert "frame rate" in odd.then
    assert found["the same features under two names"].example == "bbbbbbbbbbb and aaaaaaaaaaa"
    assert not assert_refused_alike(activitynet.path)
    activitynet.configure(rescaled=True)
    assert "lengths that do not fit the duration" not in found_in(activitynet.path)


@pytest.mark.parametrize("snippets, fits", [(89, False), (91, True), (109, True), (111, False)])
def test_lengths_may_differ_by_a_tenth(snippets, fits, thumos):
    for stream in ("rgb", "flow"):
        thumos_features(thumos, "a", np.ones((snippets, 3)), stream)
    edit_json(thumos / "gt.json", lambda c: c["database"]["a"].update(duration=64.0))
    assert ("lengths that do not fit the duration" not in found_in(thumos)) == fits


def test_a_wider_array_of_streams_side_by_side_is_refused(bare_activitynet):
    (bare_activitynet.path / "features").mkdir()
    for video, length in bare_activitynet.lengths.items():
        width = 8 if video.startswith("b") else 6
        np.save(bare_activitynet.path / "features" / f"{video}.npy", np.ones((length, width)))
    assert "6" in found_in(bare_activitynet.path)["features that cannot be read"].example
    assert assert_refused_alike(bare_activitynet.path)


# Annotations


def test_segments_beyond_the_video_and_of_no_length_are_kept(activitynet):
    found = found_in(activitynet.path)
    assert found["segments beyond the video"].example == "bbbbbbbbbbb [1.0, 20.0] of 12.8 s"
    assert found["segments of no length"].example == "ddddddddddd [2.0, 2.0]"
    assert not diagnose(activitynet.path).refused


def test_segments_before_the_video_are_told_without_a_duration(thumos):
    edit_json(thumos / "gt.json", lambda c: c["database"]["a"]["annotations"][0].update(segment=[-1, 1]))
    finding = found_in(thumos)["segments beyond the video"]
    assert (finding.counts, finding.example) == ({"train": 1, "test": 0}, "a [-1.0, 1.0]")


def test_classes_without_videos_and_labels_without_a_class(activitynet):
    found = found_in(activitynet.path)
    assert found["classes without a training video"].example == "Ballet"
    assert found["classes without a test video"].example == "Doing (crazy) stunts, indoors"
    activitynet.configure(classes=["Ping-pong", "Ballet"])
    finding = found_in(activitynet.path)["labels that are no class"]
    assert (finding.counts, finding.fatal) == ({"train": 1, "test": 0}, True)
    assert assert_refused_alike(activitynet.path)


def test_rescaled_features_need_durations(activitynet):
    activitynet.configure(rescaled=True)
    assert not assert_refused_alike(activitynet.path)
    activitynet.database["d" * 11].pop("duration")
    activitynet.annotate()
    finding = found_in(activitynet.path)["no duration, though rescaled"]
    assert (finding.counts, finding.example) == ({"train": 0, "test": 1}, "d" * 11)
    assert assert_refused_alike(activitynet.path)


def test_segments_beyond_the_features_where_no_duration_is_known(thumos):
    """The features end at 2.56 s, up to a part of a snippet of 0.64 s."""
    for end, beyond in ((3.2, False), (3.21, True)):
        segment = {"segment": [1, end]}
        edit_json(thumos / "gt.json", lambda c, s=segment: c["database"]["a"]["annotations"][0].update(s))
        assert ("segments beyond the video" in found_in(thumos)) == beyond
    assert found_in(thumos)["segments beyond the video"].example == (
        "a [1.0, 3.21] of 2.6 s, as long as the features"
    )
    assert not assert_refused_alike(thumos)


def test_segments_in_frames(thumos):
    def in_frames(content):
        for entry in content["database"].values():
            entry["annotations"][0]["segment"] = [12.5, 25]

    edit_json(thumos / "gt.json", in_frames)
    found = found_in(thumos)
    finding = found["segments that seem not to be in seconds"]
    assert (finding.counts, finding.example) == ({"train": 2, "test": 1}, "a [12.5, 25.0] of 2.6 s")
    assert finding.then == "used as seconds: they would fit as frames at 25 per second"
    assert found["segments beyond the video"].total == 3
    assert not assert_refused_alike(thumos)


def test_labels_that_nearly_agree(activitynet):
    activitynet.database["d" * 11]["annotations"][0]["label"] = "ping pong"
    activitynet.annotate()
    finding = found_in(activitynet.path)["labels that nearly agree"]
    assert (finding.counts, finding.example) == ({"train": 0, "test": 1}, "'ping pong' and 'Ping-pong'")
    assert not assert_refused_alike(activitynet.path)
    activitynet.configure(classes=["Doing (crazy) stunts, indoors", "Ping-pong", "Ballet"])
    assert found_in(activitynet.path)["labels that nearly agree"].total == 1
    assert_refused(
        load_dataset,
        activitynet.path,
        "'ping pong' (did you mean 'Ping-pong'?)",
        "3 classes",
        named=activitynet.annotations,
    )


@pytest.mark.parametrize("layout", ["thumos", "activitynet"])
def test_names_that_nearly_agree(layout, request):
    made = request.getfixturevalue(layout)
    folder, part = (made, "features/train") if layout == "thumos" else (made.path, "features")
    name = "b" if layout == "thumos" else "b" * 11
    for stream in ("rgb", "flow"):
        (path,) = (folder / part / stream).glob(f"*{name}.npy")
        path.rename(path.with_name(f"V_{name.upper()}.mp4.npy"))
    finding = found_in(folder)["names that nearly agree"]
    spare = f"V_{name.upper()}.mp4"
    assert (finding.counts, finding.example) == (
        {"train": 1, "test": 0},
        f"{name!r} and the features {spare!r}",
    )


def test_features_of_the_other_split_are_named(thumos):
    for stream in ("rgb", "flow"):
        (thumos / "features" / "train" / stream / "b.npy").rename(
            thumos / "features" / "test" / stream / "b.npy"
        )
    assert found_in(thumos)["names that nearly agree"].example == "'b' and the features 'b' of the test split"


def test_a_listed_video_that_nearly_agrees_with_an_annotated_one(thumos):
    (thumos / "split_train.txt").write_text("a\nV_B.mp4\n")
    assert found_in(thumos)["videos that are not annotated at all"].example == "V_B.mp4 (did you mean 'b'?)"
    assert_refused(
        load_dataset, thumos, "'V_B.mp4' (did you mean 'b'?)", "split_train.txt", named=thumos / "gt.json"
    )


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
@pytest.mark.parametrize("layout", ["thumos", "activitynet"])
def test_names_with_accents_in_either_form(layout, listed, request):
    """macOS decomposes the names of files; what was typed is composed."""
    made = request.getfixturevalue(layout)
    folder, part = (made, "features/train") if layout == "thumos" else (made.path, "features")
    name, accented = ("b", "bé") if layout == "thumos" else ("b" * 11, "é" * 11)
    for stream in ("rgb", "flow"):
        (path,) = (folder / part / stream).glob(f"*{name}.npy")
        prefix = path.stem.removesuffix(name)
        path.rename(path.with_name(unicodedata.normalize("NFD", f"{prefix}{accented}.npy")))
    (path,) = folder.glob("*.json")
    edit_json(path, lambda c: c["database"].update({accented: c["database"].pop(name)}))
    if layout == "thumos":
        (folder / "split_train.txt").write_text(unicodedata.normalize(listed, f"a\n{accented}\n"))
    assert "features of no annotated video" not in found_in(folder)
    assert not assert_refused_alike(folder)
    assert [video.name for video in load_dataset(folder).train.videos][-1] == accented


# Folders, and the real annotations


def test_folders_that_hold_no_data_set(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file", tmp_path / ("a" * 300)):
        assert_refused(diagnose, path, "no such folder", "data set")


def test_the_real_annotations_with_generated_features(shared_data, tmp_path):
    name = "activity_net.v1-2.json"
    (tmp_path / name).symlink_to(shared_data / "activitynet" / name)
    database = json.loads((tmp_path / name).read_text())["database"]
    chosen = [v for v, e in database.items() if e["subset"] != "testing"][::60]
    with h5py.File(tmp_path / "features.h5", "w") as file:
        for i, video in enumerate(chosen):
            length = max(1, round(database[video]["duration"] / 0.64))
            file[f"v_{video}"] = np.full((length, 4), i, np.float32)
    result = diagnose(tmp_path)
    found = {f.what: f.total for f in result.findings}
    assert result.facts[0].endswith("; 100 classes")
    assert found["videos without features"] == 4441 + 2198 - len(chosen)
    segments = [
        (*a["segment"], database[video]["duration"])
        for video in chosen
        for a in database[video]["annotations"]
    ]
    assert found["segments of no length"] == sum(start == end for start, end, _ in segments)
    beyond = sum(end > duration and end > start for start, end, duration in segments)
    assert found["segments beyond the video"] == beyond > 0
    assert found["lengths that do not fit the duration"] == 0
    assert not result.refused
