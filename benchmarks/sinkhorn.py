"""The solver: ours, OTT-JAX's, POT's, and what memory bandwidth allows.

python -m benchmarks.sinkhorn

Three iterations (flag) on (N, K) logits, uniform marginals, float32. OTT-JAX and POT get the same kernel and
the same number of iterations. The floor is one pass over the matrix per iteration and one to write the plan,
at the speed at which this device copies a large array; below that only caches help.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import harness
from case_jax import sinkhorn
from case_jax.errors import InputError
from experiments import cli

flags.DEFINE_integer("repeats", 9, "timed runs of each", lower_bound=1)
flags.DEFINE_string("rows", "10000,12000,100000,1000000", "N, comma-separated")
flags.DEFINE_string("columns", "16,64", "K, comma-separated")
flags.DEFINE_integer("iterations", 3, "Sinkhorn iterations", lower_bound=1)
flags.DEFINE_list("peers", ["ott", "pot"], "of ott and pot; none: only the floor")
FLAGS = flags.FLAGS
_PACKAGES = {"ott": "ott", "pot": "ot"}


def main() -> None:
    peers = [peer for peer in FLAGS.peers if peer]
    if not set(peers) <= set(_PACKAGES):
        raise InputError(f"--peers: is {','.join(peers)}; expected some of {', '.join(_PACKAGES)}")
    harness.require_packages("peers", "bench", **{peer: _PACKAGES[peer] for peer in peers})
    bandwidth = _copy_bandwidth()
    table = [["N x K", "ours, ms", *(f"{peer}, ms" for peer in peers), "floor, ms", "ours / best peer"]]
    cases = []
    for num_rows in map(int, cli.parse_numbers("rows", FLAGS.rows)):
        for num_columns in map(int, cli.parse_numbers("columns", FLAGS.columns)):
            logits = jax.random.normal(jax.random.key(0), (num_rows, num_columns)) * 3
            contestants = {"ours": _ours(logits), **{peer: _PEERS[peer](logits) for peer in peers}}
            seconds = harness.in_turn(contestants, repeats=FLAGS.repeats if num_rows < 10**6 else 3)
            floor = (FLAGS.iterations + 1) * logits.nbytes / bandwidth
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
        iterations=FLAGS.iterations,
        copy_gigabytes_per_s=bandwidth / 1e9,
    )


def _copy_bandwidth() -> float:
    """Bytes per second that are read and written by the copy of a large array; counts both."""
    array = jnp.zeros(2**26, jnp.float32)
    copy = jax.jit(lambda a: a + 1, donate_argnums=0)
    carried = [array]

    def call():
        carried[0] = copy(carried[0])
        return carried[0]

    return 2 * array.nbytes / harness.in_turn({"copy": call}, repeats=5)["copy"]


def _ours(logits):
    solve = jax.jit(functools.partial(sinkhorn, num_iters=FLAGS.iterations))
    return lambda: solve(logits)


def _ott(logits):
    from ott.geometry import geometry
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn as ott_sinkhorn

    num_rows, num_columns = logits.shape
    solver = ott_sinkhorn.Sinkhorn(
        lse_mode=True,
        min_iterations=FLAGS.iterations,
        max_iterations=FLAGS.iterations,
        inner_iterations=FLAGS.iterations,
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


def _pot(logits):
    import ot

    num_rows, num_columns = logits.shape
    cost = -np.asarray(logits)
    rows = np.full(num_rows, 1 / num_rows, np.float32)
    columns = np.full(num_columns, 1 / num_columns, np.float32)
    return lambda: (
        num_rows * ot.sinkhorn(rows, columns, cost, 0.5, numItermax=FLAGS.iterations, stopThr=0, warn=False)
    )


_PEERS = {"ott": _ott, "pot": _pot}


if __name__ == "__main__":
    cli.run(main)
