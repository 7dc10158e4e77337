"""Writes the embedded synthetic data set to disk, in the THUMOS14 layout or ActivityNet's.

python -m experiments.synthesize --output=D
"""

import dataclasses

from absl import flags

from case_jax.commands import cli
from case_jax.commands.outputs import check_outputs
from case_jax.data.activitynet import write_activitynet
from case_jax.data.synthetic import WORLDS, SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("output", None, "folder to write", flag_values=given)
    flags.DEFINE_enum(
        "layout", "thumos14", ["thumos14", "activitynet"], "how to lay the files out", flag_values=given
    )
    flags.DEFINE_enum(
        "world",
        "default",
        list(WORLDS),
        "the embedded one; hard: classes more alike in more noise; long: actions of up to 40 snippets",
        flag_values=given,
    )
    flags.DEFINE_integer("seed", 0, "everything follows from it", lower_bound=0, flag_values=given)
    flags.DEFINE_integer(
        "num_train", SyntheticSpec.num_train, "training videos", lower_bound=1, flag_values=given
    )
    flags.DEFINE_integer("num_test", SyntheticSpec.num_test, "test videos", lower_bound=1, flag_values=given)


def main(given: flags.FlagValues) -> None:
    """Generates the data set and writes it."""
    output = cli.require(given, "output", "a folder to write")
    check_outputs(folders={"output": output})
    spec = dataclasses.replace(WORLDS[given.world], num_train=given.num_train, num_test=given.num_test)
    dataset = make_synthetic_dataset(given.seed, spec)
    write = write_dataset if given.layout == "thumos14" else write_activitynet
    write(dataset, output)
    print(
        f"{len(dataset.train.videos)} training and {len(dataset.test.videos)} test videos of synthetic "
        f"features (no real video): {output}"
    )
