"""The W-TALC line's files: what becomes of them, what is left out, and what is refused."""

import json

import numpy as np
import pytest

from case_jax.data.dataset import Annotation
from case_jax.data.load import load_dataset
from case_jax.data.wtalc import Difference, convert_wtalc, find_wtalc, read_wtalc
from tests.helpers.files import Trap
from tests.helpers.refusals import assert_parts, bad, refusal
from tests.helpers.runs import contents
from tests.helpers.wtalc import COLUMNS, FEATURES, objects, write_wtalc

TRAIN = ["video_validation_0000051", "video_validation_0000160"]
TEST = ["video_test_0000004", "video_test_0000270"]


def read(folder, **options):
    return read_wtalc(find_wtalc(folder).annotations, **options)


def convert(folder, output, *, done=lambda: None, rgb_channels=None, **options):
    annotations = read(folder, **options)
    return convert_wtalc(
        find_wtalc(folder).features, annotations, output, rgb_channels=rgb_channels, done=done
    )


def segments_of(row):
    labels, segments = COLUMNS["labels"][row], COLUMNS["segments"][row]
    return tuple(Annotation(label, *map(float, segment)) for label, segment in zip(labels, segments))


@pytest.mark.parametrize("protocol", ["python 2", 2, 4])
@pytest.mark.parametrize("subsets", [(b"validation", b"test"), ("training", "validation")])
def test_what_was_shared_is_what_training_reads(protocol, subsets, tmp_path):
    train, test = subsets
    kind = type(train)
    names = [name if kind is bytes else name.decode() for name in COLUMNS["videoname"].tolist()]
    folder = write_wtalc(
        tmp_path / "shared",
        name="ActivityNet1.2",
        protocol=protocol,
        videoname=objects(*names),
        subset=np.array([train, train, test, test]),
    )
    counted = []
    written = convert(folder, tmp_path / "D", done=lambda: counted.append(1))
    assert len(counted) == 4
    dataset = load_dataset(tmp_path / "D")
    assert dataset.info.classes == ("CliffDiving", "Diving", "HammerThrow")
    assert dataset.info.streams == ("rgb", "flow")
    assert (dataset.info.train_subset, dataset.info.test_subset) == ("train", "test")
    assert dataset.info.seconds_per_snippet == 0.64
    for split, expected, rows in ((dataset.train, TRAIN, (0, 1)), (dataset.test, TEST, (2, 3))):
        assert [video.name for video in split.videos] == expected
        for video, row in zip(split.videos, rows):
            assert video.annotations == segments_of(row)
            np.testing.assert_array_equal(video.features["rgb"], FEATURES[row][:, :4])
            np.testing.assert_array_equal(video.features["flow"], FEATURES[row][:, 4:])
    database = json.loads((tmp_path / "D" / "gt.json").read_text())["database"]
    assert [database[name]["duration"] for name in (*TRAIN, *TEST)] == [3.3, 25.7, 6.0, 4.6]
    assert (written.num_compared, written.num_others, written.num_bad_segments) == (4, 0, 0)
    assert written.differences == (Difference(TRAIN[1], (), ("HammerThrow",)),)
    assert not any(written.left_out.values())


def test_labels_of_whole_videos(tmp_path):
    """The labels of segments win; or those of labels_all do, throughout where no segment has them."""
    folder = write_wtalc(
        tmp_path / "shared",
        labels_all=objects(["Diving", "HammerThrow"], ["Diving"], ["Diving"], []),
        labels=objects(["Diving", "CliffDiving"], [], ["HammerThrow"] * 2, ["HammerThrow"]),
        segments=objects([[0.1, 1.2], [1.3, 2]], [], [[1, 2], [3, 4]], [[0.5, 4.0]]),
    )
    (first, second), test = read(folder).videos.values()
    assert [annotation.label for annotation in first.annotations] == ["Diving", "CliffDiving"]
    assert (first.throughout, second.throughout) == ((), ("Diving",))

    (other, again), other_test = read(folder, labels="labels_all").videos.values()
    assert other.annotations == (Annotation("Diving", 0.1, 1.2),)
    assert other.throughout == ("HammerThrow",)
    assert again == second
    assert other_test == test

    convert(folder, tmp_path / "D", labels="labels_all")
    first, second = load_dataset(tmp_path / "D").train.videos
    assert first.annotations == (Annotation("Diving", 0.1, 1.2), Annotation("HammerThrow", 0.0, 3.3))
    assert second.annotations == (Annotation("Diving", 0.0, 25.7),)


