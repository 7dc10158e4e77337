import jax
import jax.numpy as jnp

from case_jax.config import CaseConfig
from case_jax.method.cost import count_macs, count_parameters
from case_jax.method.network import CaseNetwork


def test_size_and_cost_of_table_1():
    network = CaseNetwork.from_config(CaseConfig(), streams=("rgb", "flow"), num_classes=20)
    widths = {"rgb": 1024, "flow": 1024}
    params = jax.eval_shape(
        network.init, jax.random.key(0), {n: jnp.zeros((1, 1, w)) for n, w in widths.items()}
    )
    per_stream = 2 * (1024 * 512 + 512) + (512 * 20 + 20) + (512 + 1) + 16 * 512
    assert count_parameters(params) == 2 * per_stream == 2_137_130  # Table 1: 2.13 M
    per_snippet = 2 * 1024 * 512 + 512 * 20 + 512 + 16 * 512
    assert count_macs(network, widths, 750) == 2 * 750 * per_snippet == 1_601_280_000  # Table 1: 1.60 G
    baseline = network.clone(num_clusters=0)
    assert count_macs(baseline, widths, 750) == 2 * 750 * (per_snippet - 16 * 512)
