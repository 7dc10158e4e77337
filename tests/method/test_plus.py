"""What is beyond the paper: settling, P^A in CCC, and labels that attention and clusters extend."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.method import labels as labeling
from case_jax.method import losses
from case_jax.method.network import cluster_classification_logits, mean_over_streams, run_network
from case_jax.method.objective import joint_loss
from tests.training.test_training import small_batch, small_state

PROBABILITIES = st.lists(st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.6, 0.9, 1.0]), min_size=12, max_size=12)


@given(st.lists(st.sampled_from([0.0, 1.0]), min_size=12, max_size=12), PROBABILITIES, PROBABILITIES)
@settings(max_examples=100, deadline=None)
def test_labels_are_extended_by_what_both_say_or_their_mean(labels, attention, transformed):
    arrays = [np.reshape(np.asarray(v, np.float32), (3, 4)) for v in (labels, attention, transformed)]
    agreed, mixed = (
        labeling.extend_foreground(*map(jnp.asarray, arrays), rule=rule) for rule in ("agreed", "mixed")
    )
    for n in range(12):
        both = labels[n] == 1 or (attention[n] > 0.5 and transformed[n] > 0.5)
        mean = labels[n] == 1 or np.float32(attention[n]) + np.float32(transformed[n]) > 1
        assert float(agreed.reshape(-1)[n]) == both
        assert float(mixed.reshape(-1)[n]) == mean
    assert bool(jnp.all(agreed <= mixed))
    assert agreed.dtype == jnp.float32


def _metrics(state, step, **changes):
    config = dataclasses.replace(state.config, **changes)
    batch = small_batch()
    _, (metrics, q_c) = joint_loss(
        state.params, batch, state.cluster_labels, step, network=state.network, config=config
    )
    return metrics, q_c


def _outputs(state):
    outputs = run_network(state.network, state.params, small_batch()["features"])
    return list(outputs.values())


SETTLING = {"settling": 0.25, "num_steps": 20}  # five steps


def test_while_it_settles_classes_alone_select_and_the_video_loss_sees_whole_videos():
    state, labels = small_state(), small_batch()["labels"]
    outputs = _outputs(state)
    metrics, _ = _metrics(state, 4, **SETTLING)
    everything = jnp.ones(outputs[0].cas.shape, bool)
    video = np.mean([losses.video_loss(out.cas, everything, labels) for out in outputs])
    np.testing.assert_allclose(metrics["loss_video"], video, rtol=1e-6)

    probability = np.mean([jax.nn.softmax(out.cas, axis=-1) for out in outputs], axis=0)
    selected = labeling.top_k_mask(jnp.asarray(probability), state.config.top_k)
    q_a = labeling.label_foreground(selected, labels)
    attention = sum(losses.attention_loss(out.attention, q_a, gamma=0.7) for out in outputs)
    np.testing.assert_allclose(metrics["loss_attention"], attention, rtol=1e-6)
    np.testing.assert_allclose(metrics["foreground_snippets"], q_a.mean(), rtol=1e-6)


def test_once_it_is_settled_the_objective_is_the_papers():
    state = small_state()
    want, want_q_c = _metrics(state, 5)
    got, q_c = _metrics(state, 5, **SETTLING)
    assert set(got) == set(want)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(q_c, want_q_c, rtol=1e-6)
    settling, _ = _metrics(state, 4, **SETTLING)
    assert abs(float(settling["loss_video"] - want["loss_video"])) > 1e-4


def test_the_attention_itself_may_say_what_foreground_is_and_how_much_there_is():
    state = small_state()
    outputs = _outputs(state)
    _, q_c = _metrics(state, 0, ccc_foreground="attention")
    p_a = mean_over_streams(out.attention for out in outputs)
    logits = mean_over_streams(out.cluster_logits for out in outputs)
    plan = labeling.label_snippets(
        logits.reshape(-1, 4), p_a.reshape(-1), state.cluster_labels[:, 0]
    ).plan.reshape(logits.shape)
    class_logits = mean_over_streams(
        cluster_classification_logits(out.embedding, plan, p_a, rho=10.0) for out in outputs
    )
    want = labeling.label_clusters(class_logits, p_a.mean()).plan
    np.testing.assert_allclose(q_c, want, rtol=1e-5)
    assert float(jnp.max(jnp.abs(q_c - _metrics(state, 0)[1]))) > 1e-3


@pytest.mark.parametrize("rule", ["agreed", "mixed"])
def test_from_its_step_on_the_attention_learns_what_it_and_the_clusters_know(rule):
    q_c = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.95, 0.05], [0.1, 0.9]])
    state = small_state().replace(cluster_labels=q_c)
    # Attention that is not around 1/2 everywhere, as it is at the start.
    for stream in state.params:
        state.params[stream]["attention_head"]["kernel"] *= 30
    changes = {"attention_labels": rule, "agreement_from": 0.25, "num_steps": 20}
    paper, _ = _metrics(state, 4)
    before, _ = _metrics(state, 4, **changes)
    after, _ = _metrics(state, 5, **changes)
    for name in paper:
        np.testing.assert_allclose(before[name], paper[name], rtol=1e-6, err_msg=name)

    outputs = _outputs(state)
    p_a = mean_over_streams(out.attention for out in outputs)
    logits = mean_over_streams(out.cluster_logits for out in outputs)
    plan = labeling.label_snippets(logits.reshape(-1, 4), p_a.reshape(-1), q_c[:, 0]).plan
    p_t = np.asarray(plan, np.float64) @ np.asarray(q_c[:, 0], np.float64)
    p_a = np.asarray(p_a, np.float64).reshape(-1)
    known = (p_a > 0.5) & (p_t > 0.5) if rule == "agreed" else (p_a + p_t) / 2 > 0.5
    assert known.mean() <= after["foreground_snippets"] <= known.mean() + paper["foreground_snippets"]
    assert after["foreground_snippets"] > paper["foreground_snippets"]
    assert after["loss_attention"] != paper["loss_attention"]
    for name in ("loss_video", "loss_clustering", "loss_cluster_classification"):
        np.testing.assert_allclose(after[name], paper[name], rtol=1e-6)


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"settling": 1.0}, "--settling: is 1.0; expected from 0 up to but not including 1"),
        ({"agreement_from": -0.1}, "--agreement_from: is -0.1; expected from 0 up to but not including 1"),
        ({"ccc_foreground": "all"}, "--ccc_foreground: is 'all'; expected one of labels, attention"),
        (
            {"attention_labels": "agreed", "ccc": False, "clustering_assisted_testing": False},
            "--attention_labels: agreed needs the cluster labels of --ccc; expected --ccc, or "
            "--attention_labels=top_k",
        ),
    ],
)
def test_settings_that_cannot_be(fields, words):
    with pytest.raises(InputError) as raised:
        CaseConfig(**fields)
    assert str(raised.value) == words


def test_the_defaults_are_the_papers():
    config = CaseConfig()
    assert (config.settling_steps, config.attention_labels, config.ccc_foreground) == (0, "top_k", "labels")
    assert not config.depends_on_length
    assert CaseConfig(settling=0.1).depends_on_length
    assert CaseConfig(attention_labels="mixed").depends_on_length
    assert CaseConfig(settling=0.1, num_steps=1500).settling_steps == 150
    assert CaseConfig(num_steps=400).agreement_step == 80
