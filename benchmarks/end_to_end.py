"""The published THUMOS14 protocol from features in memory to the last mAP: 3,600 steps, 72 evaluations.

python -m benchmarks.end_to_end --fraction=0.02

Trains with the code that `experiments.thumos` runs, on generated features of THUMOS14's shape: batches are
16 x 750 x 2048, and 210 test videos are evaluated every 50 steps. The time includes compilation, but not the
making of the features. --fraction shortens steps and evaluations alike. The peer is PyTorch with plain loops:
its step, its scoring of a video and its numpy stage are timed in this process and multiplied.

Random features give fewer proposals than real ones, so the peer's numpy stage is timed on made sequences that
give as many as real ones. Peak memory is that of this process at the end of our run; the table divides it by
the size of all features.
"""

import os
import resource
import sys
import tempfile
import time

import numpy as np
from absl import flags

from benchmarks import harness, plain_loops
from benchmarks.thumos_shape import make_dataset, scored_videos
from case_jax.commands import cli, hardware
from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset, as_entries
from case_jax.data.info import THUMOS14
from case_jax.runs.narrator import Narrator
from case_jax.runs.run import Run
from case_jax.runs.train import train


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    flags.DEFINE_float(
        "fraction",
        1.0,
        "of 3,600 steps and 72 evaluations",
        lower_bound=1e-4,
        upper_bound=1.0,
        flag_values=given,
    )
    flags.DEFINE_integer("eval_every", 50, "steps between evaluations", lower_bound=1, flag_values=given)
    flags.DEFINE_integer("num_seeds", 1, "seeds trained at once", lower_bound=1, flag_values=given)
    flags.DEFINE_integer("num_train", 200, "training videos", lower_bound=1, flag_values=given)
    flags.DEFINE_integer("num_test", 210, "test videos", lower_bound=1, flag_values=given)
    harness.define_width(given)
    flags.DEFINE_boolean("peer", True, "time PyTorch and plain loops as well", flag_values=given)
    hardware.define_flags(given)
    cli.define_config_flags(given)


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    config = cli.config_from_flags(given)
    if given.peer:
        harness.require_packages("peer", "bench", torch="torch")
    dataset = make_dataset(num_train=given.num_train, num_test=given.num_test, width=given.width)
    num_steps = max(1, round(config.num_steps * given.fraction))
    config = CaseConfig(**{**vars(config), "num_steps": num_steps})
    features_bytes = sum(split.pack(THUMOS14.streams).num_bytes for split in (dataset.train, dataset.test))
    ours_s, evaluations = _train(config, dataset, given)
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    rows = [["protocol", "value"], ["ours, s", f"{ours_s:.1f}"]]
    rows += [["steps", str(num_steps)], ["evaluations", str(evaluations)], ["seeds", str(given.num_seeds)]]
    rows += [["peak memory / features", f"{peak / features_bytes:.2f}"]]
    parts = _peer_parts(config, dataset, given.num_test) if given.peer else None
    peer_s = None
    if parts is not None:
        peer_s = given.num_seeds * (
            num_steps * parts["step"] + evaluations * given.num_test * (parts["score"] + parts["stage"])
        )
        rows += [["PyTorch and plain loops, extrapolated, s", f"{peer_s:.1f}"]]
    harness.finish(
        "end_to_end",
        rows,
        ours_s=ours_s,
        peer="PyTorch and plain loops, extrapolated" if parts else None,
        peer_s=peer_s,
        peer_parts_s=parts,
        fraction=given.fraction,
        steps=num_steps,
        evaluations=evaluations,
        seeds=given.num_seeds,
        features_bytes=features_bytes,
        peak_bytes=peak,
        peak_over_features=peak / features_bytes,
    )


def _train(config: CaseConfig, dataset: Dataset, given: flags.FlagValues) -> tuple[float, int]:
    """Seconds of our training, and the number of evaluations in it."""
    narrator = Narrator()
    with tempfile.TemporaryDirectory() as folder, hardware.connected(given, config, narrator) as where:
        runs = [
            Run.begin(
                os.path.join(folder, f"seed_{seed}"), config, dataset, seed=seed, eval_every=given.eval_every
            )
            for seed in range(given.num_seeds)
        ]
        began = time.perf_counter()
        train(runs, where, narrator)
        return time.perf_counter() - began, len(runs[0].workdir.metrics())


def _peer_parts(config: CaseConfig, dataset: Dataset, num_test: int) -> dict[str, float]:
    """Seconds of a PyTorch step, of scoring one video, and of its numpy stage with its share of mAP."""
    import torch

    from benchmarks.torch_step import TorchCase

    widths = tuple(dataset.stream_widths.values())
    case = TorchCase(widths, len(THUMOS14.classes), config)
    features = torch.randn(config.batch_size, sum(widths), config.num_snippets)
    labels = torch.eye(len(THUMOS14.classes))[torch.arange(config.batch_size) % len(THUMOS14.classes)]
    videos = scored_videos(min(20, num_test), config.num_snippets)
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
    cli.run(sys.modules[__name__])
