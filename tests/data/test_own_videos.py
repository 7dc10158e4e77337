import dataclasses
import math

import numpy as np

from case_jax.data.annotations import read_ground_truth
from case_jax.data.dataset import Annotation
from case_jax.data.extraction import ExtractedVideo
from case_jax.data.label_table import LabelledVideo, Splits
from case_jax.data.load import load_dataset
from case_jax.data.own_videos import write_own_videos
from tests.helpers.extraction import SMALL
from tests.helpers.refusals import assert_parts, refusal

TRAIN = {"a": LabelledVideo(("run", "jump"), (), None), "b": LabelledVideo(("run",), (), None)}
TEST = {"c": LabelledVideo(("jump",), (Annotation("jump", 0.5, 1.25),), None)}
ALL_OF_IT = (Annotation("Ambiguous", 0.0, math.inf),)
SPLITS = Splits(TRAIN, TEST, True)


def known(fps=25.0):
    video = ExtractedVideo("v.mp4", 1, 1, fps, 4.0, 100, 0, 0, 6, None)
    return {name: video for name in ("a", "b", "c")}


def write_arrays(folder):
    for split, names in (("train", "ab"), ("test", "c")):
        for name in names:
            path = folder / "features" / split / "rgb" / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.ones((6, 4), np.float32))


def test_what_is_written_is_a_data_set(tmp_path):
    info = write_own_videos(tmp_path, SPLITS, SMALL, known(), table="t.csv")
    write_arrays(tmp_path)
    dataset = load_dataset(tmp_path)
    assert dataset.info == info
    assert (info.classes, info.streams, info.seconds_per_snippet) == (("jump", "run"), ("rgb",), 16 / 25)
    assert [video.name for video in dataset.train.videos] == ["a", "b"]
    # A label without times holds for the whole video.
    assert dataset.train.videos[0].annotations == (Annotation("run", 0.0, 4.0), Annotation("jump", 0.0, 4.0))
    assert dataset.test.videos[0].annotations == (Annotation("jump", 0.5, 1.25),)


def test_ambiguous_intervals_are_written_and_are_no_class(tmp_path):
    unclear = (Annotation("Ambiguous", 1.0, 2.0),)
    train = {"a": TRAIN["a"]._replace(ambiguous=unclear), "b": LabelledVideo((), (), None, ALL_OF_IT)}
    write_own_videos(tmp_path, Splits(train, TEST, True), SMALL, known(), table="t.csv")
    write_arrays(tmp_path)
    truth = read_ground_truth(tmp_path / "gt.json")
    assert truth["a"].ambiguous == unclear
    assert truth["b"].ambiguous == (Annotation("Ambiguous", 0.0, 4.0),)
    dataset = load_dataset(tmp_path)
    assert dataset.info.classes == ("jump", "run")
    assert [video.name for video in dataset.train.videos] == ["a"]  # b may show an action or none


def test_the_rate_of_every_frame_is_that_of_the_videos(tmp_path):
    native = dataclasses.replace(SMALL, fps=None, stride=8)
    info = write_own_videos(tmp_path, SPLITS, native, known(29.97), table="t.csv")
    assert (info.frames_per_second, info.frames_per_snippet) == (29.97, 8.0)
    videos = known(30.0) | {"b": known(25.0)["b"]}
    message = refusal(lambda: write_own_videos(tmp_path, SPLITS, native, videos, table="t.csv"))
    assert_parts(message, "--fps", "'a' has 30 … 'b' 25", "one rate")


def test_times_beyond_the_video_are_refused(tmp_path):
    test = {"c": LabelledVideo(("jump",), (Annotation("jump", 12.0, 13.0),), None)}
    splits = SPLITS._replace(test=test)
    message = refusal(lambda: write_own_videos(tmp_path, splits, SMALL, known(), table="t.csv"))
    assert_parts(message, "t.csv", "'c' has 'jump' from 12 to 13 … 4.0 s", "within the video")
    assert not (tmp_path / "gt.json").exists()
