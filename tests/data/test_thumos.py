import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from case_jax.data.feature_files import find_features
from case_jax.data.formats import Source
from case_jax.data.info import THUMOS14, read_info
from case_jax.data.load import load_dataset
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from case_jax.errors import InputError

ROOT = Path(__file__).parents[2]
V0, V1, TEST = "synthetic_train_0000", "synthetic_train_0001", "synthetic_test_0000"


@pytest.fixture(scope="module")
def small():
    return make_synthetic_dataset(0, SyntheticSpec(num_train=2, num_test=1, num_classes=2, width=8))


@pytest.fixture
def folder(small, tmp_path):
    """The small data set on disk; its messages name the file in this folder first."""
    write_dataset(small, tmp_path / "data")
    return tmp_path / "data"


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def assert_message(error, folder, message):
    assert str(error.value) == message.replace("{}", str(folder))


def assert_same_videos(found, expected, *, annotated=True):
    assert [video.name for video in found] == [video.name for video in expected]
    for video, wanted in zip(found, expected):
        assert list(video.features) == list(wanted.features)
        for stream, array in wanted.features.items():
            np.testing.assert_array_equal(video.features[stream], array)
            assert video.features[stream].dtype == np.float32
        assert video.annotations == (wanted.annotations if annotated else ())


def test_a_written_data_set_comes_back_exactly(small, folder):
    found = load_dataset(folder)
    assert found.info == small.info
    for split, wanted in ((found.train, small.train), (found.test, small.test)):
        assert split.subset == wanted.subset
        assert_same_videos(split.videos, wanted.videos)
        np.testing.assert_array_equal(
            split.video_labels(found.info.classes), wanted.video_labels(small.info.classes)
        )
        assert split.ground_truth() == wanted.ground_truth()
    assert found.stream_widths == {"rgb": 8, "flow": 8}
    expected = "dataset.json features gt.json split_test.txt split_train.txt".split()
    assert sorted(path.name for path in folder.iterdir()) == expected

    write_dataset(small, folder)  # over itself
    assert_same_videos(load_dataset(folder).train.videos, small.train.videos)


def test_video_labels_and_instances(small):
    for split in (small.train, small.test):
        labels = split.video_labels(small.info.classes)
        assert labels.dtype == np.float32
        for row, video in zip(labels, split.videos, strict=True):
            present = {a.label for a in video.annotations}
            assert row.tolist() == [float(name in present) for name in small.info.classes]
        assert split.num_instances == sum(map(len, split.ground_truth().values()))


def test_real_inertial_set(shared_data):
    data = load_dataset(shared_data / "inertial")
    assert (len(data.train.videos), len(data.test.videos)) == (319, 135)
    assert data.stream_widths == {"acc": 103, "gyro": 103}
    assert data.info.seconds_per_snippet == 0.32
    assert len(data.info.classes) == 9
    assert {video.num_snippets for video in data.train.videos + data.test.videos} == {140}
    assert {video.features["gyro"].shape for video in data.test.videos} == {(140, 103)}


def test_thumos14_needs_no_dataset_json(folder):
    (folder / "dataset.json").unlink()
    assert read_info(folder) == THUMOS14
    assert list(THUMOS14.classes) == sorted(set(THUMOS14.classes))
    assert len(THUMOS14.classes) == 20
    assert THUMOS14.seconds_per_snippet == 0.64
    (folder / "dataset.json").write_text('{"subsets": {"test": "validation"}, "frames_per_second": 30}')
    info = read_info(folder)
    assert (info.train_subset, info.test_subset) == ("train", "validation")
    assert info.seconds_per_snippet == 16 / 30
    assert (info.classes, info.streams) == (THUMOS14.classes, THUMOS14.streams)


def features(name, split="train", stream="rgb"):
    return f"features/{split}/{stream}/{name}.npy"


def save(file, array):
    return lambda folder: np.save(folder / file, array)


