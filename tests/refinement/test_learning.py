import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.refinement.learning import begin, empty_scorer, finish, refine_steps, refinement_loss
from case_jax.refinement.settings import RefinementConfig
from case_jax.refinement.targets import Examples

CONFIG = RefinementConfig(hidden_dim=8, num_steps=40, batch_size=4, learning_rate=0.02)
WIDTH, CLASSES = 3, 2


@pytest.fixture(autouse=True)
def steps_are_taken(standard_dtypes):
    """Optax mixes types."""


@pytest.fixture
def examples():
    """Six videos of five proposals; the first channel of the mean inside tells the first class."""
    rng = np.random.default_rng(0)
    parts = rng.standard_normal((6, 5, 4, WIDTH)).astype(np.float32)
    targets = np.zeros((6, 5, CLASSES), np.float32)
    targets[..., 0] = parts[:, :, 0, 0] > 0
    weights = rng.uniform(0.3, 1, targets.shape).astype(np.float32)
    weights[:, 4] = 0
    return Examples(parts, rng.standard_normal((6, 5, 3)).astype(np.float32), targets, weights)


def params_of(key=0):
    return begin(jax.random.key(key), width=WIDTH, num_classes=CLASSES, config=CONFIG).params


def logits_of(params, examples):
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    hidden = np.einsum("bpkd,dkh->bph", examples.parts.astype(np.float64), params["kernel"])
    hidden = np.maximum(hidden + examples.extras @ params["extras"] + params["bias"], 0)
    return hidden @ params["head"] + params["head_bias"]


def test_the_loss_is_a_weighted_cross_entropy_over_the_foreground(examples):
    params = params_of()
    probability = 1 / (1 + np.exp(-logits_of(params, examples)))
    entropy = -(examples.targets * np.log(probability) + (1 - examples.targets) * np.log(1 - probability))
    expected = (entropy * examples.weights).sum() / (examples.targets * examples.weights).sum()
    assert float(refinement_loss(params, examples, None, config=CONFIG)) == pytest.approx(expected, rel=1e-5)
    without = examples._replace(targets=np.zeros_like(examples.targets))
    assert np.isfinite(float(refinement_loss(params, without, None, config=CONFIG)))


def test_what_fills_up_a_video_has_no_effect(examples):
    params = params_of()
    other = examples._replace(parts=examples.parts.copy(), targets=examples.targets.copy())
    other.parts[:, 4], other.targets[:, 4] = 100.0, 1.0
    losses = [float(refinement_loss(params, e, None, config=CONFIG)) for e in (examples, other)]
    assert losses[0] == losses[1]


def test_training_is_the_same_in_any_chunks_and_learns(examples):
    fresh = begin(jax.random.key(1), width=WIDTH, num_classes=CLASSES, config=CONFIG)
    whole, losses = refine_steps(fresh, examples, num_steps=40, config=CONFIG)
    parts = fresh
    for count in (15, 25):
        parts, _ = refine_steps(parts, examples, num_steps=count, config=CONFIG)
    assert int(whole.step) == int(parts.step) == 40
    for a, b in zip(jax.tree.leaves(whole.average), jax.tree.leaves(parts.average), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


@pytest.mark.slow  # 300 steps
def test_what_is_learnt_is_what_is_shown(examples):
    long = dataclasses.replace(CONFIG, hidden_dim=16, num_steps=300, dropout=0.1, input_dropout=0.1)
    fresh = begin(jax.random.key(1), width=WIDTH, num_classes=CLASSES, config=long)
    learning, _ = refine_steps(fresh, examples, num_steps=300, config=long)
    logits = logits_of(learning.average, examples)
    counts = examples.weights[..., 0] > 0
    right = (logits[..., 0] > 0) == (examples.targets[..., 0] > 0)
    assert right[counts].mean() > 0.9
    assert (logits[..., 1] < 0).all()


def test_the_scorer_takes_features_as_they_are(examples):
    """Standardising is folded into the first layer, where only the mean inside has an offset."""
    learning = begin(jax.random.key(2), width=WIDTH, num_classes=CLASSES, config=CONFIG)
    mean, deviation = np.float32([1, -2, 3]), np.float32([0.5, 2, 4])
    scorer = finish(learning, mean, deviation, CONFIG)
    raw = examples.parts * deviation
    raw[:, :, 0] += mean
    ours = logits_of({k: v for k, v in scorer.items() if k != "flank"}, examples._replace(parts=raw))
    np.testing.assert_allclose(ours, logits_of(learning.average, examples), rtol=1e-4, atol=1e-4)
    assert float(scorer["flank"]) == CONFIG.flank
    unused = finish(learning, mean, np.float32([0.5, np.inf, 4]), CONFIG)
    assert (np.asarray(unused["kernel"])[1] == 0).all()
    assert np.isfinite(unused["bias"]).all()
    shapes = jax.tree.map(jnp.shape, empty_scorer(WIDTH, CLASSES, CONFIG))
    assert jax.tree.map(jnp.shape, scorer) == shapes


def test_it_stays_below_two_million_parameters_at_thumos14s_widths():
    scorer = jax.eval_shape(lambda: empty_scorer(2048, 20, RefinementConfig()))
    assert sum(leaf.size for leaf in jax.tree.leaves(scorer)) < 2_000_000
