import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.method import losses
from case_jax.method.labels import label_foreground, top_k_mask
from tests.helpers import reference

_top_k_mask = jax.jit(top_k_mask, static_argnums=1)
_video_loss = jax.jit(losses.video_loss, static_argnames="background")


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
    mask = _top_k_mask(cas, 3)
    chosen = [[reference.top_k(cas[b, :, g], 3) for g in range(4)] for b in range(3)]
    want = reference.video_loss(cas.astype(float), chosen, labels)
    np.testing.assert_allclose(_video_loss(cas, mask, labels), want, rtol=1e-6)


@pytest.mark.parametrize("num_classes", [1, 4])
def test_video_loss_with_a_background_class(batch, num_classes):
    """The class beside the others has logit 0, and is the label of the videos without any action."""
    cas, _, labels = batch
    cas, labels = cas[..., :num_classes], labels[:, :num_classes].copy()
    labels[1] = 0
    mask = _top_k_mask(cas, 3)
    logits = np.zeros((3, num_classes + 1))
    for b in range(3):
        for g in range(num_classes):
            logits[b, g] = np.sort(cas[b, :, g].astype(float))[-3:].mean()
    target = np.concatenate([labels / np.maximum(labels.sum(1), 1)[:, None], [[0], [1], [0]]], axis=1)
    want = reference.cross_entropy(target, logits)
    np.testing.assert_allclose(_video_loss(cas, mask, labels, background=True), want, rtol=1e-6)
    if num_classes == 1:  # the cross-entropy of a sigmoid
        signs = np.array([1, -1, 1])
        np.testing.assert_allclose(np.log1p(np.exp(-signs * logits[:, 0])).mean(), want, rtol=1e-6)


@pytest.mark.parametrize("gamma", [0.1, 0.7])
def test_attention_loss_is_equation_2(batch, gamma):
    _, attention, _ = batch
    labels = (np.arange(16) % 3 == 0).astype(np.float32) * np.ones((3, 1), np.float32)
    want = reference.attention_loss(attention.astype(float), labels, gamma)
    got = losses.attention_loss(jnp.asarray(attention), jnp.asarray(labels), gamma=gamma)
    np.testing.assert_allclose(got, want, rtol=2e-6)
    assert np.isfinite(jax.jit(jax.grad(losses.attention_loss))(attention, labels, gamma=gamma)).all()


def test_clustering_losses_are_equations_3_and_6(batch):
    cas, _, _ = batch
    labels = reference.softmax(np.random.default_rng(1).standard_normal(cas.shape)).astype(np.float32)
    want = reference.cross_entropy(labels.reshape(-1, 4), cas.reshape(-1, 4).astype(float))
    np.testing.assert_allclose(jax.jit(losses.clustering_loss)(cas, labels), want, rtol=1e-6)
    flat = jax.jit(losses.cluster_classification_loss)(cas.reshape(-1, 4), labels.reshape(-1, 4))
    np.testing.assert_allclose(flat, want, rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("video", marks=pytest.mark.slow),
        "background",
        "attention",
        pytest.param("clustering", marks=pytest.mark.slow),
    ],
)
def test_gradients_are_finite_differences(batch, name):
    with jax.enable_x64(True):
        cas, attention, labels = (np.asarray(a, np.float64) for a in batch)
        attention = np.clip(attention, 0.05, 0.95)
        mask = _top_k_mask(cas, 3)
        q_a = np.asarray(label_foreground(mask, labels), np.float64)
        soft = reference.softmax(cas[::-1])
        without = labels * [[1], [0], [1]]  # the second video shows no action
        function, at = {
            "video": (lambda x: losses.video_loss(x, mask, labels), cas),
            "background": (
                lambda x: losses.video_loss(x, mask, without, background=True),
                cas,
            ),
            "attention": (lambda x: losses.attention_loss(x, q_a, gamma=0.7), attention),
            "clustering": (lambda x: losses.clustering_loss(x, soft), cas),
        }[name]
        direction = np.random.default_rng(2).standard_normal(at.shape)
        value_and_grad = jax.jit(jax.value_and_grad(function))
        ends = [value_and_grad(at + step * direction)[0] for step in (1e-6, -1e-6)]
        slope = np.sum(np.asarray(value_and_grad(at)[1]) * direction)
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("num_classes", [20, 200])
def test_video_loss_does_not_shrink_with_the_number_of_classes(num_classes):
    # Classes of very low logits change neither the loss nor its gradient.
    keys = jax.random.split(jax.random.key(0), 2)
    cas = jax.random.normal(keys[0], (3, 8, 5))
    selected = top_k_mask(jax.random.normal(keys[1], (3, 8, 5)), 2)
    labels = jnp.eye(5)[:3]
    more = ((0, 0), (0, 0), (0, num_classes - 5))
    padded = jnp.pad(cas, more, constant_values=-1e4)
    padded_selected = jnp.pad(selected, more).at[:, :2, 5:].set(True)
    padded_labels = jnp.pad(labels, more[1:])
    few, many = (
        jax.jit(jax.value_and_grad(losses.video_loss))(*arguments)
        for arguments in ((cas, selected, labels), (padded, padded_selected, padded_labels))
    )
    np.testing.assert_allclose(many[0], few[0], rtol=1e-6)
    np.testing.assert_allclose(many[1][..., :5], few[1], atol=1e-7)
    np.testing.assert_array_equal(many[1][..., 5:], 0)
    # With equal logits the loss grows with the logarithm of the number of classes.
    nothing = losses.video_loss(jnp.zeros_like(padded), padded_selected, padded_labels)
    np.testing.assert_allclose(nothing, np.log(num_classes), rtol=1e-6)
