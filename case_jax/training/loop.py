"""Training chunk by chunk: whole chunks of steps in one program, fed from the device or from the host."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from case_jax.data.feature_files import video_length
from case_jax.data.host_batches import HostBatches, host_batches
from case_jax.data.packed import PackedFeatures, pack
from case_jax.data.samplers import gather_batch, plan_batch
from case_jax.method.objective import Batch
from case_jax.training import parallel
from case_jax.training.state import TrainState, select_seed
from case_jax.training.step import train_step

__all__ = ["Chunk", "NonFiniteLossError", "TrainingSet", "fit", "train_chunk"]


class NonFiniteLossError(ArithmeticError):
    """A metric became NaN or infinite; the message names it, the step and the batch.

    Attributes:
        what: the metric, its value and the step, for example "loss is nan at step 5".
        videos: positions of the batch's videos among the training videos, from 0 on.
    """

    def __init__(self, what: str, videos: Sequence[int]):
        self.what, self.videos = what, tuple(videos)
        super().__init__(self._message(f"training videos {', '.join(map(str, self.videos))}"))

    def with_names(self, names: Sequence[str]) -> str:
        """The message, with the names of the batch's videos; ``names`` are those of all training videos."""
        return self._message(", ".join(names[video] for video in self.videos))

    def _message(self, batch: str) -> str:
        return (
            f"{self.what}, with a batch of {batch}; expected a finite number (is the learning rate too high, "
            "or are the features on a very large scale?)"
        )


class TrainingSet(NamedTuple):
    """All that training reads, on the device."""

    features: PackedFeatures  # of V videos
    labels: jax.Array | np.ndarray  # (V, G) float32 multi-hot video labels