def test_without_labels_or_durations_of_their_own(tmp_path):
    """Without labels.npy segments have the label of a video that has one; durations are of features."""
    folder = write_wtalc(
        tmp_path / "shared",
        labels=None,
        duration=None,
        labels_all=objects(["Diving", "CliffDiving"], ["HammerThrow"], ["HammerThrow"], ["Diving"]),
    )
    written = convert(folder, tmp_path / "D")
    assert written.num_compared == 0
    first, second = load_dataset(tmp_path / "D").train.videos
    assert first.annotations == (Annotation("Diving", 0, 5 * 0.64), Annotation("CliffDiving", 0, 5 * 0.64))
    assert second.annotations == (Annotation("HammerThrow", 3.0, 20.5),)

    others = write_wtalc(tmp_path / "others", labels_all=None)
    assert [video.throughout for video in read(others).videos["train"]] == [(), ()]
    assert read(others, labels="labels_all").videos == read(others).videos


def test_videos_that_cannot_be_used_are_left_out_and_counted(tmp_path):
    names = [*COLUMNS["videoname"].tolist(), *(b"v%d" % number for number in range(8)), b"v0", b"v9"]
    subset = [*COLUMNS["subset"].tolist(), *[b"validation"] * 6, *[b"test"] * 2, b"test", b"background"]
    labels = [*COLUMNS["labels"], *[["Diving"]] * 5, [], [], [], ["Diving"], ["Diving"]]
    segments = [*COLUMNS["segments"], *[[[0, 1]]] * 4, [[2, 1]], [], [], [], [[0, 1]], [[0, 1]]]
    labels_all = [*COLUMNS["labels_all"], *[["Diving"]] * 4, [], [], [], ["Diving"], ["Diving"], ["Diving"]]
    ones = np.ones((3, 8), np.float32)
    changed = [np.where(ones > 0, np.nan, 0), np.zeros((3, 8)), ones[:0], None]
    folder = write_wtalc(
        tmp_path / "shared",
        videoname=np.array(names),
        subset=np.array(subset),
        labels=objects(*labels),
        labels_all=objects(*labels_all),
        segments=objects(*segments),
        duration=None,
        features=objects(*FEATURES, *changed, *[ones] * 6),
    )
    written = convert(folder, tmp_path / "D")
    assert [video.name for video in written.videos["train"]] == TRAIN
    assert dict(written.left_out["train"]) == {
        "with features that are not finite": 1,
        "with features that are all zero": 1,
        "without snippets": 1,
        "without features": 1,
        "without any label": 2,
    }
    assert dict(written.left_out["test"]) == {
        "without any label": 1,
        "with labels but without segments": 1,
        "listed before": 1,
    }
    assert (written.num_others, written.num_bad_segments) == (1, 1)

    free = read(folder, action_free=True, exclude=["video_test_0000270"])
    assert [video.name for video in free.videos["train"]][-1] == "v5"  # v4 has a segment, if a bad one
    assert [video.name for video in free.videos["test"]] == [TEST[0], "v6"]
    assert free.left_out["test"]["excluded"] == 1
    convert(folder, tmp_path / "F", action_free=True)
    database = json.loads((tmp_path / "F" / "gt.json").read_text())["database"]
    assert database["v6"]["annotations"] == []


def test_ambiguous_segments_are_kept_and_are_no_labels(tmp_path):
    folder = write_wtalc(
        tmp_path / "shared",
        labels=objects(["Diving", "Ambiguous"], ["HammerThrow"], ["HammerThrow"] * 2, ["HammerThrow"]),
        labels_all=objects(["Diving"], ["HammerThrow"], ["HammerThrow"], ["HammerThrow"]),
    )
    written = convert(folder, tmp_path / "D")
    assert written.differences == ()
    assert written.videos["train"][0].annotations[1].label == "Ambiguous"
    assert [a.label for a in load_dataset(tmp_path / "D").train.videos[0].annotations] == ["Diving"]


