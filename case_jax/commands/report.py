"""Evaluates a run again and writes its `report.html`, and `predictions.json` if it has none.

python -m experiments.report --workdir=W
"""

import os
from collections.abc import Sequence

from absl import flags
from rich.console import Console

from case_jax.commands import cli, inputs
from case_jax.errors import InputError
from case_jax.evaluator import Evaluator
from case_jax.localization.detections import to_activitynet, write_predictions
from case_jax.report.tables import map_table
from case_jax.runs.outcome import evaluate_run, require_report_packages, write_report_of
from case_jax.runs.workdir import Workdir

def define_flags(given: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_string("workdir", None, "workdir of a run, or of several seeds", flag_values=given)
    flags.DEFINE_string("data_dir", None, "its data set, if not where it was when it was trained", flag_values=given)
    flags.DEFINE_boolean("in_memory", True, "read all features before evaluating; otherwise as they are needed", flag_values=given)




def main(given: flags.FlagValues) -> None:
    """Runs the command."""
    console = Console(soft_wrap=True, markup=False)
    base = Workdir(cli.require(given, "workdir", "the workdir of a run"))
    require_report_packages()
    workdirs = _workdirs(base)
    settings = workdirs[0].settings()
    for workdir in workdirs:  # says what is damaged before anything is evaluated, or written
        workdir.metrics(), workdir.history()
    data = given.data_dir or settings.data
    if data is None:
        raise InputError(f"--data_dir: is missing; expected the data set of {workdirs[0].path}")
    dataset = inputs.read(data, settings.config, console, in_memory=given.in_memory)
    with Evaluator(dataset.test, dataset.info, settings.config, on_device=given.in_memory) as evaluator:
        for workdir in workdirs:
            outcome = evaluate_run(workdir, dataset, evaluator, mesh=None, tiou=settings.tiou)
            if not workdir.predictions.exists():  # a converted checkpoint's
                predictions = to_activitynet(outcome.detections, dataset.info.classes)
                write_predictions(workdir.predictions, predictions)
            print(map_table(outcome.results))
            print(f"report: {write_report_of(workdir, dataset, outcome)}")


def _workdirs(base: Workdir) -> Sequence[Workdir]:
    """The run itself, or those of several seeds in it."""
    if os.path.exists(base.path / "config.json") or not os.path.isdir(base.path):
        return [base]
    seeds = sorted(int(path.name[5:]) for path in base.path.glob("seed_*") if path.name[5:].isdecimal())
    return [base.of_seed(seed) for seed in seeds] or [base]
