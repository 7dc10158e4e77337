"""Trains and evaluates CASE on THUMOS14, on any data set in its layout, or on the synthetic one.

python -m experiments.thumos --flagfile=experiments/flags/thumos14.flags --data_dir=D --workdir=W

With --mode=evaluate the test-time flags (proposals, soft-NMS, clustering-assisted testing) are tried on
what was trained; --workdir keeps its own settings.
"""

import contextlib
import dataclasses
import importlib.util
import time
from collections.abc import Mapping, Sequence

from absl import flags
from rich.console import Console

from case_jax import parallel
from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.errors import InputError
from case_jax.evaluation import Evaluator
from case_jax.localization.detection_map import DetectionMap
from case_jax.report.tables import map_table, seeds_table
from case_jax.training import NonFiniteLossError, TrainState
from case_jax.workdir import RunSettings, Workdir
from experiments import cli, hardware, inputs
from experiments.train import Hardware, Run, describe, train

flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate"],
    "train, or evaluate what was trained (flags of training are then ignored)",
)
flags.DEFINE_boolean("report", True, "write report.html at the end (needs the extra 'plots')")
inputs.define_flags(num_seeds=1)
hardware.define_flags()
cli.define_config_flags()
FLAGS = flags.FLAGS

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


def main() -> None:
    console = Console(soft_wrap=True, markup=False, quiet=not hardware.is_first_process())
    config = cli.config_from_flags()
    base = Workdir(cli.require("workdir", "a folder for the run"))
    tiou = cli.tiou_from_flags()
    if FLAGS.report and not all(importlib.util.find_spec(name) for name in ("jinja2", "matplotlib")):
        raise InputError(
            "--report: needs jinja2 and matplotlib; expected pip install '.[plots]', or --noreport"
        )
    hardware.check_flags(num_seeds=FLAGS.num_seeds)
    dataset = inputs.load(config, console)
    training = FLAGS.mode == "train"
    if training:
        inputs.check_batch(config, dataset)
    runs = []
    for seed in inputs.seeds():
        settings = RunSettings.of(config, dataset, seed=seed, eval_every=FLAGS.eval_every, tiou=tiou)
        runs.append(Run(settings, base if FLAGS.num_seeds == 1 else base.of_seed(seed)))

    began = time.perf_counter()
    with hardware.connected(config, console) as where:
        if training:
            hardware.in_first_process(lambda: [run.workdir.begin(run.settings) for run in runs])
            try:
                train(runs, dataset, where, console)
            except NonFiniteLossError as error:
                raise InputError(f"--learning_rate: is {config.learning_rate}; {error}") from None
        seconds = time.perf_counter() - began if training else 0.0
        results, best = _evaluate(runs, dataset, where, console)
    if not hardware.is_first_process():
        return
    if FLAGS.synthetic:
        console.print("synthetic data: these figures say nothing about real video")
    if len(runs) == 1:
        print(map_table(*results.values()))
    else:
        print(seeds_table(results))
    for run, state in zip(runs, best):
        _report(run, dataset, state, results[run.settings.seed], seconds)


def _report(
    run: Run, dataset: Dataset, state: TrainState, results: Mapping[str, DetectionMap], seconds: float
) -> None:
    if not FLAGS.report:
        return
    if state.config != run.workdir.settings().config:
        print(f"\nother settings than the run's: {run.workdir.report} is left as it is")
        return
    from case_jax.report.html import write_report  # matplotlib takes a second to import

    path = write_report(run.workdir, dataset, state, results, seconds=seconds, synthetic=FLAGS.synthetic)
    print(f"\nreport: {path}")


def _evaluate(
    runs: Sequence[Run], dataset: Dataset, where: Hardware, console: Console
) -> tuple[dict[int, dict[str, DetectionMap]], list[TrainState]]:
    """Scores the last and the best checkpoint of every run: mAP by seed and title, and the best states."""
    results, best = {}, []
    with contextlib.ExitStack() as stack:
        evaluator = None
        for run in runs:
            of_run = results[run.settings.seed] = {}
            for which in ("last", "best"):
                settings, state = run.workdir.load(which, mesh=where.mesh)
                if (settings.info, settings.stream_widths) != (dataset.info, dataset.stream_widths):
                    raise InputError(
                        f"{run.workdir.path}: was trained on other classes, streams or widths; expected "
                        "those of the data set given"
                    )
                if not hardware.is_first_process():
                    continue
                state = parallel.local_copy(state)
                if FLAGS.mode == "evaluate":
                    if not results[runs[0].settings.seed]:
                        describe(settings, state, dataset, console)
                    state = state.replace(config=_test_time_config(settings.config))
                if evaluator is None:
                    evaluator = stack.enter_context(
                        Evaluator(dataset.test, dataset.info, state.config, on_device=where.on_device)
                    )
                title = f"{which} (step {int(state.step)})"
                of_run[title] = evaluator.map_of(evaluator.detect(state), cli.tiou_from_flags())
            best.append(state)
    return results, best


def _test_time_config(trained: CaseConfig) -> CaseConfig:
    """The trained config with the test-time settings that the flags ask for.

    Raises:
        InputError: if a flag asks for a setting that only training could follow.
    """
    asked = cli.config_from_flags()
    for name in ("scc", "ccc", "hidden_dim", "num_clusters", "num_snippets", "top_k_divisor"):
        if getattr(asked, name) != getattr(trained, name):
            raise InputError(
                f"--{name}: is {getattr(asked, name)}; expected {getattr(trained, name)}, as the run in "
                "--workdir was trained"
            )
    return dataclasses.replace(trained, **{name: getattr(asked, name) for name in _TEST_TIME})


if __name__ == "__main__":
    cli.run(main)
