"""Trains and evaluates CASE on THUMOS14, on any data set in its layout, or on the synthetic one.

python -m experiments.thumos --flagfile=experiments/flags/thumos14.flags --data_dir=D --workdir=W

With --mode=evaluate the test-time flags (proposals, soft-NMS, clustering-assisted testing) are tried on
what was trained; --workdir keeps its own settings.
"""

import dataclasses
import importlib.util
import time

from absl import flags
from rich.console import Console
from rich.text import Text

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.data.synthetic import make_synthetic_dataset
from case_jax.data.thumos import load_dataset
from case_jax.errors import InputError
from case_jax.evaluation import evaluate_predictions, predict
from case_jax.localization.detection_map import DetectionMap
from case_jax.report.tables import map_table
from case_jax.training import NonFiniteLossError, TrainState
from case_jax.workdir import RunSettings, Workdir
from experiments import cli
from experiments.train import describe, train

flags.DEFINE_string("data_dir", None, "data set in the THUMOS14 layout (README, Real data)")
flags.DEFINE_boolean("synthetic", False, "use the embedded synthetic data set, not --data_dir")
flags.DEFINE_string("workdir", None, "folder of the run: settings, metrics, checkpoints, predictions")
flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate"],
    "train, or evaluate what was trained (flags of training are then ignored)",
)
flags.DEFINE_integer(
    "seed",
    0,
    "initial parameters, shuffling and sampling follow from it",
    lower_bound=0,
    upper_bound=2**32 - 1,
)
flags.DEFINE_integer("eval_every", 50, "steps between evaluations", lower_bound=1)
flags.DEFINE_string("tiou", "0.1:0.7:0.1", 'tIoU thresholds, "first:last:step" or "a,b,c"')
flags.DEFINE_boolean("report", True, "write report.html at the end (needs the extra 'plots')")
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
    console = Console(soft_wrap=True, markup=False)
    config = cli.config_from_flags()
    workdir = Workdir(cli.require("workdir", "a folder for the run"))
    tiou = cli.tiou_from_flags()
    if FLAGS.report and not all(importlib.util.find_spec(name) for name in ("jinja2", "matplotlib")):
        raise InputError(
            "--report: needs jinja2 and matplotlib; expected pip install '.[plots]', or --noreport"
        )
    dataset = _load(console)
    if FLAGS.mode == "train" and len(dataset.train.videos) < config.batch_size:
        raise InputError(
            f"--batch_size: is {config.batch_size}; expected at most the {len(dataset.train.videos)} "
            "training videos"
        )
    settings = RunSettings.of(config, dataset, seed=FLAGS.seed, eval_every=FLAGS.eval_every, tiou=tiou)

    began = time.perf_counter()
    if FLAGS.mode == "train":
        workdir.begin(settings)
        try:
            train(settings, dataset, workdir, console)
        except NonFiniteLossError as error:
            raise InputError(f"--learning_rate: is {config.learning_rate}; {error}") from None
    seconds = time.perf_counter() - began
    results, best = _evaluate(workdir, dataset, console)
    if FLAGS.synthetic:
        console.print("synthetic data: these figures say nothing about real video")
    print(map_table(results))
    if FLAGS.report and best.config != workdir.settings().config:
        print(f"\nother settings than the run's: {workdir.report} is left as it is")
    elif FLAGS.report:
        from case_jax.report.html import write_report  # matplotlib takes a second to import

        path = write_report(workdir, dataset, best, results, seconds=seconds, synthetic=FLAGS.synthetic)
        print(f"\nreport: {path}")


def _load(console: Console) -> Dataset:
    if FLAGS.synthetic:
        if FLAGS.data_dir:
            raise InputError("--data_dir: contradicts --synthetic; expected one of the two")
        console.print("data: embedded synthetic two-stream features (no real video)")
        return make_synthetic_dataset()
    data_dir = cli.require("data_dir", "a data set's folder, or --synthetic")
    with console.status(Text(f"reading {data_dir}")):
        return load_dataset(data_dir)


def _evaluate(
    workdir: Workdir, dataset: Dataset, console: Console
) -> tuple[dict[str, DetectionMap], TrainState]:
    """Scores the last and the best checkpoint: mAP by their names in the table, and the best state."""
    results = {}
    for which in ("last", "best"):
        settings, state = workdir.load(which)
        if (settings.info, settings.stream_widths) != (dataset.info, dataset.stream_widths):
            raise InputError(
                f"{workdir.path}: was trained on other classes, streams or widths; expected those of the "
                "data set given"
            )
        if FLAGS.mode == "evaluate" and which == "last":
            describe(settings, state, dataset, console)
        if FLAGS.mode == "evaluate":
            state = state.replace(config=_test_time_config(settings.config))
        predictions = predict(state, dataset.test.videos, dataset.info)
        title = f"{which} (step {int(state.step)})"
        results[title] = evaluate_predictions(predictions, dataset.test, cli.tiou_from_flags())
    return results, state


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
