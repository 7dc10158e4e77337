"""Data parallelism over one axis of devices, on one host or many.

The batch is divided over the devices, and every device holds the whole state. The step is the same for any
number of devices: the compiler makes the devices exchange what they need, so that the selection, Q^A, the
ranks, Sinkhorn and the prototypes see the whole batch.
"""

from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = [
    "divide_batch",
    "from_local_batch",
    "local_copy",
    "make_mesh",
    "replicate",
    "runs_beside_the_host",
]

_AXIS = "data"
Tree = TypeVar("Tree")


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of one axis over devices.

    Args:
        devices: the devices; default all devices of all hosts.

    Returns:
        The mesh.
    """
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), (_AXIS,), axis_types=(AxisType.Auto,))


def runs_beside_the_host(mesh: Mesh) -> bool:
    """Whether to give the devices work ahead of time. A CPU would not be faster, and hold more in memory."""
    return mesh.devices.flat[0].platform != "cpu"


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Puts a whole tree of arrays on every device of a mesh.

    CPU devices may share, instead of copy, a host array that `case_jax.data.packed.allocate_rows` aligned: do
    not write to it afterwards.

    Args:
        tree: arrays, the same on every host.
        mesh: the devices.

    Returns:
        The tree, on every device.
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
    """Inside jit: divides the leading axis of every array, which is that of the videos, over the devices."""
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec(_AXIS)))


def from_local_batch(batch: Tree, mesh: Mesh) -> Tree:
    """The batch of all hosts, divided over all devices.

    Args:
        batch: this host's part of the batch; the parts of all hosts are equally large.
        mesh: the devices of all hosts.

    Returns:
        The tree, with the leading axis of every array as long as the whole batch.
    """
    divided = NamedSharding(mesh, PartitionSpec(_AXIS))
    return jax.tree.map(lambda part: jax.make_array_from_process_local_data(divided, part), batch)


def local_copy(tree: Tree) -> Tree:
    """The copy of a replicated tree on this host's first device, for work that this host does alone."""

    def take(leaf: jax.Array):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(take(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return leaf.addressable_data(0)

    return jax.tree.map(take, tree)
