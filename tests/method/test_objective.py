"""The objective: labels, terms and their sum, and what settings beyond the paper change in them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.method import losses
from case_jax.method.labels import label_clusters, label_foreground, label_snippets, top_k_mask
from case_jax.method.network import (
    cluster_classification_logits,
    mean_over_streams,
    normalize_prototypes,
    run_network,
)
from case_jax.method.objective import LOSS_TERMS, METRICS, joint_loss, total_loss
from case_jax.runs.published import params_from_published
from tests.helpers.golden import STREAMS, golden_batch, golden_start
from tests.helpers.small import BASELINE, small_batch, small_state

SETTLING = {"settling": 0.25, "num_steps": 20}  # five steps
NUM_ITERS = {"epsilon": 0.5, "num_iters": 3}


@functools.partial(jax.jit, static_argnames=("network", "config"))
def _joint_loss(params, batch, cluster_labels, step, *, network, config):
    return joint_loss(params, batch, cluster_labels, step, network=network, config=config)


def _metrics(state, step, **changes):
    """The metrics of a step and the new Q^C, with other settings in ``changes``."""
    config = dataclasses.replace(state.config, **changes)
    _, (metrics, q_c) = _joint_loss(
        state.params, small_batch(), state.cluster_labels, step, network=state.network, config=config
    )
    return metrics, q_c


@pytest.fixture(scope="module")
def state():
    return small_state(sigma=10.0)


@pytest.fixture(scope="module")
def outputs(state):
    return list(
        jax.jit(run_network, static_argnums=0)(
            state.network, state.params, small_batch()["features"]
        ).values()
    )


@pytest.fixture(scope="module")
def paper(state):
    """The metrics and Q^C of the paper's settings."""
    return _metrics(state, 5)


def _plan(outputs, q_c):
    """Q^S, (B * T, K)."""
    logits = mean_over_streams(out.cluster_logits for out in outputs)
    p_a = mean_over_streams(out.attention for out in outputs)
    return label_snippets(
        logits.reshape(-1, 4),
        p_a.reshape(-1),
        q_c[:, 0],
        **NUM_ITERS,
        sigma=10.0,
        rank="true",
        transport=True,
        hard=False,
    ).plan


def test_total_loss_is_equation_14():
    terms = {
        "loss_video": 1.0,
        "loss_attention": 2.0,
        "loss_clustering": 3.0,
        "loss_cluster_classification": 4.0,
    }
    config = CaseConfig(lambda_s=0.5, lambda_c=0.25)
    assert total_loss(terms, config) == 1 + 2 + 1.5 + 1
    assert total_loss({name: terms[name] for name in ("loss_video", "loss_attention")}, config) == 3


def test_every_term_is_weighted_by_a_setting_or_not_at_all():
    settings = {field.name for field in dataclasses.fields(CaseConfig)}
    assert {term.weight for term in LOSS_TERMS if term.weight} <= settings
    for names in zip(*((term.metric, term.symbol, term.short) for term in LOSS_TERMS)):
        assert len(set(names)) == len(names)


def test_every_metric_is_described(paper):
    metrics, _ = paper
    assert {*metrics, "gradient_norm"} == set(METRICS)
    loss = sum(
        float(metrics[term.metric]) * (getattr(CaseConfig, term.weight) if term.weight else 1)
        for term in LOSS_TERMS
    )
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-6)
    for share in ("foreground_snippets", "foreground_clusters"):
        assert 0 < metrics[share] < 1


@pytest.mark.parametrize(
    "fields, absent",
    [
        (BASELINE, {"loss_clustering", "loss_cluster_classification"}),
        ({"ccc": False, "clustering_assisted_testing": False}, {"loss_cluster_classification"}),
        ({}, set()),
        ({"scc_prior": False}, set()),
        ({"ccc_marginal": "uniform"}, set()),
        ({"scc_transport": False}, set()),
        ({"scc_transport": False, "scc_labels": "hard"}, set()),
        ({"scc_labels": "hard"}, set()),
    ],
)
def test_components_switch_off(fields, absent):
    state = small_state(**fields)
    config = state.config
    assert ("prototypes" in state.params["rgb"]) == config.scc
    program = jax.make_jaxpr(
        functools.partial(joint_loss, network=state.network, config=config), return_shape=True
    )
    jaxpr, (_, (metrics, _)) = program(state.params, small_batch(), state.cluster_labels, 0)
    assert {name for name in metrics if name.startswith("loss_")} == {t.metric for t in LOSS_TERMS} - absent
    # Without a prior nothing is sorted; top-k is not a sort.
    assert (" sort[" in str(jaxpr)) == (config.ccc and config.scc_prior and config.scc_transport)


def test_without_cluster_classification_the_cluster_labels_stay():
    state = small_state(ccc=False, clustering_assisted_testing=False)
    _, q_c = _metrics(state, 0)
    np.testing.assert_array_equal(q_c, state.cluster_labels)