def remove(file):
    def run(folder):
        shutil.rmtree(folder / file) if (folder / file).is_dir() else (folder / file).unlink()

    return run


def annotate(name, **fields):
    """Changes one video of gt.json."""
    return lambda folder: edit_json(
        folder / "gt.json", lambda content: content["database"][name].update(fields)
    )


def drop_entry(name):
    return lambda folder: edit_json(folder / "gt.json", lambda content: content["database"].pop(name))


def in_database_not_split(folder):
    (folder / "split_test.txt").write_text(f"{TEST}\n{V0}\n")


def shorten(file, snippets):
    """Leaves a video's first snippets; its width stays."""
    return lambda folder: np.save(folder / file, np.load(folder / file)[:snippets])


NPY = "expected a .npy file with a (snippets, channels) array of numbers"


@pytest.mark.parametrize(
    "damage, message",
    [
        (remove("gt.json"), "{}/gt.json: no such file; expected a JSON file"),
        (remove("split_train.txt"), "{}/split_train.txt: no such file; expected one video name a line"),
        (remove("split_test.txt"), "{}/split_test.txt: no such file; expected one video name a line"),
        (remove(features(V1)), f"{{}}/{features(V1)}: no such file; {NPY}"),
        (remove("features/test/flow"), f"{{}}/{features(TEST, 'test', 'flow')}: no such file; {NPY}"),
        (
            save(features(V1, stream="flow"), np.full((102, 8), np.nan)),
            f"{{}}/{features(V1, stream='flow')}: snippet 0, channel 0 is nan; expected finite numbers",
        ),
        (
            save(features(V1), np.ones((60, 9))),
            f"{{}}/{features(V1)}: has 9 channels; expected 8 as in {{}}/{features(V0)}",
        ),
        (
            save(features(TEST, "test", "flow"), np.ones((60, 5))),
            f"{{}}/{features(TEST, 'test', 'flow')}: has 5 channels; expected 8 as in "
            f"{{}}/{features(V0, stream='flow')}",
        ),
        (
            lambda folder: [
                save(features(V0), np.ones((9, 8)))(folder),
                shorten(features(V0, stream="flow"), 10)(folder),
            ],
            f"{{}}/{features(V0, stream='flow')}: has 10 snippets; expected 9 as in {{}}/{features(V0)}",
        ),
        (
            drop_entry(V1),
            f"{{}}/gt.json: has no video '{V1}'; expected all of {{}}/split_train.txt",
        ),
        (
            in_database_not_split,
            f"{{}}/gt.json: video '{V0}' is of subset 'train'; expected 'test' because "
            "{}/split_test.txt lists it",
        ),
        (
            annotate(V0, subset="val"),
            f"{{}}/gt.json: video '{V0}' is of subset 'val'; expected 'train' because "
            "{}/split_train.txt lists it",
        ),
        (
            annotate(TEST, annotations=[]),
            f"{{}}/gt.json: video '{TEST}' has no annotation; expected one or more, or the video left "
            "out of {}/split_test.txt",
        ),
        (
            annotate(V0, annotations=[{"label": "Swim", "segment": [0, 1]}]),
            f"{{}}/gt.json: video '{V0}' has label 'Swim'; expected one of the 2 classes "
            "(Action01 .. Action02); dataset.json can name others",
        ),
        (
            annotate(V0, annotations=[{"label": "Action01", "segment": [2, 1]}]),
            f"{{}}/gt.json: video '{V0}', annotation 0: segment [2.0, 1.0] ends before it starts; "
            "expected start <= end",
        ),
    ],
)  # fmt: skip
def test_a_damaged_data_set_is_named(folder, damage, message):
    damage(folder)
    with pytest.raises(InputError) as error:
        load_dataset(folder)
    assert_message(error, folder, message)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError) as error:
        load_dataset(tmp_path / "data")
    message = "{}/data: no such folder; expected features/, split_*.txt and gt.json in it"
    assert_message(error, tmp_path, message)


