"""The two-stream network (Fig. 2a) and the cluster classification on top of it (Fig. 2b)."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from case_jax.config import CaseConfig
from case_jax.method.matmul import Precision, linear, linear_relu, weighted_sums

__all__ = [
    "CaseNetwork",
    "StreamOutput",
    "calibrated_cas",
    "class_probabilities",
    "cluster_classification_logits",
    "count_macs",
    "count_parameters",
    "mean_over_streams",
    "normalize_prototypes",
    "run_network",
    "weighted_prototypes",
]

# Floor of squared norms: a snippet whose ReLUs are all off has embedding 0, and 0 / 0 must stay 0.
_NORM_FLOOR = 1e-24


class StreamOutput(NamedTuple):
    """What one stream says about a batch of B videos of T snippets."""

    cas: jax.Array  # (B, T, G) T-CAS logits
    attention: jax.Array  # (B, T) foreground probability P^A
    embedding: jax.Array | None  # (B, T, H) snippet embeddings E, not normalised; None where dropped
    cluster_logits: jax.Array | None  # (B, T, K) L^S; None without the clustering component


class CaseNetwork(nn.Module):
    """One independent network per stream; nothing is shared between streams.

    Attributes:
        streams: names of the streams, in order, for example ("rgb", "flow").
        num_classes: G.
        hidden_dim: H, width of both encoders.
        num_clusters: K, or 0 for the baseline without clustering head.
        cluster_temperature: factor on the cosine that gives the cluster logits L^S.
        precision: of the matrix products with the layers' kernels.
    """

    streams: tuple[str, ...]
    num_classes: int
    hidden_dim: int = 512
    num_clusters: int = 16
    cluster_temperature: float = 10.0
    precision: Precision = "float32"

    @classmethod
    def from_config(cls, config: CaseConfig, *, streams: tuple[str, ...], num_classes: int) -> "CaseNetwork":
        """The network that a config describes, for a data set's streams and number of classes."""
        return cls(
            streams=tuple(streams),
            num_classes=num_classes,
            hidden_dim=config.hidden_dim,
            num_clusters=config.num_clusters if config.scc else 0,
            cluster_temperature=config.cluster_temperature,
            precision=config.matmul_precision,
        )

    @nn.compact
    def __call__(self, features: Mapping[str, jax.Array]) -> dict[str, StreamOutput]:
        """Scores snippets.

        Args:
            features: stream name -> (B, T, D) float features; D may differ between streams.

        Returns:
            Stream name -> `StreamOutput`, in the order of ``streams``.
        """
        return {
            name: _StreamNetwork(
                self.num_classes,
                self.hidden_dim,
                self.num_clusters,
                self.cluster_temperature,
                self.precision,
                name=name,
            )(features[name])
            for name in self.streams
        }


class _StreamNetwork(nn.Module):
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
    """What the network says with some parameters; pure, the functional form of `CaseNetwork`.

    Args:
        network: the network.
        params: its parameters.
        features: stream name -> (B, T, D).

    Returns:
        Stream name -> `StreamOutput`.
    """
    # Flax types `apply` as whatever any module may return.
    return cast(dict[str, StreamOutput], network.apply({"params": params}, features))


def mean_over_streams(values: Iterable[jax.Array]) -> jax.Array:
    """The mean of one array per stream."""
    first, *others = values
    return sum(others, start=first) / (1 + len(others))


def class_probabilities(outputs: Mapping[str, StreamOutput]) -> jax.Array:
    """The T-CAS as probabilities: (B, T, G), mean over streams of softmax_G of the logits."""
    return mean_over_streams(jax.nn.softmax(out.cas, axis=-1) for out in outputs.values())


def calibrated_cas(outputs: Mapping[str, StreamOutput], *extra_foreground: jax.Array) -> jax.Array:
    """T-CAS calibrated by foreground probabilities, all with the same weight.

    With S streams: (mean over streams of softmax_G(CAS) + sum over streams of P^A + ...) / (S + 1 + ...).
    Training and the baseline's testing use this; clustering-assisted testing passes each stream's P^T too.

    Args:
        outputs: stream name -> `StreamOutput`.
        *extra_foreground: further (B, T) foreground probabilities.

    Returns:
        (B, T, G) activations in [0, 1].
    """
    probability = class_probabilities(outputs)
    foreground = [out.attention for out in outputs.values()] + list(extra_foreground)
    return (probability + jnp.expand_dims(sum(foreground), -1)) / (1 + len(foreground))


