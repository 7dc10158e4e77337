"""A part of the training split as the test split, to choose settings without using the real test split."""

import re
from typing import NamedTuple

from absl import flags

from case_jax.data.dataset import Dataset, hold_out
from case_jax.errors import InputError

__all__ = ["HeldOut", "apply", "define_flags", "described", "from_flags"]


class HeldOut(NamedTuple):
    """Which part of the training split is held out."""

    part: int  # counted from 1
    num_parts: int
    group: re.Pattern[str] | None  # videos whose names have the same match stay together


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags --holdout and --holdout_group."""
    flags.DEFINE_string(
        "holdout",
        None,
        'which part of the training split stands in for the test split, "1/5" for the first of five: '
        "settings can be chosen on these parts without using the test split",
        flag_values=given,
    )
    flags.DEFINE_string(
        "holdout_group",
        None,
        "regular expression whose first match in a video's name is the group that must not be divided, a "
        "person for instance; default every video is a group of its own",
        flag_values=given,
    )


def from_flags(given: flags.FlagValues) -> HeldOut | None:
    """The part that the flags ask for; None if they ask for none.

    Raises:
        InputError: if --holdout is not a part, or --holdout_group not a regular expression.
    """
    if given.holdout is None:
        if given.holdout_group is not None:
            raise InputError("--holdout_group: is given without --holdout; expected both")
        return None
    match = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", given.holdout)
    part, num_parts = (int(number) for number in match.groups()) if match else (0, 0)
    if not 1 <= part <= num_parts or num_parts < 2:
        raise InputError(f'--holdout: is {given.holdout!r}; expected "1/5" for the first of five parts')
    try:
        group = None if given.holdout_group is None else re.compile(given.holdout_group)
    except re.error as error:
        raise InputError(
            f"--holdout_group: is {given.holdout_group!r} ({error}); expected a regular expression"
        ) from None
    return HeldOut(part, num_parts, group)


def apply(held_out: HeldOut | None, dataset: Dataset) -> Dataset:
    """The data set with the held-out part in place of its test split.

    Args:
        held_out: the part; None returns the data set as it is.
        dataset: its training videos must be annotated.

    Raises:
        InputError: if a video's name has no group, or there are fewer groups than parts.
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
    """The held-out part in words, to follow the name of the data set; empty if none is held out."""
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
