"""The flags that say what a training reads, where it writes and how it is evaluated."""

import os
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.text import Text

from case_jax.commands import cli
from case_jax.config import CaseConfig
from case_jax.data.activitynet import load_activitynet
from case_jax.data.dataset import Dataset
from case_jax.data.synthetic import make_synthetic_dataset
from case_jax.data.thumos import is_thumos_layout, load_dataset
from case_jax.errors import InputError
from case_jax.runs.settings import SYNTHETIC

__all__ = ["check_batch", "data_name", "define_flags", "load", "read", "seeds", "source"]

FLAGS = flags.FLAGS


def define_flags(*, num_seeds: int) -> None:
    """The flags; ``num_seeds`` is how many seeds are trained unless told otherwise."""
    flags.DEFINE_string("data_dir", None, "data set in the layout of THUMOS14 or ActivityNet (README)")
    flags.DEFINE_boolean("synthetic", False, "use the embedded synthetic data set, not --data_dir")
    flags.DEFINE_string("workdir", None, "folder of the run: settings, metrics, checkpoints, predictions")
    flags.DEFINE_integer(
        "seed",
        0,
        "initial parameters, shuffling and sampling follow from it",
        lower_bound=0,
        upper_bound=2**31 - 1,
    )
    flags.DEFINE_integer(
        "num_seeds",
        num_seeds,
        "train this many seeds, from --seed on, each in a folder of its own in --workdir",
        lower_bound=1,
        upper_bound=1024,
    )
    flags.DEFINE_integer("eval_every", 50, "steps between evaluations", lower_bound=1)
    flags.DEFINE_string("tiou", "0.1:0.7:0.1", 'tIoU thresholds, "first:last:step" or "a,b,c"')


def seeds() -> range:
    """The seeds to train."""
    return range(FLAGS.seed, FLAGS.seed + FLAGS.num_seeds)


def load(config: CaseConfig, console: Console) -> Dataset:
    """The data set that the flags name.

    Raises:
        InputError: if they name none or two, or it cannot be read.
    """
    data = SYNTHETIC if source() == SYNTHETIC else FLAGS.data_dir  # errors name it as it was given
    return read(data, config, console, in_memory=FLAGS.feature_store == "device")


def source() -> str:
    """Where the data set that the flags name is: a whole path, or `SYNTHETIC`.

    Raises:
        InputError: if they name none or two.
    """
    if FLAGS.synthetic:
        if FLAGS.data_dir:
            raise InputError("--data_dir: contradicts --synthetic; expected one of the two")
        return SYNTHETIC
    return os.path.abspath(cli.require("data_dir", "a data set's folder, or --synthetic"))


def read(data: str, config: CaseConfig, console: Console, *, in_memory: bool) -> Dataset:
    """Reads the data set that `source` named, in the layout of THUMOS14 or ActivityNet.

    Raises:
        InputError: if it cannot be read.
    """
    if data == SYNTHETIC:
        console.print("data: embedded synthetic two-stream features (no real video)")
        return make_synthetic_dataset()
    load_layout = load_dataset if is_thumos_layout(data) else load_activitynet
    with console.status(Text(f"reading {data}")):
        return load_layout(data, in_memory=in_memory, dtype=config.feature_dtype)


def data_name() -> str:
    """What figures of the data set are said to be of."""
    return "synthetic data" if FLAGS.synthetic else Path(FLAGS.data_dir).resolve().name


def check_batch(config: CaseConfig, dataset: Dataset) -> None:
    """Refuses batches larger than the training split.

    Raises:
        InputError: if they are.
    """
    if len(dataset.train.videos) < config.batch_size:
        raise InputError(
            f"--batch_size: is {config.batch_size}; expected at most the {len(dataset.train.videos)} "
            "training videos"
        )
