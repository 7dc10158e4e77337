import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.packed import allocate_rows, pack
from case_jax.training import parallel
from case_jax.training.feeding import TrainingSet, train_chunk
from case_jax.training.loop import fit
from case_jax.training.state import create_train_state, select_seed, stack_seeds

pytestmark = [pytest.mark.usefixtures("standard_dtypes"), pytest.mark.optimised]

BATCH, SNIPPETS, HIDDEN, NUM_CLASSES = 8, 16, 12, 3
WIDTHS = {"rgb": 6, "flow": 5}


def start(seed=0, **fields):
    config = CaseConfig(
        num_snippets=SNIPPETS, batch_size=BATCH, hidden_dim=HIDDEN, num_clusters=4, sigma=0.3, **fields
    )
    return create_train_state(config, jax.random.key(seed), stream_widths=WIDTHS, num_classes=NUM_CLASSES)


@pytest.fixture(scope="module")
def videos():
    """Nineteen videos of different lengths, two batches an epoch, and their labels."""
    rng = np.random.default_rng(3)
    features = [
        {name: rng.standard_normal((length, width), np.float32) for name, width in WIDTHS.items()}
        for length in rng.integers(1, 60, 19)
    ]
    return features, np.eye(NUM_CLASSES, dtype=np.float32)[rng.integers(0, NUM_CLASSES, 19)]


def mesh_of(num_devices):
    return parallel.make_mesh(jax.devices()[:num_devices])


def train(state, videos, *, num_devices=1, **options):
    """Three epochs in two chunks."""
    options = {"num_steps": 6, "report_every": 3, "mesh": mesh_of(num_devices), **options}
    return list(fit(state, *videos, **options))


@pytest.fixture(scope="module")
def on_one_device(videos):
    with jax.numpy_dtype_promotion("standard"):
        return train(start(), videos)


@pytest.fixture(scope="module")
def on_four_devices(videos):
    with jax.numpy_dtype_promotion("standard"):
        return train(start(), videos, num_devices=4)


def leaves(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves((state.params, state.cluster_labels))]


