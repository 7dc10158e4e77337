"""The solver: ours against OTT-JAX's, POT's, and the time that memory bandwidth allows.

python -m benchmarks.sinkhorn

Each solves (N, K) float32 logits with uniform marginals in three iterations (--iterations). OTT-JAX and POT
get the same kernel and the same number of iterations. The floor is one pass over the matrix per iteration and
one to write the plan, at the speed at which this device copies a large array. Only caches can be faster.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import harness
from case_jax import sinkhorn
from case_jax.commands import cli

_PACKAGES = {"ott": "ott", "pot": "ot"}


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    harness.define_repeats(given, 9)
    flags.DEFINE_string("rows", "10000,12000,100000,1000000", "N, comma-separated", flag_values=given)
    flags.DEFINE_string("columns", "16,64", "K, comma-separated", flag_values=given)
    flags.DEFINE_integer("iterations", 3, "Sinkhorn iterations", lower_bound=1, flag_values=given)
    flags.DEFINE_list(
        "peers", list(_PACKAGES), "some of ott and pot; without one, the floor is the peer", flag_values=given
    )


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    peers = harness.peers_from_flags(given, tuple(_PACKAGES))
    harness.require_packages("peers", "bench", **{peer: _PACKAGES[peer] for peer in peers})
    bandwidth = _copy_bandwidth()
    table = [["N x K", "ours, ms", *(f"{peer}, ms" for peer in peers), "floor, ms", "ours / best peer"]]
    cases = []
    for num_rows in map(int, cli.parse_numbers("rows", given.rows)):
        for num_columns in map(int, cli.parse_numbers("columns", given.columns)):
            logits = jax.random.normal(jax.random.key(0), (num_rows, num_columns)) * 3
            contestants = {name: _SOLVERS[name](logits, given.iterations) for name in ("ours", *peers)}
            seconds = harness.in_turn(contestants, repeats=given.repeats if num_rows < 10**6 else 3)
            floor = (given.iterations + 1) * logits.nbytes / bandwidth
            best = min(peers, key=seconds.get, default="floor")
            case = {"rows": num_rows, "columns": num_columns, **seconds, "floor": floor, "best_peer": best}
            case["ratio"] = case["ours"] / case[best]
            cases.append(case)
            times = [harness.milliseconds(case[name]) for name in ("ours", *peers, "floor")]
            table.append([f"{num_rows:,} x {num_columns}", *times, f"{case['ratio']:.2f}"])
    first = cases[0]
    harness.finish(
        "sinkhorn",
        table,
        ours_s=first["ours"],
        peer=first["best_peer"],
        peer_s=first[first["best_peer"]],
        cases=cases,
        iterations=given.iterations,
        copy_gigabytes_per_s=bandwidth / 1e9,
    )


def _copy_bandwidth() -> float:
    """Bytes per second, read and written together, at which a large array is copied."""
    array = jnp.zeros(2**26, jnp.float32)
    copy = jax.jit(lambda a: a + 1, donate_argnums=0)
    carried = [array]

    def call():
        carried[0] = copy(carried[0])
        return carried[0]

    return 2 * array.nbytes / harness.in_turn({"copy": call}, repeats=5)["copy"]


def _ours(logits, num_iters: int):
    solve = jax.jit(functools.partial(sinkhorn, num_iters=num_iters))
    return lambda: solve(logits)


def _ott(logits, num_iters: int):
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn as ott_sinkhorn

    num_rows, num_columns = logits.shape
    solver = ott_sinkhorn.Sinkhorn(
        lse_mode=True,
        min_iterations=num_iters,
        max_iterations=num_iters,
        inner_iterations=num_iters,
    )

    @jax.jit
    def solve(logits):
        problem = linear_problem.LinearProblem(
            geometry.Geometry(cost_matrix=-logits, epsilon=0.5),
            a=jnp.full(num_rows, 1 / num_rows),
            b=jnp.full(num_columns, 1 / num_columns),
        )
        return solver(problem).matrix * num_rows

    return lambda: solve(logits)


def _pot(logits, num_iters: int):
    import ot

    num_rows, num_columns = logits.shape
    cost = -np.asarray(logits)
    rows = np.full(num_rows, 1 / num_rows, np.float32)
    columns = np.full(num_columns, 1 / num_columns, np.float32)
    return lambda: (
        num_rows * ot.sinkhorn(rows, columns, cost, 0.5, numItermax=num_iters, stopThr=0, warn=False)
    )


_SOLVERS = {"ours": _ours, "ott": _ott, "pot": _pot}


if __name__ == "__main__":
    cli.run(sys.modules[__name__])
