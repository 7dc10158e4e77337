"""The objective of a batch: forward pass, the three kinds of pseudo-labels, and the terms of Eq. (14).

A new loss is a function in `case_jax.method.losses`, a row of `LOSS_TERMS`, and a function here that
`joint_loss` calls.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import jax
import jax.numpy as jnp

from case_jax.config import CaseConfig
from case_jax.method import losses
from case_jax.method.labels import (
    extend_foreground,
    label_clusters,
    label_foreground,
    label_snippets,
    top_k_mask,
)
from case_jax.method.network import (
    CaseNetwork,
    StreamOutput,
    calibrated_cas,
    class_probabilities,
    cluster_classification_logits,
    mean_over_streams,
    run_network,
)
from case_jax.sinkhorn import SinkhornResult

__all__ = ["LOSS_TERMS", "METRICS", "Batch", "LossTerm", "joint_loss", "total_loss"]


class LossTerm(NamedTuple):
    """One term of the objective."""

    metric: str  # its name among the metrics; the metric is the term before it is weighted
    symbol: str  # the paper's
    short: str  # for the progress line
    meaning: str
    weight: str | None = None  # the field of `CaseConfig` that weights it; None for weight 1


# In the order of Eq. (14), which is the order of adding.
LOSS_TERMS = (
    LossTerm("loss_video", "L_V", "video", "video classification loss, Eq. (1)"),
    LossTerm("loss_attention", "L_A", "att", "attention loss, Eq. (2)"),
    LossTerm("loss_clustering", "L_S", "clust", "snippet clustering loss, Eq. (3)", "lambda_s"),
    LossTerm(
        "loss_cluster_classification", "L_C", "class", "cluster classification loss, Eq. (6)", "lambda_c"
    ),
)

# Every metric of a training step -> what it is. The names are those of metrics.jsonl and history.jsonl: both
# "foreground_..." are shares in [0, 1].
METRICS: dict[str, str] = {
    "loss": "L, the weighted sum of the terms, Eq. (14)",
    **{term.metric: f"{term.symbol}, {term.meaning}" for term in LOSS_TERMS},
    "foreground_snippets": "share of the snippets that L_A takes for foreground",
    "foreground_clusters": "share of foreground in the labels of clusters, mean of Q^C[:, 0]",
    "entropy_snippets": "mean entropy of a snippet's labels Q^S, in nats",
    "entropy_clusters": "mean entropy of a cluster's labels Q^C, in nats",
    "marginal_error": "distance of the clusters' shares in Q^S from equal shares, Eq. (9), in [0, 2]",
    "gradient_norm": "norm of the gradient over all parameters, without weight decay",
}

Metrics = dict[str, jax.Array]  # scalars
Term = tuple[jax.Array, Metrics]  # an unweighted loss, and what else is worth a curve


class Batch(TypedDict):
    """B training videos, T snippets of each."""

    features: Mapping[str, jax.Array]  # stream name -> (B, T, D) float32 or bfloat16
    labels: jax.Array  # (B, G) float32 multi-hot Y; all 0 for a video without any action


def joint_loss(
    params: Mapping,
    batch: Batch,
    cluster_labels: jax.Array,
    step: jax.Array | int,
    *,
    network: CaseNetwork,
    config: CaseConfig,
) -> tuple[jax.Array, tuple[Metrics, jax.Array]]:
    """The overall loss L of Eq. (14). Gradients flow to ``params``, and through no label.

    Args:
        params: parameters with prototypes of length 1 (`case_jax.method.network.normalize_prototypes`).
        batch: B training videos.
        cluster_labels: (K, 2) float32, Q^C of the last step, for the prior of Eq. (11).
        step: () int, steps taken before this one; only settings beyond the paper depend on it.
        network: the network.
        config: hyper-parameters.

    Returns:
        () float32 loss, and (the metrics of `METRICS` except the gradient's norm, (K, 2) Q^C of this step).
    """
    outputs = run_network(network, params, batch["features"])
    streams = list(outputs.values())
    selected = _select_snippets(outputs, step, config)
    q_a = label_foreground(selected, batch["labels"])

    terms: dict[str, Term] = {}
    q_s, q_c = None, cluster_labels
    if config.scc:
        q_s = _label_snippets(streams, cluster_labels, config)
        terms["loss_clustering"] = _clustering_term(streams, q_s)
    if q_s is not None and config.ccc:
        class_logits, q_c = _label_clusters(streams, q_s, q_a, config)
        terms["loss_cluster_classification"] = _cluster_classification_term(class_logits, q_c)
    attended = _label_attention(streams, q_a, q_s, cluster_labels, step, config)
    if config.has_background:  # all of a video without any action is background, whatever the clusters say
        attended = attended * _has_action(batch["labels"])
    terms["loss_video"] = _video_term(streams, selected, batch["labels"], step, config)
    terms["loss_attention"] = _attention_term(streams, attended, config)

    values = {name: value for name, (value, _) in terms.items()}
    loss = total_loss(values, config)
    metrics = {"loss": loss, **values}
    for _, more in terms.values():
        metrics |= more
    return loss, (metrics, q_c)


def total_loss(terms: Mapping[str, jax.Array], config: CaseConfig) -> jax.Array:
    """Overall objective L = (L_V + L_A) + lambda_S L_S + lambda_C L_C, Eq. (14).

    Args:
        terms: metric of `LOSS_TERMS` -> () float, for the terms of the components that are on.
        config: the weights.

    Returns:
        () float, the weighted sum.
    """
    present = [term for term in LOSS_TERMS if term.metric in terms]
    return _total(
        getattr(config, term.weight) * terms[term.metric] if term.weight else terms[term.metric]
        for term in present
    )


# Pseudo-labels


def _select_snippets(
    outputs: Mapping[str, StreamOutput], step: jax.Array | int, config: CaseConfig
) -> jax.Array:
    """(B, T, G) bool, the top-k snippets of every class by the calibrated T-CAS."""
    activations = calibrated_cas(outputs)
    if config.settling_steps:  # the attention knows nothing yet
        activations = jnp.where(step < config.settling_steps, class_probabilities(outputs), activations)
    return top_k_mask(activations, config.top_k)


def _label_snippets(
    streams: Sequence[StreamOutput], cluster_labels: jax.Array, config: CaseConfig
) -> SinkhornResult:
    """Q^S, (B * T, K), from the means of L^S and P^A over streams."""
    # Without CCC clusters have no labels to build the prior from: Eq. (10).
    with_prior = config.ccc and config.scc_prior and config.scc_transport
    return label_snippets(
        mean_over_streams(_present(out.cluster_logits for out in streams)).reshape(-1, config.num_clusters),
        mean_over_streams(out.attention for out in streams).reshape(-1),
        cluster_labels[:, 0] if with_prior else None,
        epsilon=config.epsilon,
        num_iters=config.sinkhorn_iters,
        sigma=config.sigma,
        rank=config.prior_rank,
        transport=config.scc_transport,
        hard=config.scc_labels == "hard",
    )


def _label_clusters(
    streams: Sequence[StreamOutput], q_s: SinkhornResult, q_a: jax.Array, config: CaseConfig
) -> tuple[list[jax.Array], jax.Array]:
    """Each stream's logits L^C, (K, 2), and the clusters' labels Q^C, (K, 2)."""
    foreground = q_a
    if config.ccc_foreground == "attention":
        foreground = jax.lax.stop_gradient(mean_over_streams(out.attention for out in streams))
    class_logits = [
        cluster_classification_logits(embedding, _per_video(q_s.plan, q_a), foreground, rho=config.rho)
        for embedding in _present(out.embedding for out in streams)
    ]
    q_c = label_clusters(
        mean_over_streams(class_logits),
        foreground.mean() if config.ccc_marginal == "foreground" else None,
        epsilon=config.epsilon,
        num_iters=config.sinkhorn_iters,
    ).plan
    return class_logits, q_c


def _label_attention(
    streams: Sequence[StreamOutput],
    q_a: jax.Array,
    q_s: SinkhornResult | None,
    cluster_labels: jax.Array,
    step: jax.Array | int,
    config: CaseConfig,
) -> jax.Array:
    """(B, T), the foreground of L_A: Q^A; beyond the paper, from a step on, also what the clusters know."""
    if config.attention_labels == "top_k" or q_s is None:
        return q_a
    p_a = mean_over_streams(out.attention for out in streams)
    p_t = jnp.matmul(_per_video(q_s.plan, q_a), cluster_labels[:, 0], precision=jax.lax.Precision.HIGHEST)
    extended = extend_foreground(q_a, p_a, p_t, rule=config.attention_labels)
    return jnp.where(step < config.agreement_step, q_a, extended)


# Terms


def _video_term(
    streams: Sequence[StreamOutput],
    selected: jax.Array,
    video_labels: jax.Array,
    step: jax.Array | int,
    config: CaseConfig,
) -> Term:
    """L_V, mean over streams."""
    pooled = selected
    if config.settling_steps:  # beyond the paper: whole videos at first
        pooled = selected | (step < config.settling_steps)
    return mean_over_streams(
        losses.video_loss(out.cas, pooled, video_labels, background=config.has_background) for out in streams
    ), {}


def _attention_term(streams: Sequence[StreamOutput], foreground: jax.Array, config: CaseConfig) -> Term:
    """L_A, sum over streams."""
    loss = _total(losses.attention_loss(out.attention, foreground, gamma=config.gamma) for out in streams)
    return loss, {"foreground_snippets": foreground.mean()}


def _clustering_term(streams: Sequence[StreamOutput], q_s: SinkhornResult) -> Term:
    """L_S, sum over streams."""
    loss = _total(
        losses.clustering_loss(logits, q_s.plan.reshape(logits.shape))
        for logits in _present(out.cluster_logits for out in streams)
    )
    return loss, {"entropy_snippets": _mean_entropy(q_s.plan), "marginal_error": q_s.marginal_error}


def _cluster_classification_term(class_logits: Sequence[jax.Array], q_c: jax.Array) -> Term:
    """L_C, sum over streams."""
    loss = _total(losses.cluster_classification_loss(logits, q_c) for logits in class_logits)
    return loss, {"entropy_clusters": _mean_entropy(q_c), "foreground_clusters": q_c[:, 0].mean()}


def _present(arrays: Iterable[jax.Array | None]) -> list[jax.Array]:
    return [array for array in arrays if array is not None]


def _has_action(video_labels: jax.Array) -> jax.Array:
    """(B, 1) in {0, 1}, whether a video has any action; ``video_labels`` is (B, G)."""
    return jnp.max(video_labels, axis=-1, keepdims=True)


def _per_video(plan: jax.Array, like: jax.Array) -> jax.Array:
    """(B * T, K) as (B, T, K); ``like`` is (B, T)."""
    return plan.reshape(*like.shape, -1)


def _total(values: Iterable[jax.Array]) -> jax.Array:
    first, *others = values
    return sum(others, start=first)


def _mean_entropy(plan: jax.Array) -> jax.Array:
    """Mean over rows of the entropy of a row, in nats."""
    return jnp.mean(jnp.sum(jax.scipy.special.entr(plan), axis=-1))
