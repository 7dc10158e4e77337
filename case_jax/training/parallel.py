"""Data parallelism over one axis of devices, on one host or many.

The batch is divided over the devices and the state is on all of them. Nothing in the step changes: the
selection, Q^A, ranks, Sinkhorn and prototypes see the whole batch, whatever the number of devices, because
the compiler exchanges what they need.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = ["divide_batch", "from_local_batch", "local_copy", "make_mesh", "replicate"]

_AXIS = "data"
Tree = TypeVar("Tree")


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis over devices, by default all of all hosts."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), (_AXIS,), axis_types=(AxisType.Auto,))


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Puts a tree of arrays, the same on every host, whole on every device of a mesh.

    A host array that is aligned as `case_jax.data.packed.allocate_rows` does may be shared, not copied, by
    CPU devices: do not write to it afterwards.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())

    def put(leaf):
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        if everywhere.is_fully_addressable:
            return jax.device_put(leaf, everywhere)
        return jax.make_array_from_process_local_data(everywhere, np.asarray(leaf), np.shape(leaf))

    return jax.tree.map(put, tree)


def divide_batch(batch: Tree, mesh: Mesh) -> Tree:
    """Inside jit: divides the leading axis (videos) of every array over the devices."""
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(_AXIS)))


def from_local_batch(batch: Tree, mesh: Mesh) -> Tree:
    """This host's equal part of a batch, as part of the global one that is divided over all devices."""
    divided = NamedSharding(mesh, PartitionSpec(_AXIS))
    return jax.tree.map(lambda part: jax.make_array_from_process_local_data(divided, part), batch)


def local_copy(tree: Tree) -> Tree:
    """A replicated tree's copy on this host's first device, for work that other hosts take no part in."""

    def take(leaf: jax.Array):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(take(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return leaf.addressable_data(0)

    return jax.tree.map(take, tree)
