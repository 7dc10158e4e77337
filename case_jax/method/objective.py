"""The objective of a batch: forward pass, the three pseudo-labels, and Eq. (14)."""

from collections.abc import Iterable, Mapping
from typing import TypedDict

import jax
import jax.numpy as jnp

from case_jax.config import CaseConfig
from case_jax.method import labels as labeling
from case_jax.method import losses
from case_jax.method.network import (
    CaseNetwork,
    calibrated_cas,
    class_probabilities,
    cluster_classification_logits,
    mean_over_streams,
    run_network,
)
from case_jax.sinkhorn import SinkhornResult

__all__ = ["Batch", "joint_loss"]


class Batch(TypedDict):
    """B training videos, T snippets of each."""

    features: Mapping[str, jax.Array]  # stream name -> (B, T, D) float32 or bfloat16
    labels: jax.Array  # (B, G) float32 multi-hot Y


def joint_loss(
    params: Mapping,
    batch: Batch,
    cluster_labels: jax.Array,
    step: jax.Array | int,
    *,
    network: CaseNetwork,
    config: CaseConfig,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
    """The overall loss L of Eq. (14); gradients flow to ``params`` and through no label.

    Args:
        params: parameters with prototypes of length 1 (`case_jax.method.network.normalize_prototypes`).
        batch: as `case_jax.training.step.train_step`.
        cluster_labels: (K, 2) Q^C of the last step, for the prior of Eq. (11).
        step: () int, steps taken before this one; only what is beyond the paper depends on it.
        network: the network.
        config: hyper-parameters.

    Returns:
        () loss, and (the metrics that `train_step` describes, (K, 2) Q^C of this step).
    """
    labels = batch["labels"]
    outputs = run_network(network, params, batch["features"])
    streams = list(outputs.values())
    cluster_logits = _present(out.cluster_logits for out in streams)

    p_a = mean_over_streams(out.attention for out in streams)
    activations = calibrated_cas(outputs)
    if config.settling_steps:
        activations = jnp.where(step < config.settling_steps, class_probabilities(outputs), activations)
    selected = labeling.top_k_mask(activations, config.top_k)
    q_a = labeling.label_foreground(selected, labels)

    terms = {}
    extras: dict[str, jax.Array] = {}
    q_c = cluster_labels
    if config.scc:
        snippets = _label_snippets(mean_over_streams(cluster_logits), p_a, cluster_labels, config)
        q_s = snippets.plan.reshape(cluster_logits[0].shape)
        terms["clustering"] = _total(losses.clustering_loss(logits, q_s) for logits in cluster_logits)
        extras["entropy_snippets"] = _mean_entropy(snippets.plan)
        extras["marginal_error"] = snippets.marginal_error
    if config.ccc:
        ccc_foreground = jax.lax.stop_gradient(p_a) if config.ccc_foreground == "attention" else q_a
        class_logits = [
            cluster_classification_logits(embedding, q_s, ccc_foreground, rho=config.rho)
            for embedding in _present(out.embedding for out in streams)
        ]
        q_c = labeling.label_clusters(
            mean_over_streams(class_logits),
            ccc_foreground.mean() if config.ccc_marginal == "foreground" else None,
            epsilon=config.epsilon,
            num_iters=config.sinkhorn_iters,
        ).plan
        terms["cluster_classification"] = _total(
            losses.cluster_classification_loss(logits, q_c) for logits in class_logits
        )
        extras["entropy_clusters"] = _mean_entropy(q_c)
        extras["foreground_clusters"] = q_c[:, 0].mean()

    foreground = q_a
    if config.attention_labels != "top_k":
        p_t = jnp.matmul(q_s, cluster_labels[:, 0], precision=jax.lax.Precision.HIGHEST)
        extended = labeling.extend_foreground(q_a, p_a, p_t, rule=config.attention_labels)
        foreground = jnp.where(step < config.agreement_step, q_a, extended)
    pooled = selected
    if config.settling_steps:
        pooled = selected | (step < config.settling_steps)
    terms["video"] = mean_over_streams(losses.video_loss(out.cas, pooled, labels) for out in streams)
    extras["foreground_snippets"] = foreground.mean()
    terms["attention"] = _total(
        losses.attention_loss(out.attention, foreground, gamma=config.gamma) for out in streams
    )

    loss = losses.total_loss(**terms, lambda_s=config.lambda_s, lambda_c=config.lambda_c)
    metrics = {"loss": loss, **{f"loss_{name}": value for name, value in terms.items()}, **extras}
    return loss, (metrics, q_c)


def _label_snippets(
    cluster_logits: jax.Array, attention: jax.Array, cluster_labels: jax.Array, config: CaseConfig
) -> SinkhornResult:
    """Q^S of a batch, from what the streams agree on: (B, T, K) and (B, T) means of their L^S and P^A."""
    # Without CCC nobody classifies the clusters, so there is nothing to build the prior from: Eq. (10).
    with_prior = config.ccc and config.scc_prior and config.scc_transport
    return labeling.label_snippets(
        cluster_logits.reshape(-1, config.num_clusters),
        attention.reshape(-1),
        cluster_labels[:, 0] if with_prior else None,
        epsilon=config.epsilon,
        num_iters=config.sinkhorn_iters,
        sigma=config.sigma,
        rank=config.prior_rank,
        transport=config.scc_transport,
        hard=config.scc_labels == "hard",
    )


def _present(arrays: Iterable[jax.Array | None]) -> list[jax.Array]:
    return [array for array in arrays if array is not None]


def _total(values: Iterable[jax.Array]) -> jax.Array:
    first, *others = values
    return sum(others, start=first)


def _mean_entropy(plan: jax.Array) -> jax.Array:
    return jnp.mean(jnp.sum(jax.scipy.special.entr(plan), axis=-1))