def train_chunk(
    state: TrainState, training_set: TrainingSet, *, num_steps: int, mesh: Mesh | None = None
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Several steps in one program: draws, gathers and trains without the host. Pure.

    Args:
        state: the state.
        training_set: on the device.
        num_steps: how many steps (static under jit).
        mesh: the devices to divide every batch over (static under jit); default one.

    Returns:
        The state after the last step, and the metrics of `train_step` with a leading axis of steps.
    """
    config, features = state.config, training_set.features

    def one_step(state: TrainState, _):
        plan = plan_batch(
            state.key,
            state.step,
            jnp.asarray(features.lengths),
            batch_size=config.batch_size,
            num_snippets=config.num_snippets,
            sampling=config.sampling,
        )
        if mesh is not None:  # before the gather: each device gathers its own part
            plan = parallel.divide_batch(plan, mesh)
        labels = jnp.asarray(training_set.labels)[plan.videos]
        return train_step(state, Batch(features=gather_batch(features, plan), labels=labels))

    return jax.lax.scan(one_step, state, length=num_steps)


def _train_chunk_of_seeds(states, training_set, *, num_steps, mesh=None):
    chunk = functools.partial(train_chunk, num_steps=num_steps, mesh=mesh)
    return jax.vmap(chunk, in_axes=(0, None))(states, training_set)


_jitted_step = jax.jit(train_step, donate_argnums=0)


_jitted_chunk = jax.jit(train_chunk, static_argnames=("num_steps", "mesh"), donate_argnums=0)


_jitted_chunk_of_seeds = jax.jit(
    _train_chunk_of_seeds, static_argnames=("num_steps", "mesh"), donate_argnums=0
)


class Chunk(NamedTuple):
    """What `fit` yields after some steps. Of many seeds, every metric is an (S,) array."""

    step: int  # steps taken
    state: TrainState
    num_steps: int  # steps since the last report
    metrics: dict[str, float | np.ndarray]  # means over these steps


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
) -> Iterator[Chunk]:
    """Trains, yielding now and then; resume by passing the state of any report.

    The steps of a report run as one program, and on an accelerator the next ones start before a report is
    handed out, so that it works while the caller does. Batches follow from the state alone, so every way of
    feeding and any number of devices trains on the same ones.

    Args:
        state: where to start; of many seeds (`stack_seeds`), all of them train at once.
        features: of the training videos: packed, or per video stream name -> (T_v, D).
        labels: (V, G) float32 multi-hot video labels.
        num_steps: train until ``state.step`` reaches it; default ``state.config.num_steps``.
        report_every: steps between reports; reports fall on its multiples and on the last step.
        mesh: the devices to divide batches over, from `parallel.make_mesh`; default the first one.
        on_device: keep all features on every device. Otherwise the host gathers batches ahead of time
            from ``features``, which must then be given per video; of one seed only.
        num_workers: processes that gather, if not ``on_device``; see `host_batches`.

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
    feed = _feed_from_device if on_device else functools.partial(_feed_from_host, num_workers=num_workers)

    look_ahead = _runs_beside_the_host(mesh)
    running = parallel.replicate(state, mesh)
    running = jax.tree.map(jnp.copy, running)  # what runs is given away at every call
    unreported = None
    report = functools.partial(_report, num_videos=len(labels))
    with feed(state, features, labels, mesh=mesh, steps=range(step, num_steps)) as advance:
        while step < num_steps:
            length = min(report_every - step % report_every, num_steps - step)
            running, metrics = advance(running, length)
            step += length
            ahead = (step, jax.tree.map(jnp.copy, running), length, metrics)
            if unreported is not None:
                yield report(*unreported)
            unreported = ahead
            if not look_ahead:
                yield report(*unreported)
                unreported = None
        if unreported is not None:
            yield report(*unreported)


def _runs_beside_the_host(mesh: Mesh) -> bool:
    """Whether it pays to give the devices work ahead of time. A CPU would only hold more in memory."""
    return mesh.devices.flat[0].platform != "cpu"


@contextlib.contextmanager
def _feed_from_device(state, features, labels, *, mesh, steps):
    """Advances a state by a number of steps, with everything on the device."""
    del steps
    if not isinstance(features, PackedFeatures):
        features = pack(features, state.network.streams, state.config.feature_dtype)
    training_set = parallel.replicate(TrainingSet(features, np.asarray(labels)), mesh)
    chunk = _jitted_chunk_of_seeds if state.step.ndim else _jitted_chunk
    yield lambda state, length: chunk(state, training_set, num_steps=length, mesh=mesh)


@contextlib.contextmanager
def _feed_from_host(state, features, labels, *, mesh, steps, num_workers):
    """The same, from batches that the host gathers."""
    if state.step.ndim:
        raise ValueError("many seeds at once need their features on the device")
    config, streams = state.config, state.network.streams
    of_steps = HostBatches(
        key_data=np.asarray(jax.random.key_data(state.key)),
        videos=features,
        labels=np.asarray(labels),
        lengths=np.array([video_length(video) for video in features], np.int32),
        streams=streams,
        batch_size=config.batch_size,
        num_snippets=config.num_snippets,
        sampling=config.sampling,
        shard=jax.process_index(),
        num_shards=jax.process_count(),
    )
    batches = host_batches(of_steps, steps.start, steps.stop, num_workers=num_workers)

    def advance(state, length):
        history = []
        for _ in range(length):
            state, metrics = _jitted_step(state, parallel.from_local_batch(next(batches), mesh))
            history.append(metrics)
            # One step runs and at most one waits: more would only hold more batches in memory.
            jax.block_until_ready(history[-2:-1] if _runs_beside_the_host(mesh) else history[-1:])
        return state, history

    with contextlib.closing(batches):
        yield advance
        next(batches, None)  # workers that come to the end clean up better than those that are stopped


def _report(step: int, state: TrainState, num_steps: int, metrics, *, num_videos: int) -> Chunk:
    """Waits for a chunk's metrics and takes their means, unless one is not finite."""
    metrics = jax.device_get(parallel.local_copy(metrics))
    if isinstance(metrics, list):
        metrics = {name: np.stack([row[name] for row in metrics]) for name in metrics[0]}
    broken = [
        # The first step, and in it losses first: a loss that blew up explains the other metrics.
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
    """Positions of the videos in the batch that follows ``step`` steps; it follows from the key alone."""
    config = state.config
    plan = plan_batch(
        parallel.local_copy(state.key),
        step,
        jnp.full(num_videos, config.num_snippets, jnp.int32),  # which snippets are drawn does not matter here
        batch_size=config.batch_size,
        num_snippets=config.num_snippets,
    )
    return np.asarray(plan.videos).tolist()
