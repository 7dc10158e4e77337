"""The paper's tables and figures on any data set that `experiments.thumos` takes.

python -m experiments.ablations --table=3 --flagfile=experiments/flags/thumos14.flags --data_dir=D --workdir=W

Every run is kept in W/runs, so that a run for one table is not trained again for another, and an interrupted
command goes on where it stopped.
"""

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags
from rich.console import Console

from case_jax.commands import cli, hardware, inputs
from case_jax.commands.progress import ConsoleNarrator
from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.runs.hardware import Hardware
from case_jax.runs.run import check_batch
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from experiments.ablations import holdout
from experiments.ablations.options import Options
from experiments.ablations.runs import Laboratory
from experiments.ablations.variants import SET_HERE

if TYPE_CHECKING:
    from experiments.ablations.item import Item

__all__ = ["WANTED", "define_flags", "main"]

# In the order in which --all makes them. The modules that make them need the extra 'plots', so that they are
# imported only after the flags have been checked.
WANTED = {
    "table": ("1", "3", "4", "5", "6"),
    "figure": ("3", "4", "5", "6", "7"),
    "study": ("prior", "sinkhorn", "selection", "plus"),
}


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    _define_wanted_flags(given)
    _define_figure_flags(given)
    inputs.define_flags(given, num_seeds=5)
    holdout.define_flags(given)
    hardware.define_flags(given)
    cli.define_config_flags(given)


def _define_wanted_flags(given: flags.FlagValues) -> None:
    for kind, help_text in (
        ("table", "tables of the paper to make"),
        ("figure", "figures of the paper to make"),
        ("study", "studies of questions that the paper leaves open"),
    ):
        flags.DEFINE_list(kind, [], f"{help_text}: {','.join(WANTED[kind])}", flag_values=given)
    flags.DEFINE_boolean("all", False, "make all tables, figures and studies", flag_values=given)
    flags.DEFINE_integer(
        "seeds_at_once",
        None,
        "seeds that train together in one program; default all of them on an accelerator, one on a CPU",
        lower_bound=1,
        flag_values=given,
    )


def _define_figure_flags(given: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "videos",
        [],
        "test videos that Figure 5 shows; default those that gain most from P^M",
        flag_values=given,
    )
    flags.DEFINE_integer(
        "num_videos",
        2,
        "how many videos Figure 5 shows",
        lower_bound=1,
        upper_bound=20,
        flag_values=given,
    )
    flags.DEFINE_string(
        "frames_dir",
        None,
        "for Figure 6, frames of the test videos: <video>/<number>.jpg or .png",
        flag_values=given,
    )
    flags.DEFINE_float(
        "frames_rate",
        None,
        "frames per second in --frames_dir; default the data set's",
        lower_bound=1e-3,
        flag_values=given,
    )
    flags.DEFINE_integer(
        "num_points",
        2000,
        "snippets that Figure 7 draws (the paper: 10000)",
        lower_bound=10,
        upper_bound=100_000,
        flag_values=given,
    )


def main(given: flags.FlagValues) -> None:
    """Trains what is missing, then prints and writes the tables, figures and studies that were asked for."""
    narrator = ConsoleNarrator(Console(soft_wrap=True, markup=False))
    config = cli.config_from_flags(given)
    workdir = Workdir(cli.require(given, "workdir", "a folder for runs, tables and figures"))
    wanted = _wanted(given)
    tiou = cli.tiou_from_flags(given)
    _check_flags(given, config)
    held_out = holdout.from_flags(given)
    dataset = holdout.apply(held_out, inputs.load(given, config, narrator))
    check_batch(config, dataset)
    options = Options.of(
        dataset, given.videos, given.num_videos, given.frames_dir, given.frames_rate, given.num_points
    )
    base = RunSettings.of(
        config,
        dataset,
        seed=given.seed,
        eval_every=given.eval_every,
        tiou=tiou,
        # A report of such a run must not find the test split where the held-out part is meant.
        data=None if held_out else inputs.source(given),
    )
    with hardware.connected(given, config, narrator) as where:
        lab = Laboratory(
            base,
            dataset,
            workdir,
            where,
            narrator,
            seeds=inputs.seeds(given),
            seeds_at_once=_seeds_at_once(given, where),
            data_name=inputs.data_name(given) + holdout.described(held_out),
        )
        _make_all(wanted, lab, options, workdir.path, narrator)