def weighted_prototypes(weights: jax.Array, embedding: jax.Array) -> jax.Array:
    """Unit-length weighted means of snippet embeddings, Eq. (4).

    The division by the weights' sum in Eq. (4) does not change a direction, and only directions are used.

    Args:
        weights: (B, T, M) non-negative weights of each snippet for M prototypes; no gradient.
        embedding: (B, T, H) embeddings E.

    Returns:
        (M, H) prototypes of length 1 (0 where all weights are).
    """
    rows = embedding.reshape(-1, embedding.shape[-1])
    return _unit(weighted_sums(weights.reshape(-1, weights.shape[-1]), rows))


def cluster_classification_logits(
    embedding: jax.Array, snippet_labels: jax.Array, foreground: jax.Array, *, rho: float
) -> jax.Array:
    """Similarity of clusters to foreground and background, the logits L^C of Eq. (5).

    Args:
        embedding: (B, T, H) embeddings E of one stream; gradients flow through both kinds of prototype.
        snippet_labels: (B, T, K) Q^S; no gradient.
        foreground: (B, T) Q^A in {0, 1} (or, beyond the paper, P^A); no gradient.
        rho: temperature.

    Returns:
        (K, 2) logits; column 0 is foreground, column 1 background.
    """
    snippet_labels, foreground = jax.lax.stop_gradient((snippet_labels, foreground))
    sides = jnp.stack([foreground, 1 - foreground], axis=-1)
    # One pass over the embeddings for both kinds of prototype.
    prototypes = weighted_prototypes(jnp.concatenate([snippet_labels, sides], axis=-1), embedding)
    clusters, foreground_background = prototypes[:-2], prototypes[-2:]
    return rho * jnp.matmul(clusters, foreground_background.T, precision=jax.lax.Precision.HIGHEST)


def normalize_prototypes(params: Mapping) -> dict:
    """Scales every cluster prototype to length 1, as the published code does before each forward pass.

    The optimiser (its weight decay included) then acts on the normalised prototypes.

    Args:
        params: parameters of a `CaseNetwork`.

    Returns:
        The same tree with unit-length rows in each ``prototypes``.
    """
    return {
        stream: {name: _unit(value) if name == "prototypes" else value for name, value in layers.items()}
        for stream, layers in params.items()
    }


def count_parameters(params: Mapping) -> int:
    """Number of trainable numbers in a parameter tree (arrays or shapes)."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_macs(network: CaseNetwork, widths: Mapping[str, int], num_snippets: int) -> int:
    """Multiply-accumulates of one video's forward pass, counted from the traced program.

    Counts matrix products only, as Table 1 does.

    Args:
        network: the network.
        widths: stream name -> D.
        num_snippets: T.

    Returns:
        Multiply-accumulate operations.
    """
    features = {
        name: jax.ShapeDtypeStruct((1, num_snippets, width), jnp.float32) for name, width in widths.items()
    }
    params = jax.eval_shape(network.init, jax.random.key(0), features)
    return _jaxpr_macs(jax.make_jaxpr(network.apply)(params, features).jaxpr)


def _jaxpr_macs(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            depth = math.prod(left[axis] for axis in contracted)
            total += math.prod(equation.outvars[0].aval.shape) * depth
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)  # a closed jaxpr: jit and friends
            if inner is not None:
                total += _jaxpr_macs(inner)
    return total


def _uniform_fan_in(inputs: int):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), how the published weights and biases start."""
    bound = 1 / math.sqrt(inputs)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return init


def _inverse_norm(vectors: jax.Array) -> jax.Array:
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return jax.lax.rsqrt(jnp.maximum(squared, _NORM_FLOOR))


def _unit(vectors: jax.Array) -> jax.Array:
    return vectors * _inverse_norm(vectors)


def _unit_constant_norm(vectors: jax.Array) -> jax.Array:
    """Unit length, but the length is a constant to the gradient (prototypes are normalised in place)."""
    return vectors * jax.lax.stop_gradient(_inverse_norm(vectors))
