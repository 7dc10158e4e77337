"""Extraction without the network: weights that are none, and features that tell which frames they are of."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from case_jax.data.extraction import Extraction, Source
from tests.helpers.videos import number_in

__all__ = ["SHA256", "SMALL", "WIDTH", "fake_features", "fake_network", "fake_weights", "numbers_of"]

WIDTH = 1024
SHA256 = {"rgb": "a" * 64, "flow": "b" * 64}
# Square videos of 48 pixels stay as they are, so that every clip shows the numbers of its frames.
SMALL = Extraction({"rgb": Source("rgb weights", SHA256["rgb"])}, side=48, crop=48)


def fake_features(params, clips, *, precision="f32"):
    """Stands for `i3d_features`: channel t is the number that frame t of a clip shows, the others are 0."""
    features = np.zeros((len(clips), WIDTH), np.float32)
    for row, clip in zip(features, np.asarray(clips)):
        row[: len(clip)] = [number_in(frame) if clip.shape[-1] == 3 else frame.mean() for frame in clip]
    return features


def numbers_of(features, length=16):
    """The numbers of the frames of each snippet, from `fake_features`."""
    assert not features[:, length:].any()
    return features[:, :length].astype(int).tolist()


def fake_weights(path=None, *, stream):
    """Stands for `read_weights`: a file's content is its hash."""
    name, sha256 = (f"{stream} weights", SHA256[stream]) if path is None else (path, Path(path).read_text())
    return SimpleNamespace(params={}, stream=stream, name=name, sha256=sha256)


def fake_network(monkeypatch):
    """Replaces the network and its weights wherever they are used."""
    monkeypatch.setattr("case_jax.video.extract.i3d_features", fake_features)
    monkeypatch.setattr("case_jax.video.extract.prepare", lambda params: params)
    monkeypatch.setattr("case_jax.video.extract.read_weights", fake_weights)
    monkeypatch.setattr("case_jax.commands.extraction.read_weights", fake_weights)
