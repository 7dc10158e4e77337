import multiprocessing
import shutil
import threading
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from case_jax.data.host_batches import HostBatches, host_batches
from case_jax.data.load import load_dataset
from case_jax.data.packed import pack
from case_jax.data.samplers import gather_batch, plan_batch
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.data.thumos import write_dataset
from tests.helpers.refusals import assert_parts, refusal

STREAMS, BATCH, SNIPPETS = ("rgb", "flow"), 4, 30
SPEC = SyntheticSpec(num_train=9, num_test=1, num_classes=3, width=4, min_snippets=10, max_snippets=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(make_synthetic_dataset(0, SPEC), folder)
    return folder


@pytest.fixture(scope="module", params=["memory", "disk"])
def split(request, folder):
    return load_dataset(folder, in_memory=request.param == "memory").train


def batches_of(split, **options):
    options = {"sampling": "stratified", "batch_size": BATCH, **options}
    return HostBatches(
        key_data=np.asarray(jax.random.key_data(jax.random.key(5))),
        videos=[video.features for video in split.videos],
        labels=split.video_labels(make_synthetic_dataset(0, SPEC).info.classes),
        lengths=np.array([video.num_snippets for video in split.videos], np.int32),
        streams=STREAMS,
        num_snippets=SNIPPETS,
        **options,
    )


def assert_same_batch(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    assert set(found["features"]) == set(STREAMS)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("sampling", ["stratified", "uniform"])
def test_the_host_loads_what_a_device_gathers(split, sampling):
    batches = batches_of(split, sampling=sampling)
    features = jax.tree.map(jnp.asarray, pack(batches.videos, STREAMS))

    @jax.jit
    def on_device(step):
        plan = plan_batch(
            jax.random.key(5),
            step,
            features.lengths,
            batch_size=BATCH,
            num_snippets=SNIPPETS,
            sampling=sampling,
        )
        return {"features": gather_batch(features, plan), "labels": jnp.asarray(batches.labels)[plan.videos]}

    for step in (0, 1, 2, 17):
        found = batches(step)
        assert {type(leaf) for leaf in jax.tree.leaves(found)} == {np.ndarray}
        assert_same_batch(found, jax.tree.map(np.asarray, on_device(jnp.int32(step))))
    videos = np.concatenate([batches.plan(step).videos for step in (0, 1)])
    assert len(set(videos.tolist())) == 2 * BATCH


@pytest.mark.parametrize("num_shards", [1, 2, 4])
def test_shards_together_are_the_whole_batch(split, num_shards):
    whole = batches_of(split)(3)
    shards = [batches_of(split, shard=i, num_shards=num_shards)(3) for i in range(num_shards)]
    assert {len(shard["labels"]) for shard in shards} == {BATCH // num_shards}
    assert_same_batch(jax.tree.map(lambda *parts: np.concatenate(parts), *shards), whole)


def test_a_batch_must_divide_evenly(split):
    with pytest.raises(ValueError, match=r"^a batch of 4 cannot be divided in 3 parts$"):
        batches_of(split, num_shards=3)


def test_a_batch_needs_as_many_videos(split):
    with pytest.raises(ValueError, match="a batch of 10 videos needs as many, got 9"):
        batches_of(split, batch_size=10)(0)


@pytest.mark.parametrize("prefetch", [1, 2, 10])
def test_a_thread_yields_the_steps_in_order(split, prefetch):
    batches = batches_of(split)
    found = list(host_batches(batches, 3, 8, prefetch=prefetch))
    assert len(found) == 5
    for step, batch in enumerate(found, start=3):
        assert_same_batch(batch, batches(step))
    assert list(host_batches(batches, 3, 3)) == []


@pytest.mark.slow
def test_workers_yield_the_same_steps_in_order_and_stop_when_closed(folder):
    flags.FLAGS.mark_as_parsed()
    batches = batches_of(load_dataset(folder, in_memory=False).train)
    loading = host_batches(batches, 2, 10_000, num_workers=2)
    for step in range(2, 7):
        assert_same_batch(next(loading), batches(step))
    assert multiprocessing.active_children()
    loading.close()
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_workers_end_after_the_last_step(folder):
    flags.FLAGS.mark_as_parsed()
    batches = batches_of(load_dataset(folder, in_memory=False).train)
    assert len(list(host_batches(batches, 2, 7, num_workers=2))) == 5
    assert not multiprocessing.active_children()


class Counting:
    """Loads steps instead of batches, and notes which were asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, step):
        self.asked.append(step)
        return {"labels": np.array([step])}


def test_closing_early_stops_the_loading():
    before, counting = threading.active_count(), Counting()
    loading = host_batches(counting, 0, 10_000, prefetch=2)
    assert [next(loading)["labels"].item() for _ in range(3)] == [0, 1, 2]
    loading.close()
    asked = len(counting.asked)
    assert asked < 10
    assert threading.active_count() <= before
    assert len(counting.asked) == asked


def test_batches_do_not_share_memory_with_the_loader():
    kept = np.zeros(3)
    (batch,) = host_batches(lambda step: {"labels": kept}, 0, 1)
    assert not np.shares_memory(batch["labels"], kept)


def test_a_value_that_is_not_finite_is_named(tmp_path):
    made = make_synthetic_dataset(0, SPEC)
    write_dataset(made, tmp_path)
    for video in made.train.videos:
        np.save(
            tmp_path / "features" / "train" / "flow" / f"{video.name}.npy",
            np.full((video.num_snippets, 4), np.nan),
        )
    batches = batches_of(load_dataset(tmp_path, in_memory=False).train, sampling="uniform")
    first = made.train.videos[int(batches.plan(0).videos[0])].name
    message = refusal(next, host_batches(batches, 0, 1))
    path = f"{tmp_path}/features/train/flow/{first}.npy"
    assert_parts(message, path, "snippet 0, channel 0 is nan", "finite")


def test_shared_memory_that_is_too_small_is_named_before_workers_start(folder, monkeypatch):
    batches = batches_of(load_dataset(folder, in_memory=False).train)
    assert batches.nbytes == sum(array.nbytes for array in batches(0)["features"].values())
    needed = 2 * 3 * batches.nbytes
    room = types.SimpleNamespace(free=needed - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: room)
    message = refusal(next, host_batches(batches, 0, 5, num_workers=2))
    assert_parts(message, "--num_workers", "2 … /dev/shm has room for", "--shm-size=1m")
    assert next(host_batches(batches, 0, 1))["labels"].shape[0] == BATCH  # a thread needs none
