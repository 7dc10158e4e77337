"""The peer computes the same step as ours, or its time would mean nothing. Needs torch (extra `bench`)."""

import jax
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.method.scores import score_videos
from case_jax.training.state import create_train_state
from case_jax.training.step import train_step

torch = pytest.importorskip("torch", reason="torch is not installed (extra 'bench')")
pytestmark = pytest.mark.usefixtures("standard_dtypes")

CONFIG = CaseConfig(num_snippets=16, batch_size=3, hidden_dim=8, num_clusters=4, sigma=0.3)
WIDTHS = {"rgb": 6, "flow": 4}
LAYERS = {
    "cas.0": "cas_encoder",
    "cas.2": "cas_head",
    "encoder.0": "attention_encoder",
    "attention": "attention_head",
}


@pytest.fixture
def both():
    from benchmarks.torch_step import TorchCase

    state = create_train_state(CONFIG, jax.random.key(0), stream_widths=WIDTHS, num_classes=3)
    peer = TorchCase(tuple(WIDTHS.values()), 3, CONFIG)
    for module, name in zip(peer.streams, WIDTHS):
        params = state.params[name]
        weights = {"prototypes.weight": params["prototypes"]}
        for theirs, ours in LAYERS.items():
            weights[f"{theirs}.weight"] = np.asarray(params[ours]["kernel"]).T[..., None]
            weights[f"{theirs}.bias"] = params[ours]["bias"]
        module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return state, peer


def batch():
    rng = np.random.default_rng(0)
    features = {
        name: rng.standard_normal((3, 16, width)).astype(np.float32) for name, width in WIDTHS.items()
    }
    return {"features": features, "labels": np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], np.float32)}


def as_torch(features):
    joined = np.concatenate(list(features.values()), axis=2)
    return torch.from_numpy(np.ascontiguousarray(joined.transpose(0, 2, 1)))


def test_the_peer_takes_the_same_steps(both):
    state, peer = both
    data = batch()
    for _ in range(4):
        state, metrics = jax.jit(train_step)(state, data)
        loss = peer.step(as_torch(data["features"]), torch.from_numpy(data["labels"]))
        assert loss == pytest.approx(float(metrics["loss"]), rel=1e-5)
        np.testing.assert_allclose(peer.cluster_labels.numpy(), state.cluster_labels, atol=1e-5)


def test_the_peer_scores_the_same(both):
    state, peer = both
    data = batch()["features"]
    ours = score_videos(state.params, state.cluster_labels, data, network=state.network, top_k=CONFIG.top_k)
    with torch.no_grad():
        fused, video = peer.score(as_torch(data))
    np.testing.assert_allclose(fused, ours.fused, atol=1e-6)
    np.testing.assert_allclose(video, ours.video, atol=1e-6)
