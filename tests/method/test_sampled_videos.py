import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.feature_files import FeatureFiles
from case_jax.data.packed import pack
from case_jax.data.sources import Source
from case_jax.method import sampled_videos
from case_jax.method.sampled_videos import sample_videos, score_sampled
from case_jax.method.scores import score_videos
from case_jax.training.state import create_train_state

LENGTHS, SNIPPETS, WIDTHS = (1, 5, 16, 40, 2), 16, {"rgb": 6, "flow": 4}
STREAMS = tuple(WIDTHS)
CONFIG = CaseConfig(num_snippets=SNIPPETS, hidden_dim=8, num_clusters=4, batch_size=3)
DISTINCT = 1 + 5 + 16 + 16 + 2


@pytest.fixture(scope="module")
def state():
    state = create_train_state(CONFIG, jax.random.key(0), stream_widths=WIDTHS, num_classes=3)
    foreground = jnp.linspace(0, 1, CONFIG.num_clusters)
    return state.replace(cluster_labels=jnp.stack([foreground, 1 - foreground], axis=1))


@pytest.fixture(scope="module")
def videos():
    rng = np.random.default_rng(0)
    return [
        {stream: rng.standard_normal((length, width), np.float32) for stream, width in WIDTHS.items()}
        for length in LENGTHS
    ]


