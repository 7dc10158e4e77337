"""How cost grows: with snippets N and clusters K (solver), T and devices (a step), and videos (evaluation).

python -m benchmarks.scaling

The peer is a straight line: the smallest size of a sweep, multiplied. A ratio below 1 is better than linear.
For devices, which are virtual on a CPU (they share its cores), the line is the time of one device: with
real devices the ratio should fall with their number, with virtual ones it shows what dividing costs.
"""

import functools

import jax
import numpy as np
from absl import flags

from benchmarks import harness
from benchmarks.thumos_shape import scored_videos
from case_jax import sinkhorn
from case_jax.config import CaseConfig
from case_jax.data.packed import pack
from case_jax.localization.detect import localize_videos
from case_jax.training.loop import TrainingSet, parallel, train_chunk
from case_jax.training.state import create_train_state
from experiments import cli

flags.DEFINE_integer("repeats", 5, "timed runs of each", lower_bound=1)
flags.DEFINE_string("rows", "10000,100000,1000000", "N of the solver")
flags.DEFINE_string("columns", "8,16,32,64", "K of the solver")
flags.DEFINE_string("snippets", "94,188,375,750", "T of a step")
flags.DEFINE_string("videos", "25,50,100,200", "test videos of the numpy stage")
flags.DEFINE_string("devices", "1,2,4,8", "devices of a step; those that there are")
flags.DEFINE_integer("width", 256, "channels of each of the two streams in a step", lower_bound=1)
FLAGS = flags.FLAGS
_SOLVER_COLUMNS, _SOLVER_ROWS = 16, 12_000


def main() -> None:
    sweeps = {
        "N": _sweep("rows", lambda n: _solver(n, _SOLVER_COLUMNS)),
        "K": _sweep("columns", lambda k: _solver(_SOLVER_ROWS, k)),
        "T": _sweep("snippets", lambda t: _step(t, 1)),
        "videos": _sweep("videos", _numpy_stage),
        "devices": _sweep("devices", lambda n: _step(188, n), constant=True, at_most=jax.device_count()),
    }
    rows = [["sweep", "size", "ms", "straight line, ms", "ratio"]]
    for name, points in sweeps.items():
        for point in points:
            times = [harness.milliseconds(point[key]) for key in ("seconds", "line")]
            rows.append([name, f"{point['size']:,}", *times, f"{point['seconds'] / point['line']:.2f}"])
    last = sweeps["N"][-1]
    harness.finish(
        "scaling",
        rows,
        ours_s=last["seconds"],
        peer="straight line from the smallest N",
        peer_s=last["line"],
        sweeps=sweeps,
    )


def _sweep(flag: str, make, *, constant: bool = False, at_most: float = float("inf")) -> list[dict]:
    """Times of `make(size)` for the sizes of a flag, beside the straight line (or the first one's time)."""
    sizes = [int(n) for n in cli.parse_numbers(flag, FLAGS[flag].value) if n <= at_most]
    seconds = harness.in_turn({size: make(size) for size in sizes}, repeats=FLAGS.repeats)
    first = sizes[0]
    return [
        {"size": n, "seconds": seconds[n], "line": seconds[first] * (1 if constant else n / first)}
        for n in sizes
    ]


def _solver(num_rows: int, num_columns: int):
    logits = jax.random.normal(jax.random.key(0), (num_rows, num_columns)) * 3
    solve = jax.jit(sinkhorn)
    return lambda: solve(logits)


def _step(num_snippets: int, num_devices: int):
    config = CaseConfig(num_snippets=num_snippets, batch_size=8)
    rng = np.random.default_rng(0)
    widths = {"rgb": FLAGS.width, "flow": FLAGS.width}
    videos = [
        {n: rng.standard_normal((num_snippets, w), np.float32) for n, w in widths.items()} for _ in range(8)
    ]
    labels = np.eye(20, dtype=np.float32)[np.arange(8)]
    mesh = parallel.make_mesh(jax.devices()[:num_devices])
    state = create_train_state(config, jax.random.key(0), stream_widths=widths, num_classes=20)
    state, training_set = parallel.replicate((state, TrainingSet(pack(videos, tuple(widths)), labels)), mesh)
    chunk = jax.jit(functools.partial(train_chunk, num_steps=1, mesh=mesh))
    return lambda: chunk(state, training_set)[1]


def _numpy_stage(num_videos: int):
    videos = scored_videos(num_videos)
    fused, scores = np.stack([v.fused for v in videos]), np.stack([v.scores for v in videos])
    durations = [v.duration for v in videos]
    return lambda: [found.score for found in localize_videos(fused, scores, durations, CaseConfig())]


if __name__ == "__main__":
    cli.run(main)