@pytest.mark.parametrize(
    "features",
    [
        bad("one array", np.stack([FEATURES[0]] * 4)),
        bad("lists of rows", objects(*(list(FEATURES[0]) for _ in range(4)))),
        bad("lists of numbers", objects(*(FEATURES[0].tolist() for _ in range(4)))),
        bad("float64", objects(*(FEATURES[0].astype(np.float64) for _ in range(4)))),
        bad("columns first", objects(*(np.asfortranarray(FEATURES[0]) for _ in range(4)))),
    ],
)
def test_other_forms_of_features(features, tmp_path):
    folder = write_wtalc(tmp_path / "shared", features=features)
    convert(folder, tmp_path / "D", rgb_channels=5)
    for video in load_dataset(tmp_path / "D").test.videos:
        np.testing.assert_array_equal(video.features["rgb"], FEATURES[0][:, :5])
        np.testing.assert_array_equal(video.features["flow"], FEATURES[0][:, 5:])


def test_half_precision_becomes_float32(tmp_path):
    half = objects(*(array.astype(np.float16) for array in FEATURES))
    convert(write_wtalc(tmp_path / "shared", features=half), tmp_path / "D")
    rgb = np.load(tmp_path / "D" / "features" / "test" / "rgb" / f"{TEST[0]}.npy")
    assert rgb.dtype == np.float32
    np.testing.assert_array_equal(rgb, half[2][:, :4].astype(np.float32))


def test_going_on_after_an_interruption_gives_the_same_files(tmp_path):
    folder = write_wtalc(tmp_path / "shared")
    convert(folder, tmp_path / "whole")

    def interrupt():
        counted.append(1)
        if len(counted) == 3:
            raise KeyboardInterrupt

    counted: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / "D", done=interrupt)
    assert not (tmp_path / "D" / "gt.json").exists()
    streams = tmp_path / "D" / "features" / "train" / "rgb"
    first, second = (streams / f"{name}.npy" for name in TRAIN)
    kept = first.stat().st_ino
    np.save(second, np.zeros((2, 4), np.float32))  # of other content: written anew
    convert(folder, tmp_path / "D")
    assert first.stat().st_ino == kept
    assert contents(tmp_path / "D") == contents(tmp_path / "whole")


SHARED = "Thumos14reduced-Annotations"