def score_plainly(state, videos, foreground="mixed"):
    """Scores of the (B, T, D) batch of all videos, gathered sample by sample."""
    batch = {
        stream: np.stack([v[stream][np.arange(SNIPPETS) * len(v[stream]) // SNIPPETS] for v in videos])
        for stream in STREAMS
    }
    return score_videos(
        state.params,
        state.cluster_labels if state.config.ccc else None,
        batch,
        network=state.network,
        top_k=state.config.top_k,
        foreground=foreground,
    )


def assert_same_scores(found, expected):
    for name in expected._fields:
        ours, theirs = getattr(found, name), getattr(expected, name)
        if theirs is None:
            assert ours is None
        else:
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("block_size", [pytest.param(1, marks=pytest.mark.slow), 7, 12_000])
@pytest.mark.parametrize("store", ["packed", "per video"])
def test_scores_are_those_of_plainly_gathered_videos(state, videos, store, block_size):
    features = pack(videos, STREAMS) if store == "packed" else videos
    sampled = sample_videos(features, num_snippets=SNIPPETS, block_size=block_size)
    found = score_sampled(state, sampled)
    assert found.fused.shape == (5, SNIPPETS, 3)
    assert found.video.shape == (5, 3)
    assert found.clusters.shape == (5, SNIPPETS, 4)
    assert_same_scores(found, score_plainly(state, videos))


def test_scores_of_files_are_those_of_arrays(state, videos, tmp_path):
    for stream in STREAMS:
        (tmp_path / stream).mkdir()
        for i, video in enumerate(videos):
            np.save(tmp_path / stream / f"v{i}.npy", video[stream])
    files = [
        FeatureFiles({stream: Source(tmp_path / stream / f"v{i}.npy") for stream in STREAMS})
        for i in range(len(videos))
    ]
    of_files, of_arrays = (
        score_sampled(state, sample_videos(v, num_snippets=SNIPPETS, block_size=7)) for v in (files, videos)
    )
    for a, b in zip(of_files, of_arrays, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("foreground", ["attention", "transformed", "mixed"])
def test_every_kind_of_foreground_is_passed_on(state, videos, foreground):
    sampled = sample_videos(videos, num_snippets=SNIPPETS)
    assert_same_scores(
        score_sampled(state, sampled, foreground=foreground), score_plainly(state, videos, foreground)
    )


@pytest.mark.parametrize("ccc", [True, False])
def test_without_clustering_assisted_testing_attention_is_the_foreground(state, videos, ccc):
    config = CaseConfig(**{**vars(CONFIG), "ccc": ccc, "clustering_assisted_testing": False})
    state = state.replace(config=config)
    found = score_sampled(state, sample_videos(videos, num_snippets=SNIPPETS))
    assert_same_scores(found, score_plainly(state, videos, "attention"))
    assert (found.mixed_foreground is None) == (not ccc)


def test_no_snippet_is_scored_twice(videos):
    for features in (pack(videos, STREAMS), videos):
        sampled = sample_videos(features, num_snippets=SNIPPETS, block_size=7)
        assert [len(snippets) for snippets in sampled.snippets] == [1, 5, 16, 16, 2]
        assert np.unique(sampled.samples).tolist() == list(range(DISTINCT))
        assert sampled.lengths.tolist() == list(LENGTHS)
        assert sampled.samples.dtype == sampled.lengths.dtype == np.int32
        begin = 0
        for length, snippets, row in zip(LENGTHS, sampled.snippets, sampled.samples, strict=True):
            np.testing.assert_array_equal(snippets[row - begin], np.arange(SNIPPETS) * length // SNIPPETS)
            begin += len(snippets)


@pytest.mark.parametrize("block_size, blocks", [(7, (6, 7)), (40, (1, 40)), (12_000, (1, 40)), (1, (40, 1))])
def test_blocks_hold_each_distinct_snippet_once(videos, block_size, blocks):
    packed = pack(videos, STREAMS)
    sampled = sample_videos(packed, num_snippets=SNIPPETS, block_size=block_size)
    assert sampled.blocks.shape == blocks
    rows = np.asarray(sampled.blocks).reshape(-1)[:DISTINCT]
    expected = [first + s for first, of_video in zip(packed.first, sampled.snippets) for s in of_video]
    assert rows.tolist() == expected


def test_the_filling_is_never_read(state, videos):
    """The filling repeats row 0, so only the video of row 0 may depend on it."""
    broken = [{stream: array.copy() for stream, array in video.items()} for video in videos]
    for stream in STREAMS:
        broken[0][stream][:] = np.nan
    sampled = sample_videos(pack(broken, STREAMS), num_snippets=SNIPPETS, block_size=7)
    assert np.asarray(sampled.blocks).reshape(-1)[DISTINCT:].tolist() == [0, 0]
    found, expected = score_sampled(state, sampled), score_plainly(state, videos)
    assert np.isnan(found.fused[0]).all()
    np.testing.assert_allclose(found.fused[1:], expected.fused[1:], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.video[1:], expected.video[1:], rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 2, 3, 5])
def test_dealing_out_in_several_calls_changes_nothing(state, videos, monkeypatch, at_once):
    sampled = sample_videos(pack(videos, STREAMS), num_snippets=SNIPPETS)
    whole = score_sampled(state, sampled)
    calls, deal_out = [], sampled_videos._deal_out
    monkeypatch.setattr(sampled_videos, "_SCORES_PER_CALL", at_once * SNIPPETS * 3)
    monkeypatch.setattr(
        sampled_videos, "_deal_out", lambda *a, **k: calls.append(a[2].shape) or deal_out(*a, **k)
    )
    parts = score_sampled(state, sampled)
    assert calls == [(at_once, SNIPPETS)] * -(-5 // at_once)
    for a, b in zip(jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


def test_even_one_video_too_large_for_a_call_is_dealt_out(state, videos, monkeypatch):
    sampled = sample_videos(videos, num_snippets=SNIPPETS)
    monkeypatch.setattr(sampled_videos, "_SCORES_PER_CALL", 1)
    assert_same_scores(score_sampled(state, sampled), score_plainly(state, videos))


@pytest.mark.slow
def test_bfloat16_features_score_nearly_alike(state, videos):
    with jax.numpy_dtype_promotion("standard"):
        found = score_sampled(state, sample_videos(pack(videos, STREAMS, "bfloat16"), num_snippets=SNIPPETS))
    exact = score_plainly(state, videos)
    assert found.fused.dtype == jnp.float32
    np.testing.assert_allclose(found.fused, exact.fused, rtol=0, atol=0.02)
    assert not np.array_equal(found.fused, exact.fused)
