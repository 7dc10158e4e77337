"""Data sets of one stream, whose training programs compile in about half the time of two."""

import dataclasses

from case_jax.data.dataset import Dataset, Split
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset

__all__ = ["one_stream_dataset"]


def one_stream_dataset(spec: SyntheticSpec) -> Dataset:
    """The synthetic data set of seed 0 with its first stream alone, "rgb"."""
    whole = make_synthetic_dataset(0, spec)

    def alone(split: Split) -> Split:
        videos = (v._replace(features={"rgb": v.features["rgb"]}) for v in split.videos)
        return Split(split.subset, tuple(videos))

    info = dataclasses.replace(whole.info, streams=("rgb",))
    return Dataset(info, alone(whole.train), alone(whole.test))
