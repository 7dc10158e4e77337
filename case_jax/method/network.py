"""The two-stream network (Fig. 2a) and the cluster classification on top of it (Fig. 2b)."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from case_jax.config import CaseConfig, Precision
from case_jax.method.matmul import linear, linear_relu, weighted_sums

__all__ = [
    "CaseNetwork",
    "StreamOutput",
    "calibrated_cas",
    "class_probabilities",
    "class_softmax",
    "cluster_classification_logits",
    "mean_over_streams",
    "normalize_prototypes",
    "run_network",
    "weighted_prototypes",
]

# Floor of squared norms. A snippet whose ReLUs are all off has embedding 0, and its direction must be 0, not
# NaN.
_NORM_FLOOR = 1e-24


class StreamOutput(NamedTuple):
    """The outputs of one stream for B videos of T snippets; all float32."""

    cas: jax.Array  # (B, T, G) T-CAS logits
    attention: jax.Array  # (B, T) foreground probability P^A
    embedding: jax.Array | None  # (B, T, H) snippet embeddings E, not normalised; None if dropped
    cluster_logits: jax.Array | None  # (B, T, K) L^S; None without the clustering component
    background: jax.Array | None = None  # (B, T) logits of the background class, all 0; None without it


class CaseNetwork(nn.Module):
    """One network for each stream; the streams share no parameters.

    Attributes:
        streams: names of the streams, in order, for example ("rgb", "flow").
        num_classes: G.
        hidden_dim: H, width of both encoders.
        num_clusters: K, or 0 for the baseline without a clustering head.
        cluster_temperature: factor on the cosine that gives the cluster logits L^S.
        precision: precision of the matrix products with the layers' kernels.
        background: whether the classes of the T-CAS have a background class beside them. Its logit is 0
            everywhere. A layer of its own would add nothing, because only differences of logits count.
    """

    streams: tuple[str, ...]
    num_classes: int
    hidden_dim: int = CaseConfig.hidden_dim
    num_clusters: int = CaseConfig.num_clusters
    cluster_temperature: float = CaseConfig.cluster_temperature
    precision: Precision = CaseConfig.matmul_precision
    background: bool = False

    @classmethod
    def from_config(cls, config: CaseConfig, *, streams: tuple[str, ...], num_classes: int) -> "CaseNetwork":
        """The network that a config describes.

        Args:
            config: hyper-parameters.
            streams: names of the data set's streams, in order.
            num_classes: G.

        Returns:
            `CaseNetwork`.
        """
        return cls(
            streams=tuple(streams),
            num_classes=num_classes,
            hidden_dim=config.hidden_dim,
            num_clusters=config.num_clusters if config.scc else 0,
            cluster_temperature=config.cluster_temperature,
            precision=config.matmul_precision,
            background=config.has_background,
        )

    @nn.compact
    def __call__(self, features: Mapping[str, jax.Array]) -> dict[str, StreamOutput]:
        """Scores snippets.

        Args:
            features: stream name -> (B, T, D) float32 or bfloat16; D may differ between streams.

        Returns:
            Stream name -> `StreamOutput`, in the order of ``streams``.
        """
        outputs: dict[str, StreamOutput] = {}
        for name in self.streams:
            stream = _StreamNetwork(
                self.num_classes,
                self.hidden_dim,
                self.num_clusters,
                self.cluster_temperature,
                self.precision,
                name=name,
            )
            outputs[name] = stream(features[name])
            if self.background:
                zeros = jnp.zeros_like(outputs[name].attention)
                outputs[name] = outputs[name]._replace(background=zeros)
        return outputs


class _StreamNetwork(nn.Module):
    """The two encoders of a stream, and the heads on them."""

    num_classes: int
    hidden_dim: int
    num_clusters: int
    cluster_temperature: float
    precision: Precision

    @nn.compact
    def __call__(self, features: jax.Array) -> StreamOutput:
        batch, num_snippets, width = features.shape
        rows = features.reshape(-1, width)

        def per_snippet(values: jax.Array) -> jax.Array:
            return values.reshape(batch, num_snippets, -1)

        hidden = linear_relu(rows, *_Affine(width, self.hidden_dim, name="cas_encoder")(), self.precision)
        cas = linear(hidden, *_Affine(self.hidden_dim, self.num_classes, name="cas_head")(), self.precision)
        embedding = linear_relu(
            rows, *_Affine(width, self.hidden_dim, name="attention_encoder")(), self.precision
        )
        kernel, bias = _Affine(self.hidden_dim, 1, name="attention_head")()
        if not self.num_clusters:
            attention = nn.sigmoid(linear(embedding, kernel, bias, self.precision))
            return StreamOutput(
                per_snippet(cas), attention.reshape(batch, num_snippets), per_snippet(embedding), None
            )
        prototypes = self.param(
            "prototypes", _uniform_fan_in(self.hidden_dim), (self.num_clusters, self.hidden_dim)
        )
        # The attention head and the prototypes read the same embedding: one product for both.
        heads = linear(
            embedding,
            jnp.concatenate([kernel, _unit_constant_norm(prototypes).T], axis=1),
            jnp.pad(bias, (0, self.num_clusters)),
            self.precision,
        )
        attention = nn.sigmoid(heads[:, 0])
        cluster_logits = self.cluster_temperature * heads[:, 1:] * _inverse_norm(embedding)
        return StreamOutput(
            per_snippet(cas),
            attention.reshape(batch, num_snippets),
            per_snippet(embedding),
            per_snippet(cluster_logits),
        )


class _Affine(nn.Module):
    """The kernel (inputs, outputs) and bias (outputs,) of a layer."""

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        init = _uniform_fan_in(self.inputs)
        return (
            self.param("kernel", init, (self.inputs, self.outputs)),
            self.param("bias", init, (self.outputs,)),
        )


def run_network(
    network: CaseNetwork, params: Mapping, features: Mapping[str, jax.Array]
) -> dict[str, StreamOutput]:
    """The outputs of a network for given parameters; the functional form of `CaseNetwork`. Pure.

    Args:
        network: the network.
        params: its parameters.
        features: stream name -> (B, T, D) float32 or bfloat16.

    Returns:
        Stream name -> `StreamOutput`, in the order of the network's streams.
    """
    # For Flax the type of `apply` is that of any module's result.
    return cast(dict[str, StreamOutput], network.apply({"params": params}, features))


def mean_over_streams(values: Iterable[jax.Array]) -> jax.Array:
    """The mean of arrays of equal shape, one of each stream."""
    first, *others = values
    return sum(others, start=first) / (1 + len(others))


def class_softmax(logits: jax.Array, background: jax.Array | None) -> jax.Array:
    """Softmax over the classes and, if there is one, a background class, whose share is then left off.

    With one class this is the sigmoid of its logit less the background's.

    Args:
        logits: (..., G) float.
        background: (...) float, logits of the background class, or None.

    Returns:
        (..., G) float in [0, 1]; classes sum to 1, or to the share that is not background.

    Example:
        >>> import jax.numpy as jnp
        >>> print(class_softmax(jnp.zeros(3), jnp.zeros(())))
        [0.25 0.25 0.25]
    """
    if background is None:
        return jax.nn.softmax(logits, axis=-1)
    return jax.nn.softmax(jnp.concatenate([logits, background[..., None]], axis=-1), axis=-1)[..., :-1]


def class_probabilities(outputs: Mapping[str, StreamOutput]) -> jax.Array:
    """The T-CAS as probabilities: the mean over streams of the logits' softmax over classes.

    A background class, if there is one, has no part in it: the T-CAS tells which action it is, and the
    attention whether there is any. Only where there is a single class does the T-CAS tell that, too.

    Args:
        outputs: stream name -> `StreamOutput`.

    Returns:
        (B, T, G) float32 in [0, 1]; classes sum to 1, unless the only one stands against background.
    """
    return mean_over_streams(
        class_softmax(out.cas, out.background if out.cas.shape[-1] == 1 else None) for out in outputs.values()
    )


def calibrated_cas(outputs: Mapping[str, StreamOutput], *extra_foreground: jax.Array) -> jax.Array:
    """The T-CAS calibrated by foreground probabilities, all with the same weight.

    With S streams: (mean over streams of softmax_G(CAS) + sum over streams of P^A + ...) / (S + 1 + ...).
    Training and the baseline's testing use P^A alone; clustering-assisted testing adds each stream's P^T.

    Args:
        outputs: stream name -> `StreamOutput`.
        *extra_foreground: (B, T) float, foreground probabilities besides P^A.

    Returns:
        (B, T, G) float32 activations in [0, 1].
    """
    probability = class_probabilities(outputs)
    foreground = [out.attention for out in outputs.values()] + list(extra_foreground)
    return (probability + jnp.expand_dims(sum(foreground), -1)) / (1 + len(foreground))


def weighted_prototypes(weights: jax.Array, embedding: jax.Array) -> jax.Array:
    """Unit-length weighted means of snippet embeddings, Eq. (4).

    Eq. (4) divides by the sum of the weights. That does not change a direction, and only directions are used.

    Args:
        weights: (B, T, M) float >= 0, weights of each snippet for M prototypes; no gradient.
        embedding: (B, T, H) float, embeddings E.

    Returns:
        (M, H) float32 prototypes of length 1, or 0 if all their weights are 0.
    """
    rows = embedding.reshape(-1, embedding.shape[-1])
    return _unit(weighted_sums(weights.reshape(-1, weights.shape[-1]), rows))


def cluster_classification_logits(
    embedding: jax.Array, snippet_labels: jax.Array, foreground: jax.Array, *, rho: float
) -> jax.Array:
    """Similarity of clusters to foreground and background, the logits L^C of Eq. (5).

    Args:
        embedding: (B, T, H) float, embeddings E of one stream; gradients flow through both kinds of
            prototypes.
        snippet_labels: (B, T, K) float, Q^S; no gradient.
        foreground: (B, T) float, Q^A in {0, 1} (beyond the paper, P^A); no gradient.
        rho: factor on the cosine.

    Returns:
        (K, 2) float32 logits; column 0 is foreground, column 1 background.
    """
    snippet_labels, foreground = jax.lax.stop_gradient((snippet_labels, foreground))
    sides = jnp.stack([foreground, 1 - foreground], axis=-1)
    # One pass over the embeddings for both kinds of prototypes.
    prototypes = weighted_prototypes(jnp.concatenate([snippet_labels, sides], axis=-1), embedding)
    clusters, foreground_background = prototypes[:-2], prototypes[-2:]
    return rho * jnp.matmul(clusters, foreground_background.T, precision=jax.lax.Precision.HIGHEST)


def normalize_prototypes(params: Mapping) -> dict:
    """Scales every cluster prototype to length 1, as the published code does before each forward pass.

    The optimiser, with its weight decay, then acts on the normalised prototypes.

    Args:
        params: parameters of a `CaseNetwork`.

    Returns:
        The same tree, in which the rows of each ``prototypes``, (K, H), have length 1.
    """
    return {
        stream: {name: _unit(value) if name == "prototypes" else value for name, value in layers.items()}
        for stream, layers in params.items()
    }


def _uniform_fan_in(inputs: int):
    """U(-1/sqrt(inputs), 1/sqrt(inputs)), the published initialisation of weights and biases."""
    bound = 1 / math.sqrt(inputs)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return init


def _inverse_norm(vectors: jax.Array) -> jax.Array:
    """(..., 1) inverse lengths of (..., H) vectors."""
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return jax.lax.rsqrt(jnp.maximum(squared, _NORM_FLOOR))


def _unit(vectors: jax.Array) -> jax.Array:
    """(..., H) vectors, scaled to length 1."""
    return vectors * _inverse_norm(vectors)


def _unit_constant_norm(vectors: jax.Array) -> jax.Array:
    """`_unit` without gradient through the length, because prototypes are normalised in place."""
    return vectors * jax.lax.stop_gradient(_inverse_norm(vectors))
