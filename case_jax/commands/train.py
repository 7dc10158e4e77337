"""Trains and evaluates CASE on THUMOS14 or ActivityNet, data laid out like one of them, or synthetic data.

python -m experiments.thumos --flagfile=experiments/flags/thumos14.flags --data_dir=D --workdir=W

With --mode=evaluate the flags of settings at test time (proposals, soft-NMS, clustering-assisted testing) are
tried on a trained run; the settings in --workdir stay as they are.
"""

import contextlib
import dataclasses
import functools
import os
import time
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags
from rich.console import Console

from case_jax.commands import cli, hardware, inputs
from case_jax.commands.outputs import check_outputs
from case_jax.commands.progress import ConsoleNarrator
from case_jax.commands.refine import refine_seeds
from case_jax.config import CaseConfig, fields_of_role
from case_jax.errors import InputError
from case_jax.evaluation.false_alarms import FalseAlarms
from case_jax.evaluation.mean_average_precision import DetectionMap
from case_jax.evaluator import Evaluator, false_alarms_of
from case_jax.report.tables import alarm_table, map_table, seeds_table
from case_jax.report.write import missing_packages, require_report_packages, write_report
from case_jax.runs.hardware import Hardware, in_first_process
from case_jax.runs.memory import check_memory
from case_jax.runs.outcome import Outcome, evaluate_run, warnings_about
from case_jax.runs.refine import refined_run, refined_settings
from case_jax.runs.run import Run, check_batch
from case_jax.runs.settings import Keep, RunSettings
from case_jax.runs.several_seeds import SeveralSeeds
from case_jax.runs.train import describe, train
from case_jax.runs.training_features import check_features
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import NonFiniteLossError

__all__ = ["define_flags", "main"]


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "evaluate"],
        "train, or evaluate what was trained (flags of training are then ignored)",
        flag_values=given,
    )
    inputs.define_report_flag(given)
    flags.DEFINE_boolean(
        "refine",
        False,
        "after training, also learn a second stage, into the folder --workdir with _refined at its end",
        flag_values=given,
    )
    inputs.define_flags(given, num_seeds=1)
    flags.DEFINE_enum(
        "keep",
        "best",
        typing.get_args(Keep),
        "which checkpoint to keep besides the latest, and which of several seeds: the best by mAP on the "
        "test videos, or the healthiest, which needs no annotations",
        flag_values=given,
    )
    hardware.define_flags(given)
    cli.define_config_flags(given)


def main(given: flags.FlagValues) -> None:
    """Trains, evaluates, writes the report and prints the table of mAP."""
    first = hardware.is_first_process(given)
    narrator = ConsoleNarrator(Console(soft_wrap=True, markup=False, quiet=not first))
    config = cli.config_from_flags(given)
    cli.require(given, "workdir", "a folder for the run")
    if given.report:
        require_report_packages()
    training = given.mode == "train"
    if training and given.refine and given.num_processes:
        raise InputError("--refine: runs in one process; expected the command refine after this training")
    if training:
        own = {"workdir": given.workdir, **({"refine": _refined_folder(given)} if given.refine else {})}
        check_outputs(own_folders=own, inputs={"data_dir": given.data_dir})
    runs = _runs(given, config, narrator)
    if training and given.refine:
        for run in runs:
            Workdir(_refined_workdir(given, run)).check(refined_settings(run.settings))

    began = time.perf_counter()
    with hardware.connected(given, config, narrator) as where:
        if training:
            _train(runs, where, narrator)
        seconds = time.perf_counter() - began if training else None
        evaluated = _evaluate(given, runs, where, narrator, seconds)
    if not first:
        return
    if given.synthetic:
        narrator.say("synthetic data: these figures say nothing about real video")
    if len(runs) == 1:
        print(map_table(evaluated.results[runs[0].settings.seed]))
    else:
        print(seeds_table(evaluated.results, evaluated.together))
    for seed, of_seed in evaluated.alarms.items():
        print(f"\n{f'seed {seed}: ' if len(runs) > 1 else ''}{alarm_table(of_seed)}")
    if evaluated.said:
        print("\n" + "\n".join(evaluated.said))
    if training and given.refine:
        narrator.say(f"\nsecond stage: {_refined_folder(given)}")
        second = [
            (run.workdir, refined_run(run.workdir, _refined_workdir(given, run), run.dataset)) for run in runs
        ]
        refine_seeds(second, narrator, which="last", report=given.report)


def _refined_folder(given: flags.FlagValues) -> Path:
    return Path(f"{os.path.abspath(given.workdir)}_refined")


def _refined_workdir(given: flags.FlagValues, run: Run) -> Path:
    """The folder of a seed's second stage."""
    folder = _refined_folder(given)
    return folder if given.num_seeds == 1 else folder / run.workdir.path.name


