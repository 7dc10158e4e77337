import json
import shutil

import h5py
import numpy as np
import pytest

from case_jax.data.doctor import diagnose
from case_jax.data.formats import FORMATS
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import ThumosPaths, find_thumos, is_thumos_layout, load_thumos, write_dataset
from tests.data.conftest import STREAMS
from tests.helpers.files import ONES, edit_json, npy, torch_file
from tests.helpers.refusals import assert_parts, assert_refused, bad, refusal


@pytest.fixture(scope="module")
def small():
    return make_synthetic_dataset(0, SyntheticSpec(num_train=2, num_test=1, num_classes=2, width=8))


# Paths and what is found


def test_the_layout_has_these_paths(thumos):
    paths = ThumosPaths(thumos)
    made = {path.relative_to(thumos).as_posix() for path in thumos.rglob("*") if path.is_file()}
    sources = [
        paths.sources(split, name, STREAMS) for split, name in (("train", "a"), ("train", "b"), ("test", "c"))
    ]
    files = [paths.ground_truth, paths.names("train"), paths.names("test")]
    files += [source.path for of_video in sources for source in of_video.values()]
    assert {path.relative_to(thumos).as_posix() for path in files} == made


def test_a_video_may_be_in_any_format(thumos):
    paths = ThumosPaths(thumos)
    for form in FORMATS:
        for ending in form.endings:
            (paths.stream("train", "rgb") / f"z{ending}").touch()
            assert paths.sources("train", "z", ["rgb"])["rgb"].path.suffix == ending
            (paths.stream("train", "rgb") / f"z{ending}").unlink()
    assert paths.sources("train", "z", ["rgb"])["rgb"].path.name == "z.npy"  # the one to miss


@pytest.mark.parametrize("ending", [".npz", ".pt", ".h5", ".npy"])
def test_one_file_of_a_video_may_hold_all_streams(ending, thumos):
    """By name, or, as in .npy, side by side."""
    before = load_thumos(thumos)
    for folder in (thumos / "features" / split for split in ("train", "test")):
        for path in sorted((folder / "rgb").iterdir()):
            rgb, flow = (np.load(folder / stream / path.name) for stream in STREAMS)
            together = folder / f"{path.stem}{ending}"
            write = {
                ".npz": lambda path, rgb=rgb, flow=flow: np.savez(path, rgb=rgb, flow=2 * flow),
                ".pt": lambda path, rgb=rgb, flow=flow: path.write_bytes(
                    torch_file({"rgb": rgb, "flow": 2 * flow})
                ),
                ".h5": lambda path, rgb=rgb, flow=flow: _write_hdf5(path, {"rgb": rgb, "flow": 2 * flow}),
                ".npy": lambda path, rgb=rgb, flow=flow: np.save(path, np.concatenate([rgb, 2 * flow], 1)),
            }
            write[ending](together)
        for stream in STREAMS:
            shutil.rmtree(folder / stream)
    for video, wanted in zip(load_thumos(thumos).train.videos, before.train.videos, strict=True):
        np.testing.assert_array_equal(video.features["rgb"], wanted.features["rgb"])
        np.testing.assert_array_equal(video.features["flow"], 2 * wanted.features["flow"])
    assert list(ThumosPaths(thumos).list_features("train", "rgb")[0]) == ["a", "b"]
    assert not diagnose(thumos).refused


def _write_hdf5(path, named):
    with h5py.File(path, "w") as file:
        file.update(named)


def test_what_is_found_is_not_compared_yet(thumos):
    (thumos / "split_train.txt").write_text("c\nunknown\n")
    found = find_thumos(thumos)
    assert found.names == {"train": ["c", "unknown"], "test": ["c"]}
    assert list(found.database) == ["a", "b", "c"]
    assert (found.subset("train"), found.subset("test")) == ("train", "test")


@pytest.mark.parametrize(
    "present, expected",
    [
        ("gt.json split_train.txt", True),
        ("gt.json features/train/", True),
        ("split_train.txt", True),
        ("features/train/ dataset.json", True),
        ("gt.json ._gt.json ._other.json split_train.txt", True),
        ("gt.json", False),
        ("gt.json features/rgb/", False),
        ("anet.json split_train.txt", False),
        ("anet.json gt.json split_train.txt", True),
        ("", False),
    ],
)
def test_which_folders_are_in_this_layout(present, expected, tmp_path):
    for name in present.split():
        path = tmp_path / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    assert is_thumos_layout(tmp_path) == expected


def test_a_missing_folder_is_told_by_this_layouts_reader(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "gone", tmp_path / "file", tmp_path / ("a" * 300)):
        assert is_thumos_layout(path)
        assert_refused(load_thumos, path, "no such folder", "features/ … split_*.txt … gt.json")


# Loading


def test_videos_of_one_snippet_and_other_videos_of_gt_json_do_no_harm(thumos):
    for stream in STREAMS:
        np.save(thumos / "features" / "train" / stream / "a.npy", ONES[:1])
    more = {"subset": "train", "annotations": []}
    edit_json(thumos / "gt.json", lambda content: content["database"].update(more=more))
    data = load_thumos(thumos)
    assert [(video.name, video.num_snippets) for video in data.train.videos] == [("a", 1), ("b", 4)]


def remove(name):
    def run(folder):
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()

    return run


def annotate(name, **fields):
    return lambda folder: edit_json(
        folder / "gt.json", lambda content: content["database"][name].update(fields)
    )


def save(name, array):
    return lambda folder: (folder / name).write_bytes(npy(array))


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


def in_train(video, stream="rgb"):
    return f"features/train/{stream}/{video}.npy"


SWIM = [{"label": "Swim", "segment": [0, 1]}]
TEST_FLOW = "features/test/flow/c.npy"


