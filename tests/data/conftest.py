"""Small data sets on disk, in either layout, made without the package's writers."""

import json

import numpy as np
import pytest

from tests.helpers.files import ONES, npy

STREAMS = ("rgb", "flow")


@pytest.fixture
def thumos(tmp_path):
    """A data set in THUMOS14's layout: training videos a and b, test video c, of 4 snippets, 3 channels."""
    folder = tmp_path / "data"
    videos = {"a": "train", "b": "train", "c": "test"}
    for name, split in videos.items():
        for stream in STREAMS:
            path = folder / "features" / split / stream / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(npy(ONES))
    (folder / "split_train.txt").write_text("a\nb\n")
    (folder / "split_test.txt").write_text("c\n")
    annotation = {"label": "Diving", "segment": [0.5, 1]}
    database = {name: {"subset": split, "annotations": [annotation]} for name, split in videos.items()}
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    return folder


class ActivityNetFolder:
    """A data set in ActivityNet's layout, of 11-letter videos that are named by their first letters below.

    Training: a (10 snippets), b (20), and c without annotations; validation: d (10), and e without features;
    testing: f.
    """

    classes = ("Ballet", "Doing (crazy) stunts, indoors", "Ping-pong")

    def __init__(self, folder):
        self.lengths = {"a" * 11: 10, "b" * 11: 20, "d" * 11: 10}
        self.path = folder
        self.annotations = folder / "activity_net.v1-3.min.json"
        self.database = {
            "a" * 11: _entry("training", 6.4, ("Ping-pong", 0, 3)),
            "b" * 11: _entry("training", 12.8, ("Doing (crazy) stunts, indoors", 1, 20)),
            "c" * 11: _entry("training", 9.0),
            "d" * 11: _entry("validation", 6.4, ("Ping-pong", 2, 2), ("Ballet", "0.5", "4")),
            "e" * 11: _entry("validation", 6.4, ("Ping-pong", 0, 3)),
            "f" * 11: _entry("testing", 6.4),
        }
        self.annotate()

    def annotate(self, *, flat=False):
        """Writes the annotations, as the official form or as one object per video without subsets."""
        content = {"version": "1.3", "database": self.database}
        if flat:
            content = {v: {k: e[k] for k in e if k != "subset"} for v, e in self.database.items()}
        self.annotations.write_text(json.dumps(content))

    def configure(self, **fields):
        """Writes dataset.json."""
        (self.path / "dataset.json").write_text(json.dumps(fields))

    def array(self, video, stream):
        """(T_v, 3) features of a video."""
        seed = ord(video[0]) * 10 + STREAMS.index(stream)
        return np.random.default_rng(seed).standard_normal((self.lengths[video], 3)).astype(np.float32)

    def write_features(self, folder="features", prefix="v_", parts=("",)):
        """Writes one .npy file per video and stream."""
        for stream in STREAMS:
            for i, video in enumerate(self.lengths):
                target = self.path / folder / parts[i % len(parts)] / stream
                target.mkdir(parents=True, exist_ok=True)
                np.save(target / f"{prefix}{video}.npy", self.array(video, stream))


def _entry(subset, duration, *annotations):
    labelled = [{"label": label, "segment": segment} for label, *segment in annotations]
    return {"subset": subset, "duration": duration, "annotations": labelled}


@pytest.fixture
def activitynet(tmp_path):
    """`ActivityNetFolder` with one file per video and stream."""
    made = ActivityNetFolder(tmp_path)
    made.write_features()
    return made


@pytest.fixture
def bare_activitynet(tmp_path):
    """`ActivityNetFolder` without features."""
    return ActivityNetFolder(tmp_path)