class _Evaluated(NamedTuple):
    """The evaluation of all seeds."""

    results: dict[int, dict[str, DetectionMap]]  # of each seed
    together: dict[str, DetectionMap]  # of several seeds, see `SeveralSeeds.results`
    alarms: dict[int, FalseAlarms]  # of each seed, where test videos show no action
    said: list[str]  # what there is to say about the runs and their reports


def _runs(given: flags.FlagValues, config: CaseConfig, narrator: ConsoleNarrator) -> list[Run]:
    """The runs that the flags describe, one a seed, with their data."""
    tiou = cli.tiou_from_flags(given)
    hardware.check_flags(given, num_seeds=given.num_seeds)
    base, runs = Workdir(given.workdir), []
    workdirs = [base if given.num_seeds == 1 else base.of_seed(seed) for seed in inputs.seeds(given)]
    if given.mode == "evaluate":
        trained = [workdir.settings().config for workdir in workdirs]  # before the data set is read
        config = dataclasses.replace(config, feature_dtype=trained[0].feature_dtype)
        if config.action_free != "leave_out":
            config = dataclasses.replace(config, action_free=trained[0].action_free)
    dataset = inputs.load(given, config, narrator)
    if given.mode == "train":
        check_batch(config, dataset)
    for seed, workdir in zip(inputs.seeds(given), workdirs):
        settings = RunSettings.of(
            config,
            dataset,
            seed=seed,
            eval_every=given.eval_every,
            tiou=tiou,
            data=inputs.source(given),
            keep=given.keep,
        )
        runs.append(Run(settings, workdir, dataset))
    return runs


def _train(runs: Sequence[Run], where: Hardware, narrator: ConsoleNarrator) -> None:
    def begin() -> None:
        check_features(runs)
        for run in runs:
            run.workdir.begin(run.settings)

    check_memory(runs[0].settings, where, num_seeds=len(runs))
    in_first_process(begin)
    try:
        train(runs, where, narrator)
    except NonFiniteLossError as error:
        raise runs[0].not_finite(error) from None


def _evaluate(
    given: flags.FlagValues,
    runs: Sequence[Run],
    where: Hardware,
    narrator: ConsoleNarrator,
    seconds: float | None,
) -> _Evaluated:
    """Evaluates the runs, and several of them as one model, too, and writes their reports."""
    first, training = hardware.is_first_process(given), given.mode == "train"
    results, together, alarms, said = {}, {}, {}, []
    seeds = SeveralSeeds()
    with contextlib.ExitStack() as stack:
        evaluator = None
        if first:
            dataset, trained = runs[0].dataset, runs[0].workdir.settings().config
            evaluator = Evaluator(dataset.test, dataset.info, trained, on_device=where.on_device)
            stack.enter_context(evaluator)
        for run in runs:
            outcome = evaluate_run(
                run,
                evaluator,
                mesh=where.mesh,
                tiou=cli.tiou_from_flags(given),
                config=None
                if training
                else functools.partial(_test_time_config, cli.config_from_flags(given)),
            )
            results[run.settings.seed] = outcome.results
            if not first:
                continue
            seeds.add(outcome)
            said += warnings_about(outcome, one_of_many=len(runs) > 1)
            counted = false_alarms_of(run.dataset.test, run.dataset.info, outcome.detections)
            if counted is not None:
                alarms[run.settings.seed] = counted
            if not training and run is runs[0]:
                for line in describe(outcome.settings, outcome.state, run.dataset):
                    narrator.say(line)
            if given.report is not False:
                said.append(_report(given, run, outcome, seconds))
        if len(runs) > 1 and evaluator is not None:
            together = seeds.results(evaluator, cli.tiou_from_flags(given))
    return _Evaluated(results, together, alarms, said)


def _report(given: flags.FlagValues, run: Run, outcome: Outcome, seconds: float | None) -> str:
    """Writes a run's report, and says where it is or why there is none."""
    if outcome.state.config != outcome.settings.config:
        return f"other settings than the run's: {run.workdir.report} is left as it is"
    if given.report is None and missing_packages():
        return f"no report: {' and '.join(missing_packages())} not installed (extra 'plots')"
    return f"report: {write_report(run, outcome, seconds=seconds)}"


def _test_time_config(asked: CaseConfig, trained: CaseConfig) -> CaseConfig:
    """The trained config with the settings of test time that the flags ask for.

    Raises:
        InputError: if a flag asks for a network that was not trained.
    """
    for name in fields_of_role("model"):
        if getattr(asked, name) != getattr(trained, name):
            raise InputError(
                f"--{name}: is {getattr(asked, name)}; expected {getattr(trained, name)}, as the run in "
                "--workdir was trained"
            )
    return dataclasses.replace(trained, **{name: getattr(asked, name) for name in fields_of_role("test")})
