import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.method.network import (
    CaseNetwork,
    calibrated_cas,
    class_probabilities,
    class_softmax,
    cluster_classification_logits,
    normalize_prototypes,
    run_network,
    weighted_prototypes,
)
from case_jax.runs.published import params_from_published
from tests.helpers import reference

WIDTHS = {"rgb": 6, "flow": 4}
_init = jax.jit(
    lambda network, features: network.init(jax.random.key(0), features)["params"], static_argnums=0
)


@functools.partial(jax.jit, static_argnums=0)
def _run_network(network, params, features):
    outputs = run_network(network, params, features)
    assert list(outputs) == list(network.streams)  # jit sorts them
    return outputs


@pytest.fixture(scope="module")
def network():
    return CaseNetwork(("rgb", "flow"), num_classes=3, hidden_dim=8, num_clusters=5)


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(1)
    return {name: rng.standard_normal((2, 7, width), np.float32) for name, width in WIDTHS.items()}


@pytest.fixture(scope="module")
def params(network, features):
    return _init(network, features)


def test_forward_is_the_network_of_the_paper(network, params, features):
    outputs = _run_network(network, params, features)
    for name, out in outputs.items():
        p = jax.tree.map(lambda a: np.asarray(a, np.float64), dict(params[name]))
        x = np.asarray(features[name], np.float64)

        def linear(layer, y, p=p):
            return y @ p[layer]["kernel"] + p[layer]["bias"]

        cas = linear("cas_head", np.maximum(linear("cas_encoder", x), 0))
        embedding = np.maximum(linear("attention_encoder", x), 0)
        attention = 1 / (1 + np.exp(-linear("attention_head", embedding)[..., 0]))
        logits = 10 * reference.unit(embedding) @ reference.unit(p["prototypes"]).T
        for got, want in zip(out, (cas, attention, embedding, logits)):
            np.testing.assert_allclose(got, want, atol=2e-5)


def test_a_background_class_has_logit_0_and_a_share_of_every_softmax(network, params, features):
    alone = _run_network(network, params, features)
    outputs = _run_network(network.clone(background=True), params, features)
    for name, out in outputs.items():
        np.testing.assert_array_equal(out.cas, alone[name].cas)
        np.testing.assert_array_equal(out.background, np.zeros((2, 7)))
        assert alone[name].background is None
        logits = np.concatenate([np.asarray(out.cas, np.float64), np.zeros((2, 7, 1))], axis=-1)
        want = reference.softmax(logits)[..., :-1]
        np.testing.assert_allclose(class_softmax(out.cas, out.background), want, atol=1e-6)
    np.testing.assert_array_equal(class_probabilities(outputs), class_probabilities(alone))


def test_one_class_beside_background_is_a_sigmoid(network, features):
    one = network.clone(num_classes=1, background=True)
    outputs = _run_network(one, _init(one, features), features)
    want = [1 / (1 + np.exp(-np.asarray(out.cas, np.float64))) for out in outputs.values()]
    np.testing.assert_allclose(class_probabilities(outputs), np.mean(want, axis=0), rtol=1e-6)