def test_videos_of_one_snippet_and_other_videos_of_gt_json_do_no_harm(small, folder):
    for stream in ("rgb", "flow"):
        np.save(folder / features(V0, stream=stream), np.full((1, 8), 2.0))
    edit_json(
        folder / "gt.json",
        lambda content: content["database"].update(extra={"subset": "train", "annotations": []}),
    )
    data = load_dataset(folder)
    assert [video.num_snippets for video in data.train.videos] == [
        1,
        small.train.videos[1].num_snippets,
    ]


KNOWN = "streams, frames_per_second, frames_per_snippet, classes, subsets"


@pytest.mark.parametrize(
    "content, message",
    [
        ([], "is no JSON object; expected one with fields such as 'classes'"),
        ({"fps": 25}, f"has unknown field 'fps'; expected only {KNOWN}"),
        ({"classes": []}, "'classes' is []; expected a list of different names"),
        ({"classes": "ab"}, "'classes' is 'ab'; expected a list of different names"),
        ({"classes": ["a", "a"]}, "'classes' is ['a', 'a']; expected a list of different names"),
        ({"classes": ["a", 1]}, "'classes' is ['a', 1]; expected a list of different names"),
        ({"classes": [["a"]]}, "'classes' is [['a']]; expected a list of different names"),
        ({"streams": [""]}, "'streams' is ['']; expected a list of different names"),
        ({"streams": None}, "'streams' is None; expected a list of different names"),
        ({"streams": ["rgb", "../x"]}, "stream '../x' is a path; expected a folder name"),
        ({"streams": [".."]}, "stream '..' is a path; expected a folder name"),
        ({"streams": ["a\\b"]}, "stream 'a\\\\b' is a path; expected a folder name"),
        ({"frames_per_second": 0}, "'frames_per_second' is 0; expected a number above 0"),
        ({"frames_per_second": "25"}, "'frames_per_second' is '25'; expected a number above 0"),
        ({"frames_per_second": True}, "'frames_per_second' is True; expected a number above 0"),
        ({"frames_per_snippet": -16.0}, "'frames_per_snippet' is -16.0; expected a number above 0"),
        (
            {"frames_per_snippet": float("inf")},
            "'frames_per_snippet' is inf; expected a number above 0",
        ),
        (
            {"frames_per_snippet": float("nan")},
            "'frames_per_snippet' is nan; expected a number above 0",
        ),
        ({"subsets": []}, '\'subsets\' is []; expected {"train": ..., "test": ...}'),
        (
            {"subsets": {"val": "a"}},
            "'subsets' is {'val': 'a'}; expected {\"train\": ..., \"test\": ...}",
        ),
    ],
)
def test_an_unusable_dataset_json_is_named(tmp_path, content, message):
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as error:
        read_info(tmp_path)
    assert_message(error, tmp_path, "{}/dataset.json: " + message)


def test_known_widths_are_checked_and_extended(folder):
    train, known = folder / "features" / "train", {"rgb": (16, Source(Path("model.ckpt")))}
    with pytest.raises(InputError) as error:
        find_features(train, V0, ["rgb"], known)
    message = f"{{}}/{features(V0)}: has 8 channels; expected 16 as in model.ckpt"
    assert_message(error, folder, message)
    find_features(train, V0, ["flow"], known)
    assert known["flow"] == (8, Source(folder / features(V0, stream="flow")))


def test_a_place_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(InputError) as error:
        write_dataset(small, tmp_path / "data")
    message = "{}/data/features/train/rgb/synthetic_train_0000.npy: cannot be written (Not a directory)"
    assert_message(error, tmp_path, message)


def test_needs_no_jax():
    modules = "thumos annotations files dataset synthetic".split()
    code = "".join(f"import case_jax.data.{name}\n" for name in modules)
    code += "import sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
