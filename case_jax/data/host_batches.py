"""Batches for features that do not fit on the device, gathered on the host ahead of training.

Needs grain (extra `host`).
"""

import dataclasses
import gc
import multiprocessing
from collections.abc import Generator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.data.feature_files import read_snippets
from case_jax.data.samplers import BatchPlan, plan_batches

__all__ = ["HostBatches", "host_batches"]


@dataclasses.dataclass(frozen=True)
class HostBatches:
    """Step -> the batch that `case_jax.data.samplers.plan_batch` draws for it; can be sent to a process.

    Attributes:
        key_data: of the run's PRNG key, (2,) uint32 numpy (a key itself cannot be sent).
        videos: V training videos, stream name -> (T_v, D), in memory or `FeatureFiles`.
        labels: (V, G) float32.
        lengths: (V,) int32.
        streams: which streams.
        batch_size: B of the global batch.
        num_snippets: T.
        sampling: "stratified" or "uniform".
        shard: which part of the batch's B videos to load.
        num_shards: into how many equal parts the batch is divided.
    """

    key_data: np.ndarray
    videos: Sequence[Mapping[str, np.ndarray]]
    labels: np.ndarray
    lengths: np.ndarray
    streams: tuple[str, ...]
    batch_size: int
    num_snippets: int
    sampling: str = "stratified"
    shard: int = 0
    num_shards: int = 1

    def __post_init__(self):
        if self.batch_size % self.num_shards:
            raise ValueError(f"a batch of {self.batch_size} cannot be divided in {self.num_shards} parts")

    def plan(self, step: int) -> BatchPlan:
        """The step's plan, of the whole batch, as numpy arrays."""
        if multiprocessing.parent_process() is not None:
            # A worker must not take a share of the accelerator to draw a few integers.
            jax.config.update("jax_platforms", "cpu")
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            plans = plan_batches(
                jax.random.wrap_key_data(jnp.asarray(self.key_data)),
                step,
                self.lengths,
                num_steps=1,
                batch_size=self.batch_size,
                num_snippets=self.num_snippets,
                sampling=self.sampling,
            )
        return BatchPlan(*(np.asarray(array)[0] for array in plans))

    def __call__(self, step: int) -> dict:
        """The step's batch of numpy arrays, as `train_step` takes it; its part if it is divided."""
        plan = self.plan(step)
        share = self.batch_size // self.num_shards
        part = slice(self.shard * share, (self.shard + 1) * share)
        videos, snippets = plan.videos[part], plan.snippets[part]
        features = {
            stream: np.stack([read_snippets(self.videos[v], stream, s) for v, s in zip(videos, snippets)])
            for stream in self.streams
        }
        return {"features": features, "labels": self.labels[videos]}


def host_batches(
    batches: HostBatches, first_step: int, last_step: int, *, num_workers: int = 0, prefetch: int = 1
) -> Generator[dict]:
    """The batches of steps ``first_step`` to ``last_step`` - 1, loaded ahead in order.

    Args:
        batches: what to load.
        first_step: first step.
        last_step: where to stop.
        num_workers: worker processes; 0 loads in a thread of this process. Workers are started afresh, so
            a program that uses them must guard its main part with ``if __name__ == "__main__"``, and its
            absl flags must be parsed (grain reads some).
        prefetch: batches kept ready by the thread, or by each worker.

    Yields:
        What ``batches(step)`` returns. Closing the generator stops the loading.

    Raises:
        InputError: if a value read from disk is not finite.
    """
    import grain  # optional; takes half a second

    steps = grain.MapDataset.range(first_step, last_step).map(batches)
    if num_workers:
        options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=prefetch)
        dataset = steps.to_iter_dataset(grain.ReadOptions(num_threads=0)).mp_prefetch(options)
    else:
        dataset = steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=prefetch))
    loaded = iter(dataset)
    try:
        for batch in loaded:
            # Workers hand over shared memory, which must not be tied to how long a device keeps an array.
            copied = jax.tree.map(np.array, batch)
            del batch
            yield copied
    finally:
        loaded.close()  # stops the workers
        gc.collect()  # grain's last batches are in reference cycles; this gives their shared memory back
