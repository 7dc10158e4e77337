"""The one door to data sets on disk, whichever layout they are in."""

import os

from case_jax.data.activitynet import load_activitynet
from case_jax.data.dataset import Dataset
from case_jax.data.thumos import is_thumos_layout, load_thumos

__all__ = ["load_dataset"]


def load_dataset(
    data_dir: str | os.PathLike,
    *,
    in_memory: bool = True,
    dtype: str = "float32",
    action_free: bool = True,
    strict: bool = False,
) -> Dataset:
    """Reads a data set in the layout of THUMOS14 or of ActivityNet, and checks all of it that is used.

    Args:
        data_dir: folder in one of the two layouts, which `case_jax.data.thumos` and
            `case_jax.data.activitynet` describe.
        in_memory: False to leave the features on disk. Each file is then opened once, to check its shape, and
            values are checked when they are read.
        dtype: "float32" or "bfloat16", of features in memory.
        action_free: whether videos without any action are taken; otherwise they are counted in
            `Split.left_out`.
        strict: whether a video's streams have to be equally long. Otherwise those that differ by one snippet
            are cut to the shorter, and counted in `Split.num_cut`.

    Returns:
        `Dataset`. Videos may have any number of snippets, one or more.

    Raises:
        InputError: if a file is missing, unreadable or of the wrong form, or files do not fit together.
    """
    load = load_thumos if is_thumos_layout(data_dir) else load_activitynet
    return load(data_dir, in_memory=in_memory, dtype=dtype, action_free=action_free, strict=strict)
