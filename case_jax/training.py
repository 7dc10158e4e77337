"""The training state, one pure training step with both Sinkhorn solves in it, and the loop."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from case_jax import parallel
from case_jax.config import CaseConfig
from case_jax.data.feature_files import video_length
from case_jax.data.host_batches import HostBatches, host_batches
from case_jax.data.packed import PackedFeatures, pack
from case_jax.data.samplers import gather_batch, plan_batch
from case_jax.model import CaseNetwork, normalize_prototypes
from case_jax.objective import Batch, joint_loss

__all__ = [
    "NonFiniteLossError",
    "Report",
    "TrainState",
    "TrainingSet",
    "create_train_state",
    "fit",
    "make_optimizer",
    "select_seed",
    "stack_seeds",
    "train_chunk",
    "train_step",
]


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


class TrainState(flax.struct.PyTreeNode):
    """Everything a checkpoint must hold (and, static, what the step needs to know)."""

    step: jax.Array  # () int32, steps taken
    params: dict  # stream -> layer -> arrays, see `CaseNetwork`
    opt_state: optax.OptState
    key: jax.Array  # the run's PRNG key; never changes, steps fold themselves in
    cluster_labels: jax.Array  # (K, 2) Q^C of the last step; 1/K everywhere before the first one
    config: CaseConfig = flax.struct.field(pytree_node=False)
    network: CaseNetwork = flax.struct.field(pytree_node=False)


def make_optimizer(config: CaseConfig) -> optax.GradientTransformation:
    """Adam with L2 weight decay added to the gradient (not decoupled), as published."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.adam(config.learning_rate, b1=0.9, b2=0.999, eps=1e-8),
    )


def create_train_state(
    config: CaseConfig, key: jax.Array, *, stream_widths: Mapping[str, int], num_classes: int
) -> TrainState:
    """A fresh state.

    Args:
        config: hyper-parameters.
        key: PRNG key of the run: initial parameters, shuffling and snippet sampling follow from it.
        stream_widths: stream name -> D, in the order of the streams, e.g. {"rgb": 1024, "flow": 1024}.
        num_classes: G.

    Returns:
        `TrainState` at step 0.
    """
    network = CaseNetwork.from_config(config, streams=tuple(stream_widths), num_classes=num_classes)
    init_key, run_key = jax.random.split(key)
    sample = {name: jax.ShapeDtypeStruct((1, 1, width), jnp.float32) for name, width in stream_widths.items()}
    params = network.lazy_init(init_key, sample)["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=make_optimizer(config).init(params),
        key=run_key,
        cluster_labels=jnp.full((config.num_clusters, 2), 1 / config.num_clusters, jnp.float32),
        config=config,
        network=network,
    )


def stack_seeds(states: Sequence[TrainState]) -> TrainState:
    """States of S seeds as one `TrainState`, every array with a leading axis S, for `fit` to train at once.

    `select_seed` takes one seed's state out of it.
    """
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *states)


def select_seed(states: TrainState, seed: int) -> TrainState:
    """One seed's state out of those of many seeds."""
    return jax.tree.map(lambda array: array[seed], states)


def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of joint training, Eq. (14). Pure; jit it where it is called.

    Args:
        state: the state; its Q^C feeds this step's prior (Eq. 11).
        batch: "features": stream name -> (B, T, D) float32 or bfloat16; "labels": (B, G) float32 multi-hot.

    Returns:
        The next state, and scalars: the weighted ``loss`` and its unweighted terms ``loss_video``,
        ``loss_attention``, ``loss_clustering``, ``loss_cluster_classification``; ``foreground_snippets``, the
        share of snippets that L_A takes for foreground; the ``gradient_norm`` over all parameters, without
        weight decay; with clustering also the mean entropies ``entropy_snippets`` H(Q^S) and
        ``entropy_clusters`` H(Q^C) in nats, the ``marginal_error`` of Q^S, and ``foreground_clusters``, the
        mean of Q^C[:, 0].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> config = CaseConfig(num_snippets=16, hidden_dim=8, num_clusters=4)
        >>> state = create_train_state(
        ...     config, jax.random.key(0), stream_widths={"rgb": 5, "flow": 3}, num_classes=2
        ... )
        >>> batch = {
        ...     "features": {"rgb": jnp.ones((2, 16, 5)), "flow": jnp.ones((2, 16, 3))},
        ...     "labels": jnp.array([[1.0, 0.0], [1.0, 1.0]]),
        ... }
        >>> state, metrics = jax.jit(train_step)(state, batch)
        >>> int(state.step), state.cluster_labels.shape, bool(jnp.isfinite(metrics["loss"]))
        (1, (4, 2), True)
    """
    params = normalize_prototypes(state.params)
    gradients, (metrics, cluster_labels) = jax.grad(joint_loss, has_aux=True)(
        params, batch, state.cluster_labels, state.step, network=state.network, config=state.config
    )
    updates, opt_state = make_optimizer(state.config).update(gradients, state.opt_state, params)
    new_state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(params, updates),
        opt_state=opt_state,
        cluster_labels=cluster_labels,
    )
    # The norm is infinite where Adam's second moments are, too: weights that would never move again, while
    # every loss stays finite.
    return new_state, {**metrics, "gradient_norm": optax.tree.norm(gradients)}


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


class Report(NamedTuple):
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
) -> Iterator[Report]:
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
        mesh: the devices to divide batches over, `case_jax.parallel.make_mesh`; default the first one.
        on_device: keep all features on every device. Otherwise the host gathers batches ahead of time
            from ``features``, which must then be given per video; of one seed only.
        num_workers: processes that gather, if not ``on_device``; see `host_batches`.

    Yields:
        `Report`. Its state is a copy that stays valid.

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


def _report(step: int, state: TrainState, num_steps: int, metrics, *, num_videos: int) -> Report:
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
    return Report(step, state, num_steps, {n: m if m.ndim else float(m) for n, m in means.items()})


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
