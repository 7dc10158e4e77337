import pytest

from benchmarks.extract_stages import stage_rates
from case_jax.video.weights import read_weights


@pytest.mark.slow
@pytest.mark.optimised
def test_every_stage_has_a_rate():
    rates = stage_rates(read_weights(), num_frames=20, size=(64, 48), num_workers=0)
    assert list(rates) == ["decoding, resizing, cropping", "flow dis", "flow tvl1", "all together"]
    assert all(rate > 0 for rate in rates.values())
