import jax
import jax.numpy as jnp
import pytest

from case_jax.data.packed import pack
from case_jax.training.loop import fit
from case_jax.training.state import stack_seeds
from tests.helpers.small import small_state, small_videos

pytestmark = pytest.mark.usefixtures("standard_dtypes")


@pytest.mark.slow
def test_packed_videos_train_as_videos_do():
    features, labels = small_videos()
    (apart,) = fit(small_state(sigma=0.3), features, labels, num_steps=3)
    (packed,) = fit(small_state(sigma=0.3), pack(features, ("rgb", "flow")), labels, num_steps=3)
    assert packed.metrics == apart.metrics


@pytest.mark.slow
def test_bfloat16_features_train_nearly_alike():
    features, labels = small_videos()
    (exact,) = fit(small_state(sigma=0.3), features, labels, num_steps=3)
    (near,) = fit(small_state(sigma=0.3, feature_dtype="bfloat16"), features, labels, num_steps=3)
    for name, value in exact.metrics.items():
        if name.startswith("loss"):
            assert near.metrics[name] == pytest.approx(value, rel=0.05), name
    assert near.metrics["loss"] != exact.metrics["loss"]
    for leaf in jax.tree.leaves(near.state.params):
        assert leaf.dtype == jnp.float32


@pytest.mark.slow
def test_many_seeds_need_their_features_on_the_device():
    states = stack_seeds([small_state(0), small_state(1)])
    with pytest.raises(ValueError, match="many seeds at once need their features on the device"):
        list(fit(states, *small_videos(), num_steps=1, on_device=False))