def test_golden_forward(golden):
    arrays, batches = np.load(golden / "base_diff3.npz"), np.load(golden / "batches.npz")
    params = params_from_published(np.load(golden / "init_state.npz"), ("rgb", "flow"))
    x = batches["x"][0]
    features = {"rgb": x[..., :1024], "flow": x[..., 1024:]}
    outputs = _run_network(CaseNetwork(("rgb", "flow"), 20), params, features)
    for name, out in outputs.items():
        # Relative to the array's size: single values may be as close to 0 as one likes.
        for got, want in (
            (out.cas, arrays[f"s0_raw_cas_{name}"]),
            (out.attention, arrays[f"s0_raw_att_{name}"][:, 0]),
            (out.embedding[..., ::8], arrays[f"s0_raw_base_{name}"].transpose(0, 2, 1)),
            (out.cluster_logits, arrays[f"s0_raw_clu_{name}"]),
        ):
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(calibrated_cas(outputs), arrays["s0_combined_cas"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("streams", [("rgb",), ("acc", "gyro", "depth")])
def test_streams_of_any_number_and_width(streams):
    network = CaseNetwork(streams, num_classes=3, hidden_dim=8, num_clusters=2)
    features = {name: jnp.ones((1, 4, 2 + i)) for i, name in enumerate(streams)}
    outputs = network.apply(network.init(jax.random.key(0), features), features)
    fused = calibrated_cas(outputs)
    softmax = np.mean([jax.nn.softmax(o.cas) for o in outputs.values()], axis=0)
    attention = sum(o.attention for o in outputs.values())[..., None]
    np.testing.assert_allclose(fused, (softmax + attention) / (1 + len(streams)), rtol=1e-6)


@pytest.mark.slow
def test_zero_embeddings_have_finite_gradients(network, params):
    features = {name: jnp.zeros((1, 4, width)) for name, width in WIDTHS.items()}
    dead = jax.tree.map(jnp.zeros_like, params)

    def total(params):
        out = network.apply({"params": params}, features)["rgb"]
        return jnp.sum(out.cluster_logits) + jnp.sum(
            cluster_classification_logits(
                out.embedding, jnp.ones((1, 4, 5)) / 5, jnp.array([[1.0, 0, 0, 0]]), rho=10.0
            )
        )

    assert all(np.isfinite(g).all() for g in jax.tree.leaves(jax.grad(total)(dead)))


@pytest.mark.slow
def test_initial_parameters_are_uniform_in_the_fan_in(network, params):
    for name, width in WIDTHS.items():
        for layer, fan_in in (("cas_encoder", width), ("attention_head", 8)):
            for array in params[name][layer].values():
                assert np.abs(array).max() <= 1 / np.sqrt(fan_in)
    big = CaseNetwork(("rgb",), 20).init(jax.random.key(0), {"rgb": jnp.zeros((1, 1, 1024))})["params"]
    kernel = big["rgb"]["cas_encoder"]["kernel"] * np.sqrt(1024)
    np.testing.assert_allclose([kernel.mean(), kernel.std()], [0, 1 / np.sqrt(3)], atol=0.01)


@pytest.mark.slow
def test_no_gradient_through_the_length_of_prototypes(network, params, features):
    def logits(prototypes):
        changed = {**params, "rgb": {**params["rgb"], "prototypes": prototypes}}
        return jnp.sum(network.apply({"params": changed}, features)["rgb"].cluster_logits)

    unit = normalize_prototypes(params)["rgb"]["prototypes"]
    np.testing.assert_allclose(jnp.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    assert abs(float(jnp.sum(jax.grad(logits)(unit) * unit))) > 1e-3  # a radial part remains


def test_prototypes_are_equations_4_and_5():
    rng = np.random.default_rng(0)
    embedding = rng.uniform(0, 1, (2, 6, 4))
    q_s, q_a = reference.softmax(rng.standard_normal((2, 6, 3))), rng.integers(0, 2, (2, 6)).astype(float)
    e, weights = embedding.reshape(12, 4), q_s.reshape(12, 3)
    means = (weights.T @ e) / weights.sum(axis=0)[:, None]
    got = jax.jit(weighted_prototypes)(*(jnp.asarray(a, jnp.float32) for a in (q_s, embedding)))
    np.testing.assert_allclose(got, reference.unit(means), rtol=1e-5)
    a = q_a.reshape(12)
    sides = np.stack([e[a == 1].mean(axis=0), e[a == 0].mean(axis=0)])
    want = 10 * reference.unit(means) @ reference.unit(sides).T
    got = jax.jit(cluster_classification_logits)(
        *(jnp.asarray(x, jnp.float32) for x in (embedding, q_s, q_a)), rho=10.0
    )
    np.testing.assert_allclose(got, want, rtol=1e-5)
