"""How long a training step waits for features that stay on disk, in the shape of ActivityNet v1.3.

python -m benchmarks.feeding

Writes generated features to a temporary folder, or to --folder, where a second call uses them again. The peer
is a step that has the same features on the device.
"""

import contextlib
import functools
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags

from benchmarks import harness
from benchmarks.activitynet_shape import write_activitynet_shape
from case_jax.commands import cli
from case_jax.config import CaseConfig
from case_jax.data.activitynet import load_activitynet
from case_jax.data.dataset import Dataset
from case_jax.data.feature_files import video_length
from case_jax.data.host_batches import HostBatches, host_batches
from case_jax.training.feeding import TrainingSet, train_chunk
from case_jax.training.state import TrainState, create_train_state
from case_jax.training.step import train_step

_WARMUP = 10  # steps


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    flags.DEFINE_string(
        "folder", None, "where the features are kept; default a temporary folder", flag_values=given
    )
    flags.DEFINE_integer("num_videos", 400, "training videos", lower_bound=1, flag_values=given)
    harness.define_width(given)
    flags.DEFINE_integer("steps", 100, "timed steps", lower_bound=1, flag_values=given)
    flags.DEFINE_integer(
        "num_workers", 2, "processes that gather batches; 0 for a thread", lower_bound=0, flag_values=given
    )
    flags.DEFINE_integer("num_snippets", 50, "T", lower_bound=1, flag_values=given)
    flags.DEFINE_integer("batch_size", 8, "B", lower_bound=1, flag_values=given)
    flags.DEFINE_integer("hidden_dim", 512, "width of the encoders", lower_bound=1, flag_values=given)


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    with contextlib.ExitStack() as stack:
        folder = given.folder or stack.enter_context(tempfile.TemporaryDirectory())
        write_activitynet_shape(
            Path(folder), num_train=given.num_videos, num_test=1, num_classes=200, width=given.width
        )
        dataset = load_activitynet(folder, in_memory=False)
        config = CaseConfig(
            num_snippets=given.num_snippets,
            batch_size=given.batch_size,
            hidden_dim=given.hidden_dim,
            top_k_divisor=4,
        )
        state = create_train_state(
            config,
            jax.random.key(0),
            stream_widths=dataset.stream_widths,
            num_classes=len(dataset.info.classes),
        )
        waiting, stepping = _from_disk(state, dataset, given.steps, given.num_workers)
        on_device = _on_device(state, dataset, given.steps)
    fed = waiting + stepping
    share = waiting / fed
    rows = [
        ["per step", "ms"],
        ["waiting for a batch from disk", harness.milliseconds(waiting)],
        ["the step on it", harness.milliseconds(stepping)],
        ["a step with the features on the device", harness.milliseconds(on_device)],
        ["share of waiting", f"{100 * share:.1f} %"],
    ]
    harness.finish(
        "feeding",
        rows,
        ours_s=fed,
        peer="features on the device",
        peer_s=on_device,
        waiting_s=waiting,
        waiting_share=share,
        num_workers=given.num_workers,
        shape=[given.batch_size, given.num_snippets, 2 * given.width],
    )


def _from_disk(state: TrainState, dataset: Dataset, num_steps: int, num_workers: int) -> tuple[float, float]:
    """Mean seconds of waiting for a batch, and mean seconds of the step on it."""
    config, videos = state.config, [video.features for video in dataset.train.videos]
    batches = HostBatches(
        key_data=np.asarray(jax.random.key_data(state.key)),
        videos=videos,
        labels=dataset.train.video_labels(dataset.info.classes),
        lengths=np.array([video_length(video) for video in videos], np.int32),
        streams=dataset.info.streams,
        batch_size=config.batch_size,
        num_snippets=config.num_snippets,
    )
    step = jax.jit(train_step)
    waiting = stepping = 0.0
    loaded = host_batches(batches, 0, _WARMUP + num_steps, num_workers=num_workers)
    for number in range(_WARMUP + num_steps):
        began = time.perf_counter()
        batch = next(loaded)
        ready = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        if number >= _WARMUP:
            waiting += ready - began
            stepping += time.perf_counter() - ready
    next(loaded, None)  # the workers end by themselves
    loaded.close()
    return waiting / num_steps, stepping / num_steps


def _on_device(state: TrainState, dataset: Dataset, num_steps: int) -> float:
    """Mean seconds of a step that gathers its batch on the device."""
    packed = dataset.train.pack(dataset.info.streams)
    labels = dataset.train.video_labels(dataset.info.classes)
    training_set = jax.device_put(TrainingSet(packed, labels))
    chunk = jax.jit(functools.partial(train_chunk, num_steps=10))
    jax.block_until_ready(chunk(state, training_set))
    times = [harness.seconds_of(lambda: chunk(state, training_set)) for _ in range(max(1, num_steps // 10))]
    return float(np.mean(times)) / 10


if __name__ == "__main__":
    cli.run(sys.modules[__name__])
