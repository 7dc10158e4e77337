"""The published THUMOS14 protocol from features in memory to the last mAP: 3,600 steps, 72 evaluations.

python -m benchmarks.end_to_end --fraction=0.02

Trains with the code that `experiments.thumos` runs, on generated features of THUMOS14's shape: every video
gives 16 x 750 x 2048 batches, 210 test videos are evaluated every 50 steps. Compilation counts; making the
features does not. The fraction shortens steps and evaluations alike. The peer is PyTorch with plain loops:
its step, its scoring of a video and its numpy stage are timed in this process, and multiplied.

Random features give fewer proposals than real ones; the peer's numpy stage is timed on as many as real.
Peak memory is that of this process up to the end of our run, against the size of all features.
"""

import os
import resource
import tempfile
import time

import numpy as np
from absl import flags
from rich.console import Console

from benchmarks import harness, plain_loops
from benchmarks.thumos_shape import make_dataset, scored_videos
from case_jax.config import CaseConfig
from case_jax.data.dataset import as_entries
from case_jax.data.info import THUMOS14
from case_jax.runs.settings import RunSettings
from case_jax.runs.train import Run, train
from case_jax.runs.workdir import Workdir
from experiments import cli, hardware

flags.DEFINE_float("fraction", 1.0, "of 3,600 steps and 72 evaluations", lower_bound=1e-4, upper_bound=1.0)
flags.DEFINE_integer("eval_every", 50, "steps between evaluations", lower_bound=1)
flags.DEFINE_integer("num_seeds", 1, "seeds trained at once", lower_bound=1)
flags.DEFINE_integer("num_train", 200, "training videos", lower_bound=1)
flags.DEFINE_integer("num_test", 210, "test videos", lower_bound=1)
flags.DEFINE_integer("width", 1024, "channels of each of the two streams", lower_bound=1)
flags.DEFINE_boolean("peer", True, "time PyTorch and plain loops as well")
flags.DEFINE_boolean("synthetic", False, "for experiments/hardware.py; not used here")
hardware.define_flags()
cli.define_config_flags()
FLAGS = flags.FLAGS


def main() -> None:
    config = cli.config_from_flags()
    if FLAGS.peer:
        harness.require_packages("peer", "bench", torch="torch")
    dataset = make_dataset(num_train=FLAGS.num_train, num_test=FLAGS.num_test, width=FLAGS.width)
    num_steps = max(1, round(config.num_steps * FLAGS.fraction))
    config = CaseConfig(**{**vars(config), "num_steps": num_steps})
    features_bytes = sum(split.pack(THUMOS14.streams).num_bytes for split in (dataset.train, dataset.test))

    console = Console(quiet=True)
    with tempfile.TemporaryDirectory() as folder, hardware.connected(config, console) as where:
        runs = []
        for seed in range(FLAGS.num_seeds):
            settings = RunSettings.of(
                config, dataset, seed=seed, eval_every=FLAGS.eval_every, tiou=[i / 10 for i in range(1, 8)]
            )
            runs.append(Run(settings, Workdir(os.path.join(folder, f"seed_{seed}"))))
            runs[-1].workdir.begin(settings)
        began = time.perf_counter()
        train(runs, dataset, where, console)
        ours_s = time.perf_counter() - began
        evaluations = len(runs[0].workdir.metrics())
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    rows = [["protocol", "value"], ["ours, s", f"{ours_s:.1f}"]]
    rows += [["steps", str(num_steps)], ["evaluations", str(evaluations)], ["seeds", str(FLAGS.num_seeds)]]
    rows += [["peak memory / features", f"{peak / features_bytes:.2f}"]]
    parts = _peer_parts(config, dataset) if FLAGS.peer else None
    peer_s = None
    if parts is not None:
        peer_s = FLAGS.num_seeds * (
            num_steps * parts["step"] + evaluations * FLAGS.num_test * (parts["score"] + parts["stage"])
        )
        rows += [["PyTorch and plain loops, extrapolated, s", f"{peer_s:.1f}"]]
    harness.finish(
        "end_to_end",
        rows,
        ours_s=ours_s,
        peer="PyTorch and plain loops, extrapolated" if parts else None,
        peer_s=peer_s,
        peer_parts_s=parts,
        fraction=FLAGS.fraction,
        steps=num_steps,
        evaluations=evaluations,
        seeds=FLAGS.num_seeds,
        features_bytes=features_bytes,
        peak_bytes=peak,
        peak_over_features=peak / features_bytes,
    )


def _peer_parts(config: CaseConfig, dataset) -> dict[str, float]:
    """Seconds of a PyTorch step, of scoring one video, and of its numpy stage with its share of mAP."""
    import torch

    from benchmarks.torch_step import TorchCase

    widths = tuple(dataset.stream_widths.values())
    case = TorchCase(widths, len(THUMOS14.classes), config)
    features = torch.randn(config.batch_size, sum(widths), config.num_snippets)
    labels = torch.eye(len(THUMOS14.classes))[torch.arange(config.batch_size) % len(THUMOS14.classes)]
    videos = scored_videos(min(20, FLAGS.num_test), config.num_snippets)
    truth = {v.name: as_entries(v.annotations) for v in videos}

    @torch.no_grad()
    def score():
        return case.score(features[:1])

    def stage():
        predictions = plain_loops.predict(videos, THUMOS14.classes, config)
        return plain_loops.mean_average_precision(truth, predictions, np.arange(1, 8) / 10)

    seconds = harness.in_turn(
        {"step": lambda: case.step(features, labels), "score": score, "stage": stage}, repeats=3
    )
    return {**seconds, "stage": seconds["stage"] / len(videos)}


if __name__ == "__main__":
    cli.run(main)
