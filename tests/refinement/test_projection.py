import numpy as np
import pytest

from case_jax.data.packed import pack
from case_jax.method.sampled_videos import sample_videos
from case_jax.refinement.projection import project_sampled

STREAMS = ("rgb", "flow")


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("block_size", [4, 4096])
def test_every_sample_gets_what_the_first_layer_makes_of_its_snippet(packed, block_size):
    rng = np.random.default_rng(0)
    videos = [
        {"rgb": rng.standard_normal((n, 3), np.float32), "flow": rng.standard_normal((n, 2), np.float32)}
        for n in (5, 20, 8)
    ]
    kernel = rng.standard_normal((5, 4, 6)).astype(np.float32)
    given = pack(videos, STREAMS) if packed else videos
    found = project_sampled(kernel, sample_videos(given, num_snippets=8, block_size=block_size), STREAMS)
    assert found.shape == (3, 8, 4, 6)
    for row, video in zip(np.asarray(found), videos):
        features = np.concatenate([video[name] for name in STREAMS], axis=1).astype(np.float64)
        samples = features[np.arange(8) * len(features) // 8]
        np.testing.assert_allclose(row, np.einsum("td,dkh->tkh", samples, kernel), rtol=1e-4, atol=1e-5)
