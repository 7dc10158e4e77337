import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.method.network import CaseNetwork, run_network
from case_jax.method.scores import score_videos, separation
from case_jax.runs.published import params_from_published
from tests.helpers import reference

_score_videos = jax.jit(score_videos, static_argnames=("network", "top_k", "foreground"))


@pytest.mark.parametrize("name", ["init_T64", "trained_T750", "trained_T750_base"])
def test_golden_scores(golden, name):
    arrays = np.load(golden / f"infer_{name}.npz")
    weights = np.load(golden / ("init_state.npz" if "init" in name else "trained_state.npz"))
    x, length = arrays["x"][None], len(arrays["x"])
    scores = _score_videos(
        params_from_published(weights, ("rgb", "flow")),
        arrays["cls_gt"],
        {"rgb": x[..., :1024], "flow": x[..., 1024:]},
        network=CaseNetwork(("rgb", "flow"), 20),
        top_k=length // 8,
        foreground="attention" if name.endswith("base") else "mixed",
    )
    np.testing.assert_allclose(scores.fused, arrays["combined_cas"], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def small():
    network = CaseNetwork(("rgb", "flow"), num_classes=3, hidden_dim=8, num_clusters=4)
    rng = np.random.default_rng(0)
    features = {
        "rgb": rng.standard_normal((2, 16, 6), np.float32),
        "flow": rng.standard_normal((2, 16, 4), np.float32),
    }
    params = jax.jit(network.init)(jax.random.key(2), features)["params"]
    return network, features, params, jnp.array([[0.9, 0.1], [0.2, 0.8], [0.0, 1.0], [1.0, 0.0]])


@pytest.mark.parametrize("foreground", ["attention", "transformed", "mixed"])
def test_scores_are_section_4_3(small, foreground):
    network, features, params, q_c = small
    outputs = jax.jit(run_network, static_argnums=0)(network, params, features)
    streams = [jax.tree.map(lambda a: np.asarray(a, np.float64), out) for out in outputs.values()]
    p_a = [s.attention for s in streams]
    p_t = [reference.softmax(s.cluster_logits) @ np.asarray(q_c, float)[:, 0] for s in streams]
    used = {"attention": p_a, "transformed": p_t, "mixed": p_a + p_t}[foreground]
    classes = np.mean([reference.softmax(s.cas) for s in streams], axis=0)
    fused = (classes + sum(used)[..., None]) / (1 + len(used))

    scores = _score_videos(params, q_c, features, network=network, top_k=2, foreground=foreground)
    np.testing.assert_allclose(scores.fused, fused, rtol=1e-5)
    np.testing.assert_allclose(scores.attention, np.mean(p_a, axis=0), rtol=1e-5)
    np.testing.assert_allclose(scores.transformed_foreground, np.mean(p_t, axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        scores.mixed_foreground, (np.mean(p_a, axis=0) + np.mean(p_t, axis=0)) / 2, rtol=1e-5
    )
    for b in range(2):
        evidence = classes[b] @ np.asarray(scores.video[b], float)
        attention = np.mean(p_a, axis=0)[b]
        inside = (attention * evidence).sum() / attention.sum()
        outside = ((1 - attention) * evidence).sum() / (1 - attention).sum()
        np.testing.assert_allclose(scores.separation[b], inside - outside, atol=1e-6)
        picks = [reference.top_k(np.asarray(scores.fused)[b, :, g], 2) for g in range(3)]
        per_stream = [
            reference.softmax(np.array([s.cas[b, picks[g], g].mean() for g in range(3)])) for s in streams
        ]
        np.testing.assert_allclose(scores.video[b], np.mean(per_stream, axis=0), rtol=1e-5)


def test_without_clusters_only_the_attention_can_be_fused(small):
    network, features, params, _ = small
    scores = _score_videos(params, None, features, network=network, top_k=2, foreground="attention")
    assert (scores.transformed_foreground, scores.mixed_foreground, scores.clusters) == (None, None, None)
    with pytest.raises(ValueError, match="foreground='mixed' needs cluster labels and a clustering head"):
        score_videos(params, None, features, network=network, top_k=2)


def test_separation_needs_a_class_to_compare_with():
    rng = np.random.default_rng(0)
    features = {"rgb": rng.standard_normal((2, 16, 6), np.float32)}

    def separation(**changes):
        network = CaseNetwork(("rgb",), 1, hidden_dim=8, num_clusters=0, **changes)
        params = jax.jit(network.init)(jax.random.key(2), features)["params"]
        return _score_videos(
            params, None, features, network=network, top_k=2, foreground="attention"
        ).separation

    assert separation() is None
    assert separation(background=True).shape == (2,)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_separation_is_finite_where_all_is_foreground_or_background(constant):
    found = separation(jnp.full((1, 4, 2), 0.5), jnp.full((1, 4), constant), jnp.array([[0.5, 0.5]]))
    np.testing.assert_allclose(found, [0.5 if constant else -0.5], rtol=1e-6)
