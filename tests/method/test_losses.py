import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.method import labels as labeling
from case_jax.method import losses
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
        q_a = labeling.label_foreground(mask, labels).astype(jnp.float64)
        soft = jax.nn.softmax(cas[::-1], axis=-1)
        function, at = {
            "video": (lambda x: losses.video_loss(x, mask, labels), cas),
            "attention": (lambda x: losses.attention_loss(x, q_a), attention),
            "clustering": (lambda x: losses.clustering_loss(x, soft), cas),
        }[name]
        direction = jnp.asarray(np.random.default_rng(2).standard_normal(at.shape))
        slope = (function(at + 1e-6 * direction) - function(at - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(jnp.sum(jax.grad(function)(at) * direction), slope, rtol=1e-6)


@pytest.mark.parametrize("num_classes", [100, 200])
def test_video_loss_does_not_shrink_with_the_number_of_classes(num_classes):
    # Classes that nobody confuses with the true one add nothing, and take nothing away.
    keys = jax.random.split(jax.random.key(0), 2)
    cas = jax.random.normal(keys[0], (3, 8, 5))
    selected = labeling.top_k_mask(jax.random.normal(keys[1], (3, 8, 5)), 2)
    labels = jnp.eye(5)[:3]
    more = ((0, 0), (0, 0), (0, num_classes - 5))
    padded = jnp.pad(cas, more, constant_values=-1e4)
    padded_selected = jnp.pad(selected, more).at[:, :2, 5:].set(True)
    padded_labels = jnp.pad(labels, more[1:])
    few, many = (
        jax.value_and_grad(losses.video_loss)(*arguments)
        for arguments in ((cas, selected, labels), (padded, padded_selected, padded_labels))
    )
    np.testing.assert_allclose(many[0], few[0], rtol=1e-6)
    np.testing.assert_allclose(many[1][..., :5], few[1], atol=1e-7)
    np.testing.assert_array_equal(many[1][..., 5:], 0)
    # Where nothing is known, every class added makes it a little harder, by the logarithm only.
    nothing = losses.video_loss(jnp.zeros_like(padded), padded_selected, padded_labels)
    np.testing.assert_allclose(nothing, np.log(num_classes), rtol=1e-6)
