"""How long a training step waits for features that stay on disk, in the shape of ActivityNet v1.3.

python -m benchmarks.feeding

Generated features are written to a temporary folder (or to --folder, and used again from there). The peer
has the same features on the device.
"""

import contextlib
import functools
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags

from benchmarks import harness
from benchmarks.activitynet_shape import write_activitynet_shape
from case_jax.config import CaseConfig
from case_jax.data.activitynet import load_activitynet
from case_jax.data.dataset import Dataset
from case_jax.data.feature_files import video_length
from case_jax.data.host_batches import HostBatches, host_batches
from case_jax.training.loop import TrainingSet, train_chunk
from case_jax.training.state import TrainState, create_train_state
from case_jax.training.step import train_step
from experiments import cli

flags.DEFINE_string("folder", None, "where the features are kept; default a temporary folder")
flags.DEFINE_integer("num_videos", 400, "training videos", lower_bound=1)
flags.DEFINE_integer("width", 1024, "channels of each of the two streams", lower_bound=1)
flags.DEFINE_integer("steps", 100, "timed steps", lower_bound=1)
flags.DEFINE_integer("num_workers", 2, "processes that gather batches; 0 for a thread", lower_bound=0)
flags.DEFINE_integer("num_snippets", 50, "T", lower_bound=1)
flags.DEFINE_integer("batch_size", 8, "B", lower_bound=1)
flags.DEFINE_integer("hidden_dim", 512, "width of the encoders", lower_bound=1)
FLAGS = flags.FLAGS
_WARMUP = 10


def main() -> None:
    with contextlib.ExitStack() as stack:
        folder = FLAGS.folder or stack.enter_context(tempfile.TemporaryDirectory())
        write_activitynet_shape(
            Path(folder), num_train=FLAGS.num_videos, num_test=1, num_classes=200, width=FLAGS.width
        )
        dataset = load_activitynet(folder, in_memory=False)
        config = CaseConfig(
            num_snippets=FLAGS.num_snippets,
            batch_size=FLAGS.batch_size,
            hidden_dim=FLAGS.hidden_dim,
            top_k_divisor=4,
        )
        state = create_train_state(
            config,
            jax.random.key(0),
            stream_widths=dataset.stream_widths,
            num_classes=len(dataset.info.classes),
        )
        waiting, stepping = _from_disk(state, dataset)
        on_device = _on_device(state, dataset)
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
        num_workers=FLAGS.num_workers,
        shape=[FLAGS.batch_size, FLAGS.num_snippets, 2 * FLAGS.width],
    )


def _from_disk(state: TrainState, dataset: Dataset) -> tuple[float, float]:
    """Mean seconds of waiting for a batch, and of the step on it."""
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
    loaded = host_batches(batches, 0, _WARMUP + FLAGS.steps, num_workers=FLAGS.num_workers)
    for number in range(_WARMUP + FLAGS.steps):
        began = time.perf_counter()
        batch = next(loaded)
        ready = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        if number >= _WARMUP:
            waiting += ready - began
            stepping += time.perf_counter() - ready
    next(loaded, None)  # lets the workers end by themselves
    loaded.close()
    return waiting / FLAGS.steps, stepping / FLAGS.steps


def _on_device(state: TrainState, dataset: Dataset) -> float:
    """Mean seconds of a step that gathers its batch on the device."""
    packed = dataset.train.pack(dataset.info.streams)
    labels = dataset.train.video_labels(dataset.info.classes)
    training_set = jax.device_put(TrainingSet(packed, labels))
    chunk = jax.jit(functools.partial(train_chunk, num_steps=10))
    jax.block_until_ready(chunk(state, training_set))
    times = [harness.seconds_of(lambda: chunk(state, training_set)) for _ in range(max(1, FLAGS.steps // 10))]
    return float(np.mean(times)) / 10


if __name__ == "__main__":
    cli.run(main)
