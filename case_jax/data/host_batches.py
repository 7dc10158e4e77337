"""Batches of features that do not fit on the device, gathered on the host ahead of training.

Needs grain (extra `host`).
"""

import dataclasses
import gc
import multiprocessing
import shutil
from collections.abc import Generator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from case_jax.data.feature_files import read_snippets
from case_jax.data.samplers import BatchPlan, plan_batches
from case_jax.errors import InputError

__all__ = ["HostBatches", "host_batches"]

_SHARED_MEMORY = "/dev/shm"  # through which worker processes hand over batches


@dataclasses.dataclass(frozen=True)
class HostBatches:
    """Step -> the batch that `case_jax.data.samplers.plan_batch` draws for it; can be sent to a process.

    Attributes:
        key_data: (2,) uint32 numpy, the data of the run's PRNG key (a key itself cannot be sent).
        videos: V training videos, stream -> (T_v, D), in memory or `FeatureFiles`.
        labels: (V, G) float32.
        lengths: (V,) int32, T_v.
        streams: which streams.
        batch_size: B of the whole batch, over all shards.
        num_snippets: T.
        sampling: "stratified" or "uniform".
        shard: which part of the batch's B videos to load.
        num_shards: into how many equal parts the batch is divided.
        key_impl: the algorithm of the key, as `jax.random.key_impl` names it.
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
    key_impl: str = "threefry2x32"

    def __post_init__(self):
        if self.batch_size % self.num_shards:
            raise ValueError(f"a batch of {self.batch_size} cannot be divided in {self.num_shards} parts")

    @property
    def nbytes(self) -> int:
        """Bytes of one batch, or of this shard's part of it."""
        widths = [self.videos[0][stream].shape[1] for stream in self.streams]
        snippets = self.batch_size // self.num_shards * self.num_snippets
        return 4 * snippets * sum(widths)  # float32

    def plan(self, step: int) -> BatchPlan:
        """The step's plan for the whole batch: (B,) videos and (B, T) snippets, int32 numpy arrays."""
        if multiprocessing.parent_process() is not None:
            # A worker draws only a few integers; it must not claim a share of the accelerator's memory.
            jax.config.update("jax_platforms", "cpu")
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            plans = plan_batches(
                jax.random.wrap_key_data(jnp.asarray(self.key_data), impl=self.key_impl),
                step,
                self.lengths,
                num_steps=1,
                batch_size=self.batch_size,
                num_snippets=self.num_snippets,
                sampling=self.sampling,
            )
        return BatchPlan(*(np.asarray(array)[0] for array in plans))

    def __call__(self, step: int) -> dict:
        """The step's batch as `train_step` takes it, or this shard's part of it, in numpy arrays.

        Returns:
            {"features": stream -> (B / num_shards, T, D), "labels": (B / num_shards, G) float32}.
        """
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
    """Loads the batches of steps ``first_step`` to ``last_step`` - 1 ahead, and yields them in order.

    Args:
        batches: step -> batch.
        first_step: the first step.
        last_step: the step before which to stop.
        num_workers: how many worker processes load; 0 loads in a thread of this process. Workers are new
            interpreters, so a program that uses them must guard its main part with
            ``if __name__ == "__main__"``, and its absl flags must be parsed (grain reads some).
        prefetch: how many batches the thread, or each worker, keeps ready.

    Yields:
        ``batches(step)`` of each step. Closing the generator stops the loading.

    Raises:
        InputError: if a value read from disk is not finite, or workers find no room in shared memory.
    """
    import grain  # optional; takes half a second

    if num_workers and isinstance(batches, HostBatches):
        _check_shared_memory(batches, num_workers, prefetch)

    steps = grain.MapDataset.range(first_step, last_step).map(batches)
    if num_workers:
        options = grain.MultiprocessingOptions(num_workers=num_workers, per_worker_buffer_size=prefetch)
        dataset = steps.to_iter_dataset(grain.ReadOptions(num_threads=0)).mp_prefetch(options)
    else:
        dataset = steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=prefetch))
    loaded = iter(dataset)
    try:
        for batch in loaded:
            # Workers hand over shared memory. A copy frees it even if a device keeps the batch for long.
            copied = jax.tree.map(np.array, batch)
            del batch
            yield copied
    finally:
        loaded.close()  # stops the workers
        gc.collect()  # grain keeps its last batches in reference cycles; this frees their shared memory


def _check_shared_memory(batches: HostBatches, num_workers: int, prefetch: int) -> None:
    """Rejects workers whose batches do not fit into shared memory.

    The system kills (SIGBUS) a process that writes more there than fits. Containers often have 64 MB.

    Raises:
        InputError: naming the flag and what helps.
    """
    try:
        free = shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:  # this system has its shared memory elsewhere, without such a limit
        return
    # Of each worker `prefetch` batches are ready, one waits to be and one is being taken.
    needed = num_workers * (prefetch + 2) * batches.nbytes
    if free < needed:
        raise InputError(
            f"--num_workers: is {num_workers}, whose batches need {needed / 1e6:,.0f} MB of shared memory, "
            f"and {_SHARED_MEMORY} has room for {free / 1e6:,.0f} MB; expected fewer workers, 0 (a thread) "
            f"or more of it (docker run --shm-size={-(-needed // 2**20)}m)"
        )
