"""Trains and evaluates CASE on THUMOS14, on any data set in its layout, or on the synthetic one.

python -m experiments.thumos --flagfile=experiments/flags/thumos14.flags --data_dir=D --workdir=W

With --mode=evaluate the test-time flags (proposals, soft-NMS, clustering-assisted testing) are tried on
what was trained; --workdir keeps its own settings.
"""

import contextlib
import dataclasses
import time

from absl import flags
from rich.console import Console

from case_jax.commands import cli, hardware, inputs
from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.errors import InputError
from case_jax.evaluator import Evaluator
from case_jax.report.tables import map_table, seeds_table
from case_jax.runs.outcome import Outcome, evaluate_run, require_report_packages, write_report_of
from case_jax.runs.settings import RunSettings
from case_jax.runs.train import Run, describe, train
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import NonFiniteLossError

def define_flags(given: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "evaluate"],
        "train, or evaluate what was trained (flags of training are then ignored)", flag_values=given)
    flags.DEFINE_boolean("report", True, "write report.html at the end (needs the extra 'plots')", flag_values=given)
    inputs.define_flags(given, num_seeds=1)
    hardware.define_flags(given)
    cli.define_config_flags(given)



# Settings that can be tried on a trained run, with --mode=evaluate.
_TEST_TIME = (
    "clustering_assisted_testing",
    "class_threshold",
    "upsampling",
    "proposal_thresholds",
    "flank",
    "video_score_weight",
    "video_score",
    "nms",
    "nms_threshold",
    "nms_alpha",
)


def main(given: flags.FlagValues) -> None:
    """Runs the command."""
    console = Console(soft_wrap=True, markup=False, quiet=not hardware.is_first_process())
    config = cli.config_from_flags(given)
    base = Workdir(cli.require(given, "workdir", "a folder for the run"))
    tiou = cli.tiou_from_flags(given)
    if given.report:
        require_report_packages()
    hardware.check_flags(num_seeds=given.num_seeds)
    dataset = inputs.load(config, console)
    training = given.mode == "train"
    if training:
        inputs.check_batch(config, dataset)
    runs = []
    for seed in inputs.seeds():
        settings = RunSettings.of(
            config, dataset, seed=seed, eval_every=given.eval_every, tiou=tiou, data=inputs.source()
        )
        runs.append(Run(settings, base if given.num_seeds == 1 else base.of_seed(seed)))

    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(hardware.connected(config, console))
        if training:
            hardware.in_first_process(lambda: [run.workdir.begin(run.settings) for run in runs])
            try:
                train(runs, dataset, where, console)
            except NonFiniteLossError as error:
                names = [video.name for video in dataset.train.videos]
                raise InputError(
                    f"--learning_rate: is {config.learning_rate}; {error.with_names(names)}"
                ) from None
        seconds = time.perf_counter() - began if training else None

        evaluator = None
        if hardware.is_first_process():
            trained = runs[0].workdir.settings().config
            evaluator = Evaluator(dataset.test, dataset.info, trained, on_device=where.on_device)
            stack.enter_context(evaluator)
        results, said = {}, []
        for run in runs:
            outcome = evaluate_run(
                run.workdir,
                dataset,
                evaluator,
                mesh=where.mesh,
                tiou=tiou,
                config=None if training else _test_time_config,
            )
            results[run.settings.seed] = outcome.results
            if hardware.is_first_process():
                if not training and run is runs[0]:
                    describe(outcome.settings, outcome.state, dataset, console)
                said.append(_report(run.workdir, dataset, outcome, seconds))
    if not hardware.is_first_process():
        return
    if given.synthetic:
        console.print("synthetic data: these figures say nothing about real video")
    print(map_table(results[runs[0].settings.seed]) if len(runs) == 1 else seeds_table(results))
    if any(said):
        print("\n" + "\n".join(said))


def _report(workdir: Workdir, dataset: Dataset, outcome: Outcome, seconds: float | None) -> str:
    if not given.report:
        return ""
    if outcome.state.config != outcome.settings.config:
        return f"other settings than the run's: {workdir.report} is left as it is"
    return f"report: {write_report_of(workdir, dataset, outcome, seconds=seconds)}"


def _test_time_config(trained: CaseConfig) -> CaseConfig:
    """The trained config with the test-time settings that the flags ask for.

    Raises:
        InputError: if a flag asks for a setting that only training could follow.
    """
    asked = cli.config_from_flags(given)
    for name in ("scc", "ccc", "hidden_dim", "num_clusters", "num_snippets", "top_k_divisor"):
        if getattr(asked, name) != getattr(trained, name):
            raise InputError(
                f"--{name}: is {getattr(asked, name)}; expected {getattr(trained, name)}, as the run in "
                "--workdir was trained"
            )
    return dataclasses.replace(trained, **{name: getattr(asked, name) for name in _TEST_TIME})
