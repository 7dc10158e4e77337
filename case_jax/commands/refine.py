"""Learns a second stage from a trained run, to judge proposals as a whole; the result is a run of its own.

python -m experiments.refine --workdir=W --output=R

W is the workdir of a training, or of several seeds. R gets the same form, and serves for everything that W
does: localize, report, `experiments.thumos --mode=evaluate`. The second stage learns from W's own detections
in the training videos and from their labels, in less time than the training took. It starts from the last
checkpoint, which needs no annotations; --which=best takes the one that W keeps. Flags of settings at test
time change those of R.

If the command is interrupted, the same command goes on with the first seed that is missing.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from absl import flags
from rich.console import Console

from case_jax.commands import cli, inputs
from case_jax.commands.outputs import check_outputs
from case_jax.commands.progress import ConsoleNarrator
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.evaluator import Evaluator, false_alarms_of
from case_jax.localizer import Localizer
from case_jax.refinement.settings import RefinementConfig
from case_jax.report.tables import alarm_table, map_table, seeds_table
from case_jax.report.write import missing_packages, require_report_packages, write_report
from case_jax.runs.outcome import evaluate_run, warnings_about
from case_jax.runs.refine import refine, refined_run, refined_settings
from case_jax.runs.run import Run, place_of_data
from case_jax.runs.settings import SYNTHETIC
from case_jax.runs.several_seeds import SeveralSeeds
from case_jax.runs.workdir import Workdir

__all__ = ["define_flags", "main", "refine_seeds"]


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("workdir", None, "workdir of a trained run, or of several seeds", flag_values=given)
    flags.DEFINE_string("output", None, "workdir of the refined run, or of as many seeds", flag_values=given)
    flags.DEFINE_enum(
        "which",
        "last",
        ["last", "best"],
        "the checkpoint to start from: the last, or the one that is kept",
        flag_values=given,
    )
    flags.DEFINE_integer(
        "num_proposals",
        RefinementConfig.num_proposals,
        "proposals of each training video to learn from, at most; memory grows with them",
        lower_bound=1,
        upper_bound=100_000,
        flag_values=given,
    )
    flags.DEFINE_string(
        "data_dir", None, "its data set, if not where it was when it was trained", flag_values=given
    )
    flags.DEFINE_boolean(
        "in_memory",
        True,
        "read all features before training; otherwise as they are needed",
        flag_values=given,
    )
    inputs.define_report_flag(given)
    cli.define_test_time_flags(given)


def main(given: flags.FlagValues) -> None:
    """Trains the second stage of each seed, and prints the table of mAP."""
    narrator = ConsoleNarrator(Console(soft_wrap=True, markup=False))
    first = Workdir(cli.require(given, "workdir", "the workdir of a trained run"))
    output = cli.require(given, "output", "a folder for the refined run")
    if given.report:
        require_report_packages()
    check_outputs(
        own_folders={"output": output}, inputs={"workdir": given.workdir, "data_dir": given.data_dir}
    )
    settings = first.seeds()[0].settings()
    config = cli.with_test_time_flags(settings.config, given)
    data = place_of_data(first.seeds()[0], given.data_dir)
    refinement = RefinementConfig(num_proposals=given.num_proposals)
    planned = []
    for seed in first.seeds():
        folder = Path(output) if len(first.seeds()) == 1 else Path(output) / seed.path.name
        changed = cli.with_test_time_flags(seed.settings().config, given)
        Workdir(folder).check(refined_settings(seed.settings(), changed, refinement))  # before data is read
        planned.append((seed, folder, changed))
    dataset = inputs.read(data, config, narrator, in_memory=given.in_memory)
    runs = [
        (seed, refined_run(seed, folder, dataset, config=changed, refinement=refinement))
        for seed, folder, changed in planned
    ]
    if settings.data == SYNTHETIC:
        narrator.say("synthetic data: these figures say nothing about real video")
    refine_seeds(runs, narrator, which=given.which, report=given.report)


def refine_seeds(
    runs: Sequence[tuple[Workdir, Run]],
    narrator: ConsoleNarrator,
    *,
    which: Literal["last", "best"],
    report: bool | None,
) -> None:
    """Trains second stages one after the other, writes their reports and prints the table of mAP.

    Args:
        runs: workdir of each first stage, and the run of its second stage.
        narrator: shows progress.
        which: the first stage's checkpoint.
        report: whether to write reports; None for where their packages are installed.
    """
    seconds: dict[int, float | None] = {}
    for first, run in runs:
        state = first.load(which)[1]
        done, began = bool(run.workdir.metrics()), time.perf_counter()
        refine(run, state, narrator, title=f"seed {run.settings.seed:>3}  " if len(runs) > 1 else "")
        seconds[run.settings.seed] = None if done else time.perf_counter() - began
    _, run = runs[0]
    results, seeds, alarms, said = {}, SeveralSeeds(), {}, []
    with Evaluator(
        run.dataset.test, run.settings.info, run.settings.config, on_device=run.in_memory
    ) as evaluator:
        for _, run in runs:
            outcome = evaluate_run(run, evaluator, tiou=run.settings.tiou)
            results[run.settings.seed] = outcome.results
            seeds.add(outcome)
            alarms[run.settings.seed] = false_alarms_of(
                run.dataset.test, run.dataset.info, outcome.detections
            )
            said += warnings_about(outcome, one_of_many=len(runs) > 1)
            if report is not False and not missing_packages():
                path = write_report(run, outcome, seconds=seconds[run.settings.seed])
                said.append(f"report: {path}")
        together = seeds.results(evaluator, run.settings.tiou)
        if len(runs) > 1:
            title, deciding = seeds.deciding()
            chosen = [run for _, run in runs if run.settings.seed in deciding]
            together[title] = _together(chosen, evaluator)
    print(map_table(results[run.settings.seed]) if len(runs) == 1 else seeds_table(results, together))
    for of_seed, counted in alarms.items():
        if counted is not None:
            print(f"\n{f'seed {of_seed}: ' if len(runs) > 1 else ''}{alarm_table(counted)}")
    if said:
        print("\n" + "\n".join(said))


def _together(runs: Sequence[Run], evaluator: Evaluator) -> DetectionMap:
    """The mAP of seeds as one model, with their second stages."""
    run, *_ = runs
    videos, info = run.dataset.test.videos, run.settings.info
    localizer = Localizer(run.settings, [one.workdir.load("last")[1] for one in runs])
    found = {}
    for video in videos:  # each by its own time, which rescaled features tell only with its duration
        seconds = video.seconds(info) / video.num_snippets
        (found[video.name],) = localizer.detect_each([video.features], 1.0, seconds)
    return evaluator.map_of(found, run.settings.tiou)