@pytest.mark.parametrize(
    "damage, file, wrong, expected",
    [
        bad("no annotations", remove("gt.json"), "gt.json", "no such file", "JSON"),
        bad("no training split", remove("split_train.txt"), "split_train.txt", "no such file", "name a line"),
        bad("no test split", remove("split_test.txt"), "split_test.txt", "no such file", "name a line"),
        bad("no features of a video", remove(in_train("b")), in_train("b"), "no such file", ".npy"),
        bad("no folder of a stream", remove("features/test/flow"), TEST_FLOW, "no such file", ".npy"),
        bad(
            "another stream",
            write("dataset.json", '{"streams": ["depth"]}'),
            in_train("a", "depth"),
            "no such file",
            ".npy",
        ),
        bad(
            "a folder for a file",
            lambda f: [remove(TEST_FLOW)(f), (f / TEST_FLOW).mkdir()],
            TEST_FLOW,
            "directory",
            ".npy",
        ),
        bad(
            "NaN", save(in_train("b"), ONES * np.nan), in_train("b"), "snippet 0, channel 0 is nan", "finite"
        ),
        bad(
            "another width",
            save(in_train("b"), ONES[:, :2]),
            in_train("b"),
            "2 channels",
            "3 … {}/" + in_train("a"),
        ),
        bad(
            "another width in the test split",
            save(TEST_FLOW, ONES[:, :2]),
            TEST_FLOW,
            "2",
            "3 … train/flow/a.npy",
        ),
        bad(
            "another length",
            save(in_train("a", "flow"), ONES[:2]),
            in_train("a", "flow"),
            "2 snippets",
            "4 … rgb/a",
        ),
        bad(
            "a video that is not annotated",
            write("split_train.txt", "a\nz\n"),
            "gt.json",
            "'z'",
            "{}/split_train.txt",
        ),
        bad(
            "a name with its ending",
            write("split_train.txt", "a.npy\n"),
            "gt.json",
            "'a.npy'",
            "split_train.txt",
        ),
        bad(
            "the other split's video",
            write("split_test.txt", "a\n"),
            "gt.json",
            "'a' … 'train'",
            "'test' … split_test",
        ),
        bad(
            "of another subset",
            annotate("a", subset="val"),
            "gt.json",
            "'a' … 'val'",
            "'train' … {}/split_train.txt",
        ),
        bad(
            "no annotation in a split",
            annotate("c", annotations=[]),
            "gt.json",
            "no annotation … split_test.txt",
            "some",
        ),
        bad(
            "not a class",
            annotate("a", annotations=SWIM),
            "gt.json",
            "'a' … 'Swim'",
            "20 classes … dataset.json",
        ),
        bad("empty database", write("gt.json", '{"database": {}}'), "gt.json", "'a'", "split_train.txt"),
        bad("a broken annotation", annotate("b", annotations=[3]), "gt.json", "'b', annotation 0", "label"),
        bad(
            "a path in a split",
            write("split_train.txt", "../test/rgb/c\n"),
            "split_train.txt",
            "'../test",
            "path",
        ),
        bad(
            "an unknown fact",
            write("dataset.json", '{"rescaled": true}'),
            "dataset.json",
            "'rescaled'",
            "subsets",
        ),
    ],
)
def test_data_sets_that_cannot_be_used(damage, file, wrong, expected, thumos):
    load_thumos(thumos)
    damage(thumos)
    assert_refused(load_thumos, thumos, wrong, expected.format(thumos), named=thumos / file)


def test_a_name_longer_than_any_file(thumos):
    name = "a" * 300
    (thumos / "split_train.txt").write_text(f"a\n{name}\n")
    edit_json(thumos / "gt.json", lambda c: c["database"].update({name: c["database"]["a"]}))
    path = thumos / "features" / "train" / "rgb" / f"{name}.npy"
    assert_refused(load_thumos, thumos, "File name too long", ".npy", named=path)


def test_a_message_about_a_very_long_name_keeps_its_ends(thumos):
    (thumos / "split_train.txt").write_text("a" * 5000)
    message = refusal(load_thumos, thumos)
    assert_parts(message, thumos / "gt.json", "no video 'aaa … aaa ... aaa … aaa'", "split_train.txt")
    assert len(message) == 2000


# Writing


def test_a_written_data_set_comes_back_exactly(small, tmp_path):
    folder = tmp_path / "data"
    for _ in range(2):  # the second time over itself
        write_dataset(small, folder)
        found = load_thumos(folder)
        assert found.info == small.info
        assert found.stream_widths == {"rgb": 8, "flow": 8}
        for split, wanted in ((found.train, small.train), (found.test, small.test)):
            assert split.subset == wanted.subset
            assert split.ground_truth() == wanted.ground_truth()
            for video, expected in zip(split.videos, wanted.videos, strict=True):
                assert (video.name, video.annotations) == (expected.name, expected.annotations)
                assert list(video.features) == list(expected.features)
                for stream, array in expected.features.items():
                    np.testing.assert_array_equal(video.features[stream], array, strict=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("dataset.json", "features", "gt.json", "split_test.txt", "split_train.txt")
    ]


def test_the_facts_are_written_whole(small, tmp_path):
    write_dataset(small, tmp_path)
    assert json.loads((tmp_path / "dataset.json").read_text()) == {
        "streams": ["rgb", "flow"],
        "frames_per_second": 25.0,
        "frames_per_snippet": 16.0,
        "classes": ["Action01", "Action02"],
        "subsets": {"train": "train", "test": "test"},
    }


def test_a_place_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "data").write_text("")
    message = refusal(write_dataset, small, tmp_path / "data")
    first = "data/features/train/rgb/synthetic_train_0000.npy"
    assert message == f"{tmp_path}/{first}: cannot be written (Not a directory)"
