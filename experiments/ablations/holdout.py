"""A part of the training split in place of the test split, to choose settings without a look at that one."""

import re
from typing import NamedTuple

from absl import flags

from case_jax.data.dataset import Dataset, hold_out
from case_jax.errors import InputError

__all__ = ["HeldOut", "apply", "define_flags", "described", "from_flags"]

FLAGS = flags.FLAGS


class HeldOut(NamedTuple):
    """What the flags ask for."""

    part: int  # counted from 1
    num_parts: int
    group: re.Pattern[str] | None  # whose match in a name tells which videos stay together


def define_flags() -> None:
    """The flags --holdout and --holdout_group."""
    flags.DEFINE_string(
        "holdout",
        None,
        'which part of the training split stands in for the test split, "1/5" for the first of five: '
        "settings can be chosen on these parts without a look at the test split",
    )
    flags.DEFINE_string(
        "holdout_group",
        None,
        "regular expression whose first match in a video's name tells what must not be divided, a person for "
        "instance; default every video may go anywhere",
    )


def from_flags() -> HeldOut | None:
    """What the flags ask for, if they do.

    Raises:
        InputError: if they are no part, or no regular expression.
    """
    if FLAGS.holdout is None:
        if FLAGS.holdout_group is not None:
            raise InputError("--holdout_group: is given without --holdout; expected both")
        return None
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", FLAGS.holdout)
    part, num_parts = (int(number) for number in match.groups()) if match else (0, 0)
    if not 1 <= part <= num_parts or num_parts < 2:
        raise InputError(f'--holdout: is {FLAGS.holdout!r}; expected "1/5" for the first of five parts')
    try:
        group = None if FLAGS.holdout_group is None else re.compile(FLAGS.holdout_group)
    except re.error as error:
        raise InputError(
            f"--holdout_group: is {FLAGS.holdout_group!r} ({error}); expected a regular expression"
        ) from None
    return HeldOut(part, num_parts, group)


def apply(held_out: HeldOut | None, dataset: Dataset) -> Dataset:
    """The data set, with that part in place of its test split.

    Raises:
        InputError: if a name has no group, or there are fewer groups than parts.
    """
    if held_out is None:
        return dataset
    groups = [_group(video.name, held_out.group) for video in dataset.train.videos]
    if len(set(groups)) < held_out.num_parts:
        raise InputError(
            f"--holdout: is '{held_out.part}/{held_out.num_parts}'; expected no more parts than the "
            f"{len(set(groups))} groups of training videos"
        )
    return hold_out(dataset, groups, held_out.part - 1, held_out.num_parts)


def described(held_out: HeldOut | None) -> str:
    """What figures are of, to be put behind the data set's name."""
    if held_out is None:
        return ""
    return f" (part {held_out.part} of {held_out.num_parts} of its training split, held out)"


def _group(name: str, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return name
    match = pattern.search(name)
    if match is None:
        raise InputError(
            f"--holdout_group: {pattern.pattern!r} is nowhere in {name!r}; expected it in the name "
            "of every training video"
        )
    return match.group()
