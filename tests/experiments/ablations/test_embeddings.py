import jax
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from case_jax.config import CaseConfig
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.training.state import create_train_state
from experiments.ablations import embeddings


@pytest.fixture(scope="module")
def dataset():
    return make_synthetic_dataset(0, SyntheticSpec(num_train=2, num_test=3, num_classes=2, width=8))


def test_snippets_are_drawn_once_each_with_their_kind(dataset):
    total = sum(video.num_snippets for video in dataset.test.videos)
    features, foreground = embeddings.draw_snippets(dataset, total + 5)
    whole = np.concatenate([video.features["rgb"] for video in dataset.test.videos])
    np.testing.assert_array_equal(features["rgb"][0], whole)
    middles = [(np.arange(v.num_snippets) + 0.5) * 0.64 for v in dataset.test.videos]
    truth = [
        [any(a.start <= second < a.end for a in video.annotations) for second in of_video]
        for video, of_video in zip(dataset.test.videos, middles)
    ]
    np.testing.assert_array_equal(foreground, np.concatenate(truth))
    some, _ = embeddings.draw_snippets(dataset, 20)
    assert some["flow"].shape == (1, 20, 8)
    assert len(np.unique(some["flow"][0], axis=0)) == 20


@pytest.mark.slow
def test_there_is_a_panel_for_each_stream_in_order(dataset):
    config = CaseConfig(num_snippets=8, hidden_dim=6, num_clusters=3)
    state = create_train_state(config, jax.random.key(0), stream_widths=dataset.stream_widths, num_classes=2)
    with threadpool_limits(1):  # so few points keep no second thread busy: it would only wait, at full speed
        panels = embeddings.maps(state, *embeddings.draw_snippets(dataset, 30), name="CASE")
    assert [panel.title for panel in panels] == ["CASE, rgb", "CASE, flow"]
    for panel in panels:
        assert panel.snippets.shape == (30, 2)
        assert len(panel.prototypes) == len(panel.prototype_foreground) == 3
        assert np.isfinite(panel.snippets).all()


def test_agreement_is_1_for_separate_kinds_and_a_half_for_mixed_ones():
    rng = np.random.default_rng(0)
    kinds = np.arange(200) < 40
    mixed = rng.standard_normal((200, 3))
    assert embeddings.agreement(mixed + 50 * kinds[:, None], kinds) == 1
    assert abs(embeddings.agreement(mixed, kinds) - 0.5) < 0.06
    assert embeddings.agreement(mixed, np.zeros(200, bool)) == 1
