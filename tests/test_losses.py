import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax import labeling, losses
from tests import reference


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    labels = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1]], np.float32)
    cas = rng.standard_normal((3, 16, 4)).astype(np.float32)
    attention = rng.uniform(0, 1, (3, 16)).astype(np.float32)
    attention[0, :2] = 0, 1  # saturated sigmoids
    return cas, attention, labels


def test_video_loss_is_equation_1(batch):
    cas, _, labels = batch
    mask = labeling.top_k_mask(jnp.asarray(cas), 3)
    chosen = [[reference.top_k(cas[b, :, g], 3) for g in range(4)] for b in range(3)]
    want = reference.video_loss(cas.astype(float), chosen, labels)
    np.testing.assert_allclose(losses.video_loss(cas, mask, labels), want, rtol=1e-6)


def test_video_loss_keeps_its_scale_with_more_classes():
    for classes in (20, 100, 200):
        cas = np.zeros((2, 8, classes), np.float32)
        mask = labeling.top_k_mask(jnp.asarray(cas), 2)
        labels = np.eye(classes, dtype=np.float32)[:2]
        np.testing.assert_allclose(losses.video_loss(cas, mask, labels), np.log(classes), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.1, 0.7])
def test_attention_loss_is_equation_2(batch, gamma):
    _, attention, _ = batch
    labels = (np.arange(16) % 3 == 0).astype(np.float32) * np.ones((3, 1), np.float32)
    want = reference.attention_loss(attention.astype(float), labels, gamma)
    got = losses.attention_loss(jnp.asarray(attention), jnp.asarray(labels), gamma=gamma)
    np.testing.assert_allclose(got, want, rtol=2e-6)
    grad = jax.grad(lambda a: losses.attention_loss(a, jnp.asarray(labels), gamma=gamma))(
        jnp.asarray(attention)
    )
    assert np.isfinite(grad).all()


def test_clustering_losses_are_equations_3_and_6(batch):
    cas, _, _ = batch
    labels = reference.softmax(np.random.default_rng(1).standard_normal(cas.shape)).astype(np.float32)
    want = reference.cross_entropy(labels.reshape(-1, 4), cas.reshape(-1, 4).astype(float))
    np.testing.assert_allclose(losses.clustering_loss(cas, labels), want, rtol=1e-6)
    flat = losses.cluster_classification_loss(cas.reshape(-1, 4), labels.reshape(-1, 4))
    np.testing.assert_allclose(flat, want, rtol=1e-6)


def test_total_loss_is_equation_14():
    assert losses.total_loss(1.0, 2.0, 3.0, 4.0, lambda_s=0.5, lambda_c=0.25) == 1 + 2 + 1.5 + 1
    assert losses.total_loss(1.0, 2.0) == 3


@pytest.mark.parametrize("name", ["video", "attention", "clustering"])
def test_gradients_against_finite_differences(batch, name):
    with jax.enable_x64(True):
        cas, attention, labels = (jnp.asarray(a, jnp.float64) for a in batch)
        attention = jnp.clip(attention, min=0.05, max=0.95)
        mask = labeling.top_k_mask(cas, 3)
        q_a = labeling.attention_labels(mask, labels).astype(jnp.float64)
        soft = jax.nn.softmax(cas[::-1], axis=-1)
        function, at = {
            "video": (lambda x: losses.video_loss(x, mask, labels), cas),
            "attention": (lambda x: losses.attention_loss(x, q_a), attention),
            "clustering": (lambda x: losses.clustering_loss(x, soft), cas),
        }[name]
        direction = jnp.asarray(np.random.default_rng(2).standard_normal(at.shape))
        slope = (function(at + 1e-6 * direction) - function(at - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(jnp.sum(jax.grad(function)(at) * direction), slope, rtol=1e-6)