def assert_close_runs(found, expected):
    assert [(r.step, r.num_steps) for r in found] == [(r.step, r.num_steps) for r in expected]
    for ours, theirs in zip(found, expected):
        assert ours.metrics.keys() == theirs.metrics.keys()
        for name, value in theirs.metrics.items():
            np.testing.assert_allclose(ours.metrics[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        for a, b in zip(leaves(ours.state), leaves(theirs.state), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def assert_same_runs(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.step, ours.num_steps, ours.metrics) == (theirs.step, theirs.num_steps, theirs.metrics)
        for a, b in zip(leaves(ours.state), leaves(theirs.state), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_several_devices_train_alike(on_one_device, on_four_devices):
    found = on_four_devices
    assert_close_runs(found, on_one_device)
    for leaf in jax.tree.leaves(found[-1].state.params):
        assert len(leaf.sharding.device_set) == 4
        assert leaf.sharding.is_fully_replicated
    # It did learn: the comparison is not one of initial parameters.
    kernels = [s.params["rgb"]["cas_encoder"]["kernel"] for s in (start(), found[-1].state)]
    assert np.abs(np.asarray(kernels[0]) - np.asarray(kernels[1])).max() > 1e-4


@pytest.mark.slow
def test_feeding_from_the_host_is_feeding_from_the_device(on_four_devices, videos):
    assert_same_runs(train(start(), videos, num_devices=4, on_device=False), on_four_devices)


@pytest.mark.slow
def test_seeds_are_divided_over_devices_too(on_one_device, videos):
    together = train(stack_seeds([start(1), start(0)]), videos, num_devices=2)
    second = [
        r._replace(state=select_seed(r.state, 1), metrics={n: v[1] for n, v in r.metrics.items()})
        for r in together
    ]
    assert_close_runs(second, on_one_device)


def test_a_batch_that_does_not_divide_is_refused(videos):
    for options in ({}, {"on_device": False}):
        with pytest.raises(ValueError, match="a batch of 8 cannot be divided over 3 devices"):
            train(start(), videos, num_devices=3, **options)


def gathered_shapes(program):
    """The shapes that all-gathers of a compiled program result in."""
    results = re.findall(r"= (.*?) all-gather(?:-start)?\(", program)
    shapes = [shape for result in results for shape in re.findall(r"\w+\[([\d,]*)\]", result)]
    return [tuple(map(int, shape.split(","))) for shape in shapes]


@pytest.mark.slow
def test_features_and_activations_stay_on_their_devices(videos):
    mesh = mesh_of(4)
    training_set = TrainingSet(pack(videos[0], ("rgb", "flow")), videos[1])
    state, training_set = parallel.replicate((start(), training_set), mesh)
    compiled = jax.jit(train_chunk, static_argnames=("num_steps", "mesh"))
    program = compiled.lower(state, training_set, num_steps=3, mesh=mesh).compile().as_text()
    shapes = gathered_shapes(program)
    # Ranks need the attention of all snippets.
    assert math.prod(min(shapes, key=math.prod)) == BATCH * SNIPPETS
    snippets = BATCH * SNIPPETS
    for shape in shapes:
        assert math.prod(shape) not in [snippets * width for width in (*WIDTHS.values(), HIDDEN)]
        assert math.prod(shape) <= snippets * NUM_CLASSES
        assert HIDDEN not in shape


def test_make_mesh_has_one_axis_over_all_devices():
    mesh = parallel.make_mesh()
    assert mesh.size == len(jax.devices()) == 8
    assert len(mesh.axis_names) == 1
    assert mesh_of(3).devices.tolist() == jax.devices()[:3]


def test_replicate_puts_a_tree_on_every_device():
    tree = {"array": np.arange(6.0), "key": jax.random.key(3), "number": jnp.int32(4)}
    placed = parallel.replicate(tree, mesh_of(4))
    for name in tree:
        assert placed[name].sharding.is_fully_replicated
        assert len(placed[name].sharding.device_set) == 4
    np.testing.assert_array_equal(placed["array"], np.arange(6.0))
    assert placed["number"].item() == 4
    assert jax.random.key_impl(placed["key"]) == jax.random.key_impl(tree["key"])
    assert jax.random.bits(placed["key"]) == jax.random.bits(tree["key"])


def test_replicate_shares_an_aligned_array_with_the_first_device():
    rows = allocate_rows(5, 3, np.dtype(np.float32))
    rows[:] = 1
    placed = parallel.replicate(rows, mesh_of(2))
    assert placed.addressable_shards[0].data.unsafe_buffer_pointer() == rows.ctypes.data


def test_a_local_batch_is_divided_over_the_devices():
    batch = {"features": {"rgb": np.arange(24.0).reshape(8, 3)}, "labels": np.arange(8)}
    divided = parallel.from_local_batch(batch, mesh_of(4))
    np.testing.assert_array_equal(divided["features"]["rgb"], batch["features"]["rgb"])
    for i, shard in enumerate(divided["labels"].addressable_shards):
        assert shard.data.tolist() == [2 * i, 2 * i + 1]


def test_divide_batch_leaves_each_device_its_videos():
    mesh = mesh_of(4)
    batch = jnp.arange(8), jnp.ones((4, 2))
    divided = jax.jit(lambda tree: parallel.divide_batch(tree, mesh))(batch)
    for i, shard in enumerate(divided[0].addressable_shards):
        assert shard.data.tolist() == [2 * i, 2 * i + 1]
    assert {shard.data.shape for shard in divided[1].addressable_shards} == {(1, 2)}


def test_a_local_copy_is_on_the_first_device_alone():
    tree = parallel.replicate({"array": np.arange(3), "key": jax.random.key(3)}, mesh_of(4))
    copy = parallel.local_copy(tree)
    for leaf in jax.tree.leaves(copy):
        assert leaf.devices() == {jax.devices()[0]}
    assert copy["array"].tolist() == [0, 1, 2]
    assert jax.random.bits(copy["key"]) == jax.random.bits(jax.random.key(3))
