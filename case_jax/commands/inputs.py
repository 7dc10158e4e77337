"""The flags that say what a training reads, where it writes and how it is evaluated."""

import os
from pathlib import Path

from absl import flags

from case_jax.commands import cli
from case_jax.commands.progress import ConsoleNarrator
from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.errors import InputError
from case_jax.runs.run import read_data
from case_jax.runs.settings import EVAL_EVERY, SYNTHETIC, TIOU

__all__ = ["data_name", "define_flags", "define_report_flag", "load", "read", "seeds", "source"]


def define_flags(given: flags.FlagValues, *, num_seeds: int) -> None:
    """Defines the flags.

    Args:
        given: where to define them.
        num_seeds: how many seeds are trained unless told otherwise.
    """
    flags.DEFINE_string(
        "data_dir", None, "data set in the layout of THUMOS14 or ActivityNet (README)", flag_values=given
    )
    flags.DEFINE_boolean(
        "synthetic", False, "use the embedded synthetic data set, not --data_dir", flag_values=given
    )
    flags.DEFINE_boolean(
        "strict",
        False,
        "refuse videos whose streams differ in length by one snippet, which are cut to the shorter otherwise",
        flag_values=given,
    )
    flags.DEFINE_string(
        "workdir", None, "folder of the run: settings, metrics, checkpoints, predictions", flag_values=given
    )
    flags.DEFINE_integer(
        "seed",
        0,
        "initial parameters, shuffling and sampling follow from it",
        lower_bound=0,
        upper_bound=2**31 - 1,
        flag_values=given,
    )
    flags.DEFINE_integer(
        "num_seeds",
        num_seeds,
        "train this many seeds, from --seed on, each in a folder of its own in --workdir",
        lower_bound=1,
        upper_bound=1024,
        flag_values=given,
    )
    flags.DEFINE_integer(
        "eval_every", EVAL_EVERY, "steps between evaluations", lower_bound=1, flag_values=given
    )
    thresholds = f"{TIOU[0]:g}:{TIOU[-1]:g}:{TIOU[1] - TIOU[0]:g}"
    flags.DEFINE_string(
        "tiou", thresholds, 'tIoU thresholds, "first:last:step" or "a,b,c"', flag_values=given
    )


def define_report_flag(given: flags.FlagValues) -> None:
    """Defines the flag of commands that end with a report."""
    flags.DEFINE_boolean(
        "report",
        None,
        "write report.html at the end; default if the packages for it are installed (extra 'plots')",
        flag_values=given,
    )


def seeds(given: flags.FlagValues) -> range:
    """The seeds to train."""
    return range(given.seed, given.seed + given.num_seeds)


def source(given: flags.FlagValues) -> str:
    """Where the data set is: a whole path, or `SYNTHETIC`.

    Raises:
        InputError: if the flags name no data set, or two.
    """
    if given.synthetic:
        if given.data_dir:
            raise InputError("--data_dir: contradicts --synthetic; expected one of the two")
        return SYNTHETIC
    return os.path.abspath(cli.require(given, "data_dir", "a data set's folder, or --synthetic"))


def load(given: flags.FlagValues, config: CaseConfig, narrator: ConsoleNarrator) -> Dataset:
    """Reads the data set that the flags name.

    Raises:
        InputError: if the flags name no data set, or two, or it cannot be read.
    """
    # Messages name the folder as it was given.
    data = SYNTHETIC if source(given) == SYNTHETIC else given.data_dir
    return read(data, config, narrator, in_memory=given.feature_store == "device", strict=given.strict)


def read(
    data: str | os.PathLike,
    config: CaseConfig,
    narrator: ConsoleNarrator,
    *,
    in_memory: bool,
    strict: bool = False,
) -> Dataset:
    """Reads a data set, and shows that it does.

    Raises:
        InputError: if it cannot be read.
    """
    if data == SYNTHETIC:
        narrator.say("data: embedded synthetic two-stream features (no real video)")
    with narrator.busy(f"reading {data}"):
        return read_data(data, config, in_memory=in_memory, strict=strict)


def data_name(given: flags.FlagValues) -> str:
    """What figures of the data set are called."""
    return "synthetic data" if given.synthetic else Path(given.data_dir).resolve().name
