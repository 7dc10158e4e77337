"""The training state, one pure training step with both Sinkhorn solves in it, and the loop."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from case_jax import labeling, losses
from case_jax.config import CaseConfig
from case_jax.data.samplers import plan_batches
from case_jax.model import (
    CaseNetwork,
    calibrated_cas,
    cluster_classification_logits,
    normalize_prototypes,
)

__all__ = [
    "NonFiniteLossError",
    "Report",
    "TrainState",
    "create_train_state",
    "fit",
    "gather_features",
    "make_optimizer",
    "train_step",
]


class NonFiniteLossError(ArithmeticError):
    """A metric became NaN or infinite; the message names it and the step."""


@flax.struct.dataclass
class TrainState:
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


def train_step(
    state: TrainState, batch: Mapping[str, Mapping[str, jax.Array] | jax.Array]
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of joint training, Eq. (14). Pure; jit it where it is called.

    Args:
        state: the state; its Q^C feeds this step's prior (Eq. 11).
        batch: "features": stream name -> (B, T, D) float32; "labels": (B, G) float32 multi-hot.

    Returns:
        The next state, and scalars: the weighted ``loss`` and its unweighted terms ``loss_video``,
        ``loss_attention``, ``loss_clustering``, ``loss_cluster_classification``; with clustering also the
        mean entropies ``entropy_snippets`` H(Q^S) and ``entropy_clusters`` H(Q^C) in nats, the
        ``marginal_error`` of Q^S, and ``foreground_clusters``, the mean of Q^C[:, 0].

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
    config = state.config
    params = normalize_prototypes(state.params)
    compute_loss = functools.partial(_loss, state=state, batch=batch)
    grads, (metrics, cluster_labels) = jax.grad(compute_loss, has_aux=True)(params)
    updates, opt_state = make_optimizer(config).update(grads, state.opt_state, params)
    new_state = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(params, updates),
        opt_state=opt_state,
        cluster_labels=cluster_labels,
    )
    return new_state, metrics


def _loss(params, *, state: TrainState, batch):
    config, labels = state.config, batch["labels"]
    outputs = state.network.apply({"params": params}, batch["features"])
    streams = list(outputs.values())

    selected = labeling.top_k_mask(calibrated_cas(outputs), config.top_k)
    q_a = labeling.attention_labels(selected, labels)

    terms = {
        "video": _mean(losses.video_loss(out.cas, selected, labels) for out in streams),
        "attention": sum(losses.attention_loss(out.attention, q_a, gamma=config.gamma) for out in streams),
    }
    extras = {}
    q_c = state.cluster_labels
    if config.scc:
        snippets = _label_snippets(streams, state)
        q_s = snippets.plan.reshape(streams[0].cluster_logits.shape)
        terms["clustering"] = sum(losses.clustering_loss(out.cluster_logits, q_s) for out in streams)
        extras["entropy_snippets"] = _mean_entropy(snippets.plan)
        extras["marginal_error"] = snippets.marginal_error
    if config.ccc:
        class_logits = [
            cluster_classification_logits(out.embedding, q_s, q_a, rho=config.rho) for out in streams
        ]
        q_c = labeling.cluster_labels(
            _mean(class_logits),
            q_a.mean() if config.ccc_marginal == "foreground" else None,
            epsilon=config.epsilon,
            num_iters=config.sinkhorn_iters,
        ).plan
        terms["cluster_classification"] = sum(
            losses.cluster_classification_loss(logits, q_c) for logits in class_logits
        )
        extras["entropy_clusters"] = _mean_entropy(q_c)
        extras["foreground_clusters"] = q_c[:, 0].mean()

    loss = losses.total_loss(**terms, lambda_s=config.lambda_s, lambda_c=config.lambda_c)
    metrics = {"loss": loss, **{f"loss_{name}": value for name, value in terms.items()}, **extras}
    return loss, (metrics, q_c)


def _label_snippets(streams, state: TrainState):
    """Q^S of a batch, from what the streams agree on (the means of their L^S and P^A)."""
    config = state.config
    # Without CCC nobody classifies the clusters, so there is nothing to build the prior from: Eq. (10).
    with_prior = config.ccc and config.scc_prior
    return labeling.snippet_cluster_labels(
        _mean(out.cluster_logits for out in streams).reshape(-1, config.num_clusters),
        _mean(out.attention for out in streams).reshape(-1),
        state.cluster_labels[:, 0] if with_prior else None,
        epsilon=config.epsilon,
        num_iters=config.sinkhorn_iters,
        sigma=config.sigma,
        rank=config.prior_rank,
    )


def _mean(values):
    values = list(values)
    return sum(values) / len(values)


def _mean_entropy(plan: jax.Array) -> jax.Array:
    return jnp.mean(jnp.sum(jax.scipy.special.entr(plan), axis=-1))


class Report(NamedTuple):
    """What `fit` yields after some steps."""

    step: int  # steps taken
    state: TrainState
    num_steps: int  # steps since the last report
    metrics: dict[str, float]  # means over these steps


def fit(
    state: TrainState,
    features: Sequence[Mapping[str, np.ndarray]],
    labels: np.ndarray,
    *,
    num_steps: int | None = None,
    report_every: int = 10,
) -> Iterator[Report]:
    """Trains, yielding now and then; resume by passing the state of any report.

    Args:
        state: where to start.
        features: per training video, stream name -> (T_v, D) float32, in host memory.
        labels: (V, G) float32 multi-hot video labels.
        num_steps: train until ``state.step`` reaches it; default ``state.config.num_steps``.
        report_every: steps between reports; reports fall on its multiples and on the last step.

    Yields:
        `Report`.

    Raises:
        NonFiniteLossError: at the first metric that is not finite.
        ValueError: if there are fewer videos than a batch holds.
    """
    config = state.config
    num_steps = config.num_steps if num_steps is None else num_steps
    streams = state.network.streams
    lengths = jnp.asarray([len(video[streams[0]]) for video in features], jnp.int32)
    jitted_step = jax.jit(train_step)

    step = int(state.step)
    while step < num_steps:
        chunk = min(report_every - step % report_every, num_steps - step)
        plan = plan_batches(
            state.key,
            step,
            lengths,
            num_steps=chunk,
            batch_size=config.batch_size,
            num_snippets=config.num_snippets,
            sampling=config.sampling,
        )
        history = []
        for videos, snippets in zip(np.asarray(plan.videos), np.asarray(plan.snippets)):
            batch = {
                "features": gather_features([features[v] for v in videos], snippets, streams),
                "labels": labels[videos],
            }
            state, metrics = jitted_step(state, batch)
            history.append(metrics)
        yield Report(step + chunk, state, chunk, _summarize(history, first_step=step + 1))
        step += chunk


def gather_features(
    videos: Sequence[Mapping[str, np.ndarray]], snippets: np.ndarray, streams: Sequence[str]
) -> dict[str, np.ndarray]:
    """Sampled snippets of some videos as a batch.

    Args:
        videos: per video, stream name -> (T_v, D).
        snippets: (B, T) int positions.
        streams: which streams, in order.

    Returns:
        Stream name -> (B, T, D).
    """
    return {name: np.stack([video[name][rows] for video, rows in zip(videos, snippets)]) for name in streams}


def _summarize(history: list[dict[str, jax.Array]], *, first_step: int) -> dict[str, float]:
    history = jax.device_get(history)
    losses_first = sorted(history[0], key=lambda name: (not name.startswith("loss"), name))
    for offset, metrics in enumerate(history):
        for name in losses_first:
            value = metrics[name]
            if not math.isfinite(value):
                raise NonFiniteLossError(
                    f"{name} is {float(value)} at step {first_step + offset}; expected a finite number "
                    "(is the learning rate too high, or are the features on a very large scale?)"
                )
    return {name: float(np.mean([m[name] for m in history])) for name in history[0]}