@pytest.mark.slow
@pytest.mark.optimised  # norms to their last digits
@pytest.mark.parametrize(
    "run",
    [
        "case_diff3_truerank",
        "base_diff3",
    ],
)
@pytest.mark.usefixtures("standard_dtypes")
def test_golden_gradients(golden, run):
    """Of a third run, `tests/training/test_step.py` compares the parameters after each step."""
    from case_jax.training.step import train_step

    state, arrays = golden_start(golden, run)

    @jax.jit
    def norms_and_step(state, batch):
        gradients, _ = jax.grad(joint_loss, has_aux=True)(
            normalize_prototypes(state.params),
            batch,
            state.cluster_labels,
            state.step,
            network=state.network,
            config=state.config,
        )
        norms = jax.tree.map(lambda gradient: jnp.linalg.norm(gradient.reshape(-1)), dict(gradients))
        return norms, train_step(state, batch)[0]

    for i in range(3):
        norms, state = norms_and_step(state, golden_batch(golden, run, i))
        recorded = {n.split("gnorm_")[1]: arrays[n] for n in arrays.files if n.startswith(f"s{i}_gnorm")}
        # Norms are scalars: give them the shapes that the name table expects.
        shaped = {n: v.reshape(1, 1, 1) if n.endswith("weight") else v for n, v in recorded.items()}
        want = params_from_published(shaped, STREAMS)
        for stream, layers in norms.items():
            for layer, value in layers.items():
                pairs = [(value, want[stream][layer])]
                if isinstance(value, dict):
                    pairs = [(value[part], want[stream][layer][part]) for part in value]
                for got, expected in pairs:
                    np.testing.assert_allclose(
                        got, np.ravel(expected)[0], rtol=5e-5, atol=1e-9, err_msg=f"{stream}.{layer}"
                    )


# Beyond the paper


@pytest.mark.slow
def test_while_it_settles_classes_alone_select_and_the_video_loss_sees_whole_videos(state, outputs):
    labels = small_batch()["labels"]
    metrics, _ = _metrics(state, 4, **SETTLING)
    everything = jnp.ones(outputs[0].cas.shape, bool)
    video = np.mean([losses.video_loss(out.cas, everything, labels) for out in outputs])
    np.testing.assert_allclose(metrics["loss_video"], video, rtol=1e-6)

    probability = np.mean([jax.nn.softmax(out.cas, axis=-1) for out in outputs], axis=0)
    selected = top_k_mask(jnp.asarray(probability), state.config.top_k)
    q_a = label_foreground(selected, labels)
    attention = sum(losses.attention_loss(out.attention, q_a, gamma=0.7) for out in outputs)
    np.testing.assert_allclose(metrics["loss_attention"], attention, rtol=1e-6)
    np.testing.assert_allclose(metrics["foreground_snippets"], q_a.mean(), rtol=1e-6)


@pytest.mark.slow
def test_once_it_is_settled_the_objective_is_the_papers(state, paper):
    want, want_q_c = paper
    got, q_c = _metrics(state, 5, **SETTLING)
    assert set(got) == set(want)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(q_c, want_q_c, rtol=1e-6)
    settling, _ = _metrics(state, 4, **SETTLING)
    assert abs(float(settling["loss_video"] - want["loss_video"])) > 1e-4


@pytest.mark.slow
def test_the_attention_itself_may_be_the_foreground_of_clusters(state, outputs, paper):
    _, q_c = _metrics(state, 0, ccc_foreground="attention")
    p_a = mean_over_streams(out.attention for out in outputs)
    plan = _plan(outputs, state.cluster_labels).reshape(*p_a.shape, 4)
    class_logits = mean_over_streams(
        cluster_classification_logits(out.embedding, plan, p_a, rho=10.0) for out in outputs
    )
    want = label_clusters(class_logits, p_a.mean(), **NUM_ITERS).plan
    np.testing.assert_allclose(q_c, want, rtol=1e-5)
    assert float(jnp.max(jnp.abs(q_c - paper[1]))) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["agreed", "mixed"])
def test_from_its_step_on_the_attention_also_learns_from_the_clusters(rule):
    q_c = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.1, 0.9]])
    state = small_state(sigma=10.0).replace(cluster_labels=q_c)
    # At the start the attention is around 1/2 everywhere; these weights spread it out.
    for stream in state.params:
        state.params[stream]["attention_head"]["kernel"] *= 30
    changes = {"attention_labels": rule, "agreement_from": 0.25, "num_steps": 20}
    paper, _ = _metrics(state, 4)
    before, _ = _metrics(state, 4, **changes)
    after, _ = _metrics(state, 5, **changes)
    for name in paper:
        np.testing.assert_allclose(before[name], paper[name], rtol=1e-6, err_msg=name)

    outputs = list(run_network(state.network, state.params, small_batch()["features"]).values())
    p_t = np.asarray(_plan(outputs, q_c), np.float64) @ np.asarray(q_c[:, 0], np.float64)
    p_a = np.asarray(mean_over_streams(out.attention for out in outputs), np.float64).reshape(-1)
    known = (p_a > 0.5) & (p_t > 0.5) if rule == "agreed" else (p_a + p_t) / 2 > 0.5
    assert known.mean() <= after["foreground_snippets"] <= known.mean() + paper["foreground_snippets"]
    assert after["foreground_snippets"] > paper["foreground_snippets"]
    assert after["loss_attention"] != paper["loss_attention"]
    for name in ("loss_video", "loss_clustering", "loss_cluster_classification"):
        np.testing.assert_allclose(after[name], paper[name], rtol=1e-6)


def test_all_of_a_video_without_any_action_is_background():
    """Even where attention and clusters take every snippet for foreground."""
    changes = {"attention_labels": "mixed", "agreement_from": 0.0, "action_free": "learn"}
    state = small_state(sigma=10.0, **changes).replace(cluster_labels=jnp.full((4, 2), jnp.array([0.9, 0.1])))
    for stream in state.params:
        state.params[stream]["attention_head"]["bias"] += 20
    metrics = {}
    for free in (1, slice(0, 3)):
        batch = small_batch()  # a new one: JAX may still read the labels of the one before
        batch["labels"][free] = 0
        _, (metrics[str(free)], _) = _joint_loss(
            state.params, batch, state.cluster_labels, 0, network=state.network, config=state.config
        )
    one, every = metrics.values()
    np.testing.assert_allclose(one["foreground_snippets"], 2 / 3, rtol=1e-6)
    assert every["foreground_snippets"] == 0
    assert all(np.isfinite(value) for value in (*one.values(), *every.values()))
