"""The training loop: chunks of steps, one after another, until the number of steps is reached."""

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from case_jax.data.packed import PackedFeatures
from case_jax.data.samplers import plan_batch
from case_jax.training import parallel
from case_jax.training.feeding import Advance, feed_from_device, feed_from_host
from case_jax.training.state import TrainState, select_seed

__all__ = ["Chunk", "NonFiniteLossError", "fit"]


class NonFiniteLossError(ArithmeticError):
    """A metric became NaN or infinite. The message names the metric, the step and the batch.

    Attributes:
        what: the metric, its value and the step, for example "loss is nan at step 5".
        videos: positions of the batch's videos among the training videos, from 0.
    """

    def __init__(self, what: str, videos: Sequence[int]):
        self.what, self.videos = what, tuple(videos)
        super().__init__(self._message(f"training videos {', '.join(map(str, self.videos))}"))

    def with_names(self, names: Sequence[str]) -> str:
        """The message, with the names of the batch's videos.

        Args:
            names: the names of all training videos.

        Returns:
            One line.
        """
        return self._message(", ".join(names[video] for video in self.videos))

    def _message(self, batch: str) -> str:
        return (
            f"{self.what}, with a batch of {batch}; expected a finite number (is the learning rate too high, "
            "or are the features on a very large scale?)"
        )


class Chunk(NamedTuple):
    """Some steps of training, as `fit` yields them. Of S seeds, every metric is an (S,) float64 array."""

    step: int  # steps taken so far
    state: TrainState  # after these steps
    num_steps: int  # steps of this chunk
    metrics: dict[str, float | np.ndarray]  # means over this chunk, see `case_jax.method.objective.METRICS`


def fit(
    state: TrainState,
    features: PackedFeatures | Sequence[Mapping[str, np.ndarray]],
    labels: np.ndarray,
    *,
    num_steps: int | None = None,
    report_every: int = 10,
    mesh: Mesh | None = None,
    on_device: bool = True,
    num_workers: int = 0,
) -> Generator[Chunk, None, None]:
    """Trains, and yields after every chunk of steps. To resume, pass the state of any chunk.

    The steps of a chunk run as one program. An accelerator starts the next chunk before the last one is
    handed out, so that it works while the caller does. Batches follow from the state alone: every way of
    feeding and any number of devices trains on the same batches.

    Args:
        state: where to start; stacked states (`stack_seeds`) of many seeds train at once.
        features: of V training videos: packed, or stream name -> (T_v, D) for each video.
        labels: (V, G) float32 multi-hot video labels.
        num_steps: train until ``state.step`` reaches it; default ``state.config.num_steps``.
        report_every: steps of a chunk; chunks end at its multiples and at the last step.
        mesh: the devices to divide batches over, from `parallel.make_mesh`; default the first device.
        on_device: True keeps all features on every device. False lets the host gather batches ahead of time
            from ``features``, which must then be given for each video, for one seed only.
        num_workers: processes that gather, if not ``on_device``; see
            `case_jax.data.host_batches.host_batches`.

    Yields:
        `Chunk`. Its state is a copy that stays valid.

    Raises:
        NonFiniteLossError: at the first metric that is not finite.
        ValueError: if there are fewer videos than a batch holds, or a batch does not divide evenly.
    """
    config = state.config
    num_steps = config.num_steps if num_steps is None else num_steps
    mesh = parallel.make_mesh(jax.local_devices()[:1]) if mesh is None else mesh
    if config.batch_size % mesh.size:
        raise ValueError(f"a batch of {config.batch_size} cannot be divided over {mesh.size} devices")
    step = int(np.max(jax.device_get(parallel.local_copy(state.step))))
    feed: Callable[..., AbstractContextManager[Advance]] = feed_from_device
    if not on_device:
        feed = functools.partial(feed_from_host, num_workers=num_workers)

    look_ahead = parallel.runs_beside_the_host(mesh)
    # A copy, because each call consumes the running state and the caller keeps theirs.
    running = jax.tree.map(jnp.copy, parallel.replicate(state, mesh))
    finish = functools.partial(_finish, num_videos=len(labels))
    unfinished = None
    with feed(state, features, labels, mesh=mesh, steps=range(step, num_steps)) as advance:
        while step < num_steps:
            length = min(report_every - step % report_every, num_steps - step)
            running, metrics = advance(running, length)
            step += length
            started = (step, jax.tree.map(jnp.copy, running), length, metrics)
            if unfinished is not None:
                yield finish(*unfinished)
            unfinished = started
            if not look_ahead:
                yield finish(*unfinished)
                unfinished = None
        if unfinished is not None:
            yield finish(*unfinished)


def _finish(step: int, state: TrainState, num_steps: int, metrics, *, num_videos: int) -> Chunk:
    """Waits for a chunk's metrics and takes their means, unless one is not finite."""
    metrics = jax.device_get(parallel.local_copy(metrics))
    if isinstance(metrics, list):
        metrics = {name: np.stack([row[name] for row in metrics]) for name in metrics[0]}
    broken = [
        # The first step and, in this step, losses first: a loss that is not finite explains the other
        # metrics.
        (offset, not name.startswith("loss"), name, seed)
        for name, values in metrics.items()
        for *seed, offset in np.argwhere(~np.isfinite(values)).tolist()
    ]
    if broken:
        offset, _, name, seed = min(broken)
        which = f" (number {seed[0] + 1} of {len(metrics[name])} seeds)" if seed else ""
        number = step - num_steps + offset
        raise NonFiniteLossError(
            f"{name}{which} is {metrics[name][(*seed, offset)]} at step {number + 1}",
            _videos_of_batch(select_seed(state, *seed) if seed else state, number, num_videos),
        )
    means = {name: values.mean(axis=-1, dtype=np.float64) for name, values in metrics.items()}
    return Chunk(step, state, num_steps, {n: m if m.ndim else float(m) for n, m in means.items()})


def _videos_of_batch(state: TrainState, step: int, num_videos: int) -> list[int]:
    """Positions of the videos in the batch of the step after ``step`` steps, which the key determines."""
    config = state.config
    any_lengths = jnp.full(num_videos, config.num_snippets, jnp.int32)  # they do not change which videos
    plan = plan_batch(
        parallel.local_copy(state.key),
        step,
        any_lengths,
        batch_size=config.batch_size,
        num_snippets=config.num_snippets,
    )
    return np.asarray(plan.videos).tolist()
