import dataclasses

import numpy as np
import pytest

from case_jax.data.load import load_dataset
from case_jax.data.synthetic import WORLDS, SyntheticSpec, make_synthetic_dataset
from tests.helpers.commands import refuse_here, succeed_here
from tests.helpers.refusals import assert_parts
from tests.helpers.runs import contents


def test_writes_the_embedded_data_set(tmp_path):
    for name in ("a", "b"):
        printed = succeed_here(
            "synthesize", f"--output={tmp_path / name}", "--num_train=3", "--num_test=2", "--seed=5"
        )
    assert printed == (
        f"3 training and 2 test videos of synthetic features (no real video): {tmp_path / 'b'}\n"
    )
    assert contents(tmp_path / "a") == contents(tmp_path / "b")

    written = load_dataset(tmp_path / "a")
    expected = make_synthetic_dataset(5, SyntheticSpec(num_train=3, num_test=2))
    assert written.info == expected.info
    for split, expected_split in ((written.train, expected.train), (written.test, expected.test)):
        assert split.subset == expected_split.subset
        for video, expected_video in zip(split.videos, expected_split.videos, strict=True):
            assert (video.name, video.annotations) == (expected_video.name, expected_video.annotations)
            for stream in expected.info.streams:
                np.testing.assert_array_equal(video.features[stream], expected_video.features[stream])


@pytest.mark.parametrize("world", ["hard", "long"])
def test_writes_worlds_of_other_difficulty(world, tmp_path):
    succeed_here("synthesize", f"--output={tmp_path}", "--num_train=3", "--num_test=2", f"--world={world}")
    written = load_dataset(tmp_path)
    expected = make_synthetic_dataset(0, dataclasses.replace(WORLDS[world], num_train=3, num_test=2))
    assert [v.annotations for v in written.test.videos] == [v.annotations for v in expected.test.videos]
    default = make_synthetic_dataset(0, SyntheticSpec(num_train=3, num_test=2))
    found = written.train.videos[0].features["rgb"]
    np.testing.assert_array_equal(found, expected.train.videos[0].features["rgb"])
    assert not np.array_equal(found, default.train.videos[0].features["rgb"])


def test_writes_activitynets_layout(tmp_path):
    succeed_here(
        "synthesize", f"--output={tmp_path}", "--num_train=7", "--num_test=2", "--layout=activitynet"
    )
    assert (tmp_path / "features" / "rgb" / "v_synthetic_train_0000.npy").exists()
    written = load_dataset(tmp_path)
    expected = make_synthetic_dataset(0, SyntheticSpec(num_train=7, num_test=2))
    assert written.info.classes == expected.info.classes
    for split, expected_split in ((written.train, expected.train), (written.test, expected.test)):
        for video, expected_video in zip(split.videos, expected_split.videos, strict=True):
            assert (video.name, video.annotations) == (expected_video.name, expected_video.annotations)
            np.testing.assert_array_equal(video.features["flow"], expected_video.features["flow"])


@pytest.mark.parametrize(
    "flags, named, wrong, expected",
    [
        ([], "--output", "missing", "folder"),
        (["--num_train=0"], "--num_train", "'0'", "positive integer"),
        (["--world=real"], "--world", "'real'", ", ".join(WORLDS)),
    ],
)
def test_bad_flags(flags, named, wrong, expected):
    assert_parts(refuse_here("synthesize", *flags), named, wrong, expected)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    message = refuse_here("synthesize", "--num_train=1", "--num_test=1", f"--output={tmp_path}/file/data")
    assert message == f"{tmp_path}/file/data: cannot be written (Not a directory)"
