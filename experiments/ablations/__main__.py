"""The paper's tables and figures on any data set that `experiments.thumos` takes.

python -m experiments.ablations --table=3 --flagfile=experiments/flags/thumos14.flags --data_dir=D --workdir=W

Every run is kept in W/runs, so that what was trained for one table is not trained again for another, and an
interrupted command goes on where it stopped.
"""

import importlib.util
import math

from absl import flags
from rich.console import Console

from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.runs.settings import RunSettings
from case_jax.runs.train import Hardware
from case_jax.runs.workdir import Workdir
from experiments import cli, hardware, inputs
from experiments.ablations import holdout
from experiments.ablations.runs import Laboratory
from experiments.ablations.variants import SET_HERE

# In the order in which all of them are made. What makes them is imported late: it needs the extra 'plots'.
WANTED = {
    "table": ("1", "3", "4", "5", "6"),
    "figure": ("3", "4", "5", "6", "7"),
    "study": ("prior", "sinkhorn", "selection", "plus"),
}

flags.DEFINE_list("table", [], f"tables of the paper to make: {','.join(WANTED['table'])}")
flags.DEFINE_list("figure", [], f"figures of the paper to make: {','.join(WANTED['figure'])}")
flags.DEFINE_list("study", [], f"questions the paper leaves open: {','.join(WANTED['study'])}")
flags.DEFINE_boolean("all", False, "make all tables, figures and studies")
flags.DEFINE_integer(
    "seeds_at_once",
    None,
    "seeds that train together in one program; default all of them on an accelerator, one on a CPU",
    lower_bound=1,
)
flags.DEFINE_list("videos", [], "test videos that Figure 5 shows; default those that gain most from P^M")
flags.DEFINE_integer("num_videos", 2, "how many videos Figure 5 shows", lower_bound=1, upper_bound=20)
flags.DEFINE_string(
    "frames_dir", None, "for Figure 6, frames of the test videos: <video>/<number>.jpg or .png"
)
flags.DEFINE_float(
    "frames_rate", None, "frames per second in --frames_dir; default the data set's", lower_bound=1e-3
)
flags.DEFINE_integer(
    "num_points", 2000, "snippets that Figure 7 draws (the paper: 10000)", lower_bound=10, upper_bound=100_000
)
inputs.define_flags(num_seeds=5)
holdout.define_flags()
hardware.define_flags()
cli.define_config_flags()
FLAGS = flags.FLAGS


def main() -> None:
    console = Console(soft_wrap=True, markup=False)
    config = cli.config_from_flags()
    workdir = Workdir(cli.require("workdir", "a folder for runs, tables and figures"))
    wanted = _wanted()
    tiou = cli.tiou_from_flags()
    _check_flags(config)
    held_out = holdout.from_flags()
    dataset = holdout.apply(held_out, inputs.load(config, console))
    inputs.check_batch(config, dataset)

    from experiments.ablations.figures import FIGURES, Item, Options, write
    from experiments.ablations.studies import STUDIES
    from experiments.ablations.tables import TABLES

    options = Options.of(
        dataset, FLAGS.videos, FLAGS.num_videos, FLAGS.frames_dir, FLAGS.frames_rate, FLAGS.num_points
    )
    seeds = inputs.seeds()
    base = RunSettings.of(
        config,
        dataset,
        seed=seeds[0],
        eval_every=FLAGS.eval_every,
        tiou=tiou,
        # A report of one of these runs must not find the test split in place of what was held out.
        data=None if held_out else inputs.source(),
    )
    with hardware.connected(config, console) as where:
        lab = Laboratory(
            base,
            dataset,
            workdir,
            where,
            console,
            seeds=seeds,
            seeds_at_once=_seeds_at_once(where),
            data_name=inputs.data_name() + holdout.described(held_out),
        )
        make = {
            "table": lambda key: Item(TABLES[int(key)](lab)),
            "figure": lambda key: FIGURES[int(key)](lab, options),
            "study": lambda key: STUDIES[key](lab),
        }
        for number, (kind, key) in enumerate(wanted, start=1):
            console.print(f"{kind} {key} ({number} of {len(wanted)})", highlight=False)
            text, paths = write(make[kind](key), workdir.path / f"{kind}_{key}")
            print(f"\n{text}\n\nwritten: {', '.join(map(str, paths))}\n", flush=True)


def _wanted() -> list[tuple[str, str]]:
    """What the flags ask for: (kind, key)."""
    wanted = []
    for kind, known in WANTED.items():
        asked = known if FLAGS.all else tuple(FLAGS[kind].value)
        for key in asked:
            if key not in known:
                raise InputError(f"--{kind}: is {key!r}; expected some of {', '.join(known)}")
        wanted += [(kind, key) for key in dict.fromkeys(asked)]
    if not wanted:
        raise InputError("--table: is missing; expected --table, --figure, --study or --all")
    return wanted


def _check_flags(config: CaseConfig) -> None:
    """Refuses what cannot be done, before anything is read or trained."""
    if not all(importlib.util.find_spec(name) for name in ("matplotlib", "sklearn")):
        raise InputError("--table: needs matplotlib and scikit-learn; expected pip install '.[plots]'")
    if FLAGS.coordinator:
        raise InputError("--coordinator: is given; expected one process (many devices are used by one)")
    hardware.check_flags(num_seeds=1)
    if FLAGS.feature_store == "disk" and (FLAGS.seeds_at_once or 1) > 1:
        raise InputError(f"--seeds_at_once: is {FLAGS.seeds_at_once}; expected 1 with --feature_store=disk")
    if FLAGS.frames_rate is not None and not math.isfinite(FLAGS.frames_rate):
        raise InputError(f"--frames_rate: is {FLAGS.frames_rate}; expected a finite number")
    defaults = CaseConfig()
    for name in SET_HERE:
        if getattr(config, name) != getattr(defaults, name):
            raise InputError(
                f"--{name}: is {getattr(config, name)}; expected {getattr(defaults, name)}, since the rows "
                "set it themselves"
            )


def _seeds_at_once(where: Hardware) -> int:
    """A CPU is busy with one seed; and features on disk feed one at a time."""
    if FLAGS.seeds_at_once or not where.on_device:
        return FLAGS.seeds_at_once or 1
    return 1 if where.mesh.devices.flat[0].platform == "cpu" else FLAGS.num_seeds


if __name__ == "__main__":
    cli.run(main)
