"""Evaluates a run again and writes its `report.html`, and `predictions.json` if it has none.

python -m experiments.report --workdir=W
"""

from absl import flags
from rich.console import Console

from case_jax.commands import cli, inputs
from case_jax.commands.progress import ConsoleNarrator
from case_jax.evaluator import Evaluator
from case_jax.localization.detections import to_activitynet, write_predictions
from case_jax.report.tables import map_table
from case_jax.report.write import require_report_packages, write_report
from case_jax.runs.outcome import evaluate_run, warnings_about
from case_jax.runs.run import Run, place_of_data
from case_jax.runs.workdir import Workdir

__all__ = ["define_flags", "main"]


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("workdir", None, "workdir of a run, or of several seeds", flag_values=given)
    flags.DEFINE_string(
        "data_dir", None, "its data set, if not where it was when it was trained", flag_values=given
    )
    flags.DEFINE_boolean(
        "in_memory",
        True,
        "read all features before evaluating; otherwise as they are needed",
        flag_values=given,
    )


def main(given: flags.FlagValues) -> None:
    """Evaluates the run, or the seeds, and writes a report of each."""
    narrator = ConsoleNarrator(Console(soft_wrap=True, markup=False))
    base = Workdir(cli.require(given, "workdir", "the workdir of a run"))
    require_report_packages()
    workdirs = base.seeds()
    settings = workdirs[0].settings()
    for workdir in workdirs:  # a damaged file is named before anything is evaluated or written
        workdir.metrics(), workdir.history()
    data = place_of_data(workdirs[0], given.data_dir)
    dataset = inputs.read(data, settings.config, narrator, in_memory=given.in_memory)
    with Evaluator(dataset.test, dataset.info, settings.config, on_device=given.in_memory) as evaluator:
        for workdir in workdirs:
            run = Run(workdir.settings(), workdir, dataset)
            outcome = evaluate_run(run, evaluator, tiou=settings.tiou)
            if not workdir.predictions.exists():  # those of a converted checkpoint
                predictions = to_activitynet(outcome.detections, dataset.info.classes)
                write_predictions(workdir.predictions, predictions)
            print(map_table(outcome.results))
            for line in warnings_about(outcome, one_of_many=len(workdirs) > 1):
                print(f"\n{line}")
            print(f"report: {write_report(run, outcome)}")
