"""The size of a network and the cost of running it, as Table 1 counts them."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from case_jax.method.network import CaseNetwork

__all__ = ["count_macs", "count_parameters"]


def count_parameters(params: Mapping) -> int:
    """How many numbers are trained.

    Args:
        params: parameters of a network, as arrays or as shapes.

    Returns:
        The sum of the arrays' sizes.
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_macs(network: CaseNetwork, widths: Mapping[str, int], num_snippets: int) -> int:
    """How many multiply-accumulate operations the forward pass of one video takes.

    They are counted in the traced program. Only matrix products count, as in Table 1.

    Args:
        network: the network.
        widths: stream name -> D, the width of its features.
        num_snippets: T.

    Returns:
        Multiply-accumulate operations.
    """
    features = {
        name: jax.ShapeDtypeStruct((1, num_snippets, width), jnp.float32) for name, width in widths.items()
    }
    params = jax.eval_shape(network.init, jax.random.key(0), features)
    return _jaxpr_macs(jax.make_jaxpr(network.apply)(params, features).jaxpr)


def _jaxpr_macs(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            depth = math.prod(left[axis] for axis in contracted)
            total += math.prod(equation.outvars[0].aval.shape) * depth
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", None)  # a closed jaxpr, as jit has
            if inner is not None:
                total += _jaxpr_macs(inner)
    return total