def _make_all(
    wanted: list[tuple[str, str]],
    lab: Laboratory,
    options: Options,
    folder: Path,
    narrator: ConsoleNarrator,
) -> None:
    """Makes, prints and writes everything that is wanted."""
    from experiments.ablations.item import write

    make = _makers(lab, options)
    for number, (kind, key) in enumerate(wanted, start=1):
        narrator.say(f"{kind} {key} ({number} of {len(wanted)})")
        text, paths = write(make[kind](key), folder / f"{kind}_{key}")
        print(f"\n{text}\n\nwritten: {', '.join(map(str, paths))}\n", flush=True)


def _makers(lab: Laboratory, options: Options) -> dict[str, Callable[[str], "Item"]]:
    """For each kind in `WANTED`, the function that makes the item of a key."""
    from experiments.ablations.figures import FIGURES
    from experiments.ablations.item import Item
    from experiments.ablations.studies import STUDIES
    from experiments.ablations.tables import TABLES

    return {
        "table": lambda key: Item(TABLES[int(key)](lab)),
        "figure": lambda key: FIGURES[int(key)](lab, options),
        "study": lambda key: STUDIES[key](lab),
    }


def _wanted(given: flags.FlagValues) -> list[tuple[str, str]]:
    """The (kind, key) of everything that the flags ask for.

    Raises:
        InputError: if a key is unknown, or nothing is asked for.
    """
    wanted = []
    for kind, known in WANTED.items():
        asked = known if given.all else tuple(given[kind].value)
        for key in asked:
            if key not in known:
                raise InputError(f"--{kind}: is {key!r}; expected some of {', '.join(known)}")
        wanted += [(kind, key) for key in dict.fromkeys(asked)]
    if not wanted:
        raise InputError("--table: is missing; expected --table, --figure, --study or --all")
    return wanted


def _check_flags(given: flags.FlagValues, config: CaseConfig) -> None:
    """Rejects flags that cannot be followed, before anything is read or trained.

    Raises:
        InputError: if a package is missing, or a flag cannot be followed.
    """
    if not all(importlib.util.find_spec(name) for name in ("matplotlib", "sklearn")):
        raise InputError("--table: needs matplotlib and scikit-learn; expected pip install '.[plots]'")
    if given.coordinator:
        raise InputError("--coordinator: is given; expected one process (many devices are used by one)")
    hardware.check_flags(given, num_seeds=1)
    if given.feature_store == "disk" and (given.seeds_at_once or 1) > 1:
        raise InputError(f"--seeds_at_once: is {given.seeds_at_once}; expected 1 with --feature_store=disk")
    if given.frames_rate is not None and not math.isfinite(given.frames_rate):
        raise InputError(f"--frames_rate: is {given.frames_rate}; expected a finite number")
    for name in SET_HERE:
        if getattr(config, name) != getattr(CaseConfig, name):
            raise InputError(
                f"--{name}: is {getattr(config, name)}; expected {getattr(CaseConfig, name)}, since the rows "
                "set it themselves"
            )


def _seeds_at_once(given: flags.FlagValues, where: Hardware) -> int:
    """How many seeds train together. One seed keeps a CPU busy, and features on disk feed only one."""
    if given.seeds_at_once or not where.on_device:
        return given.seeds_at_once or 1
    return 1 if where.mesh.devices.flat[0].platform == "cpu" else given.num_seeds


if __name__ == "__main__":
    cli.run(sys.modules[__name__])
