"""A small model, a batch and videos, whose steps compile and run in little time."""

import jax
import numpy as np

from case_jax.config import CaseConfig
from case_jax.training.state import create_train_state

WIDTHS, NUM_CLASSES = {"rgb": 6, "flow": 4}, 3
FIELDS = {"num_snippets": 16, "batch_size": 3, "hidden_dim": 8, "num_clusters": 4}
BASELINE = {"scc": False, "ccc": False, "clustering_assisted_testing": False}


def small_state(seed=0, **fields):
    """A fresh state with other settings in ``fields``."""
    config = CaseConfig(**{**FIELDS, **fields})
    return create_train_state(config, jax.random.key(seed), stream_widths=WIDTHS, num_classes=NUM_CLASSES)


def small_batch():
    """Three videos, one of them with two classes."""
    rng = np.random.default_rng(0)
    features = {name: rng.standard_normal((3, 16, width), np.float32) for name, width in WIDTHS.items()}
    return {"features": features, "labels": np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], np.float32)}


def small_videos(count=7, seed=3):
    """Features of videos of different lengths, shorter and longer than T, and one class for each.

    None has a single snippet: equal activations are not always equal where XLA optimises less.
    """
    rng = np.random.default_rng(seed)
    features = [
        {name: rng.standard_normal((length, width), np.float32) for name, width in WIDTHS.items()}
        for length in rng.integers(2, 40, count)
    ]
    return features, np.eye(NUM_CLASSES, dtype=np.float32)[rng.integers(0, NUM_CLASSES, count)]


def assert_equal_trees(found, expected):
    """The same arrays, bit for bit."""
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def assert_close_trees(found, expected, *, rtol=0.0, atol=1e-5):
    """The same arrays up to rounding."""
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)