@pytest.mark.parametrize(
    "changes, named, wrong, expected",
    [
        bad("no names", {"videoname": None}, f"{SHARED}/videoname.npy", "no such file", ""),
        bad("no segments", {"segments": None}, f"{SHARED}/segments.npy", "no such file", "labels.npy"),
        bad(
            "no labels",
            {"labels": None, "labels_all": None},
            f"{SHARED}/labels_all.npy",
            "no such file",
            "labels.npy",
        ),
        bad("fewer rows", {"subset": np.array([b"test"])}, f"{SHARED}/subset.npy", "1 rows", "4"),
        bad(
            "a path for a name",
            {"videoname": np.array(["a", "b", "../c", "d"])},
            f"{SHARED}/videoname.npy",
            "'../c'",
            "not paths",
        ),
        bad(
            "names that are numbers",
            {"videoname": np.arange(4)},
            f"{SHARED}/videoname.npy",
            "0",
            "text",
        ),
        bad("no text", {"videoname": np.array([b"\xff"])}, f"{SHARED}/videoname.npy", r"b'\xff'", "text"),
        bad("a class twice", {"classlist": np.array(["a", "a"])}, f"{SHARED}/classlist.npy", "'a'", "class"),
        bad(
            "an unknown label",
            {"labels_all": objects(["Run"], [], [], [])},
            f"{SHARED}/labels_all.npy",
            "row 0 … 'Run'",
            "classlist.npy",
        ),
        bad(
            "numbers for labels",
            {"labels_all": objects(1, 2, 3, 4)},
            f"{SHARED}/labels_all.npy",
            "1",
            "labels",
        ),
        bad(
            "more segments than labels",
            {"labels": objects(["Diving"], [], [], [])},
            f"{SHARED}/segments.npy",
            "row 0 … 2 segments",
            "1 as in labels.npy",
        ),
        bad(
            "unknown subsets",
            {"subset": np.array(["a", "a", "b", "b"])},
            f"{SHARED}/subset.npy",
            "train is not told",
            "--train_subset, one of a, b",
        ),
        bad(
            "nothing to test",
            {
                "segments": objects([[0, 1]] * 2, [[0, 1]], [], []),
                "labels": objects(["Diving"] * 2, ["Diving"], [], []),
            },
            SHARED,
            "to test … 2 with labels but without segments",
            "some",
        ),
        bad(
            "a trap", {"segments": objects(Trap(), [], [], [])}, f"{SHARED}/segments.npy", "pathlib", "arrays"
        ),
        bad("features of fewer", {"features": FEATURES[:3]}, "FEATURES", "3 videos", "4 as in"),
        bad(
            "features of another width",
            {"features": objects(*FEATURES[:3], FEATURES[3][:, :6])},
            "FEATURES",
            "'video_test_0000270' has 6 channels",
            "8",
        ),
        bad(
            "odd widths",
            {"features": objects(*(f[:, :7] for f in FEATURES))},
            "FEATURES",
            "7",
            "--rgb_channels",
        ),
        bad(
            "one axis",
            {"features": objects(*(f[:, 0] for f in FEATURES))},
            "FEATURES",
            "(5,)",
            "(snippets, channels)",
        ),
        bad("texts", {"features": objects(*["text"] * 4)}, "FEATURES", "<U4", "numbers"),
        bad(
            "ragged rows",
            {"features": objects(*[[[1.0], [1.0, 2.0]]] * 4)},
            "FEATURES",
            "cannot be read",
            "numbers",
        ),
        bad(
            "all zero",
            {"features": objects(*(0 * f for f in FEATURES))},
            "FEATURES",
            "no video to train",
            SHARED,
        ),
        bad(
            "a trap in features",
            {"features": objects(*FEATURES[:3], Trap())},
            "FEATURES",
            "pathlib",
            "arrays",
        ),
    ],
)
def test_what_cannot_be_converted(changes, named, wrong, expected, tmp_path, trap):
    folder = write_wtalc(tmp_path / "shared", **changes)
    message = refusal(lambda: convert(folder, tmp_path / "D"))
    path = folder / named.replace("FEATURES", "Thumos14reduced-I3D-JOINTFeatures.npy")
    assert message.startswith(f"{path}:")
    assert_parts(message, path, wrong, expected)


def test_options_that_fit_no_file(tmp_path):
    folder = write_wtalc(tmp_path / "shared")
    subset = folder / SHARED / "subset.npy"
    assert_parts(
        refusal(lambda: read(folder, train_subset="x")), subset, "'x' is not there", "test, validation"
    )
    same = refusal(lambda: read(folder, test_subset="validation"))
    assert_parts(same, "--test_subset", "'validation'", "another")
    assert_parts(refusal(lambda: read(folder, exclude=["v"])), folder / SHARED, "'v'", "--exclude")
    wide = refusal(lambda: convert(folder, tmp_path / "D", rgb_channels=8))
    assert_parts(wide, "--rgb_channels", "8", "fewer than the 8")
    swapped = read(folder, train_subset="test", test_subset="validation")
    assert [video.name for video in swapped.videos["train"]] == TEST


def test_folders_without_the_two_parts(tmp_path):
    assert_parts(
        refusal(find_wtalc, tmp_path / "gone"), tmp_path / "gone", "no such folder", "JOINTFeatures.npy"
    )
    folder = write_wtalc(tmp_path / "shared")
    (folder / "._x-I3D-JOINTFeatures.npy").touch()  # macOS leaves such files
    features, annotations = find_wtalc(folder)
    assert (features.name, annotations.name) == ("Thumos14reduced-I3D-JOINTFeatures.npy", SHARED)
    (folder / "Thumos14-I3D-JOINTFeatures.npy").touch()
    both = "2 <name>-JOINTFeatures.npy (Thumos14-I3D-JOINTFeatures.npy, Thumos14reduced"
    assert_parts(refusal(find_wtalc, folder), folder, both, "--features")
    assert find_wtalc(folder, features=features) == (features, annotations)
    annotations.rename(folder / "annotations")
    message = refusal(lambda: find_wtalc(folder, features=features))
    assert_parts(message, folder, "0 <name>-Annotations", "--annotations")
    assert_parts(refusal(read_wtalc, annotations), annotations, "no such folder", "Annotations")
