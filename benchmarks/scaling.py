"""How the cost grows with N and K (solver), with T and devices (a step), and with videos (evaluation).

python -m benchmarks.scaling

The peer is a straight line through the time of the smallest size in a sweep. A ratio below 1 is better than
linear. For devices, the line is the time of one device. With real devices the ratio should fall as their
number grows. A CPU's devices are virtual and share its cores: there the ratio shows the cost of dividing.
"""

import functools
import sys

import jax
import numpy as np
from absl import flags

from benchmarks import harness
from benchmarks.thumos_shape import scored_videos
from case_jax import sinkhorn
from case_jax.commands import cli
from case_jax.config import CaseConfig
from case_jax.data.packed import pack
from case_jax.localization.detect import localize_videos
from case_jax.training import parallel
from case_jax.training.feeding import TrainingSet, train_chunk
from case_jax.training.state import create_train_state

_SOLVER_COLUMNS, _SOLVER_ROWS = 16, 12_000


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    harness.define_repeats(given, 5)
    for name, sizes, help_text in (
        ("rows", "10000,100000,1000000", "N of the solver"),
        ("columns", "8,16,32,64", "K of the solver"),
        ("snippets", "94,188,375,750", "T of a step"),
        ("videos", "25,50,100,200", "test videos of the numpy stage"),
        ("devices", "1,2,4,8", "devices of a step; numbers above those present are left out"),
    ):
        flags.DEFINE_string(name, sizes, help_text, flag_values=given)
    harness.define_width(given, 256)


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    sweep = functools.partial(_sweep, given)
    present = jax.device_count()
    sweeps = {
        "N": sweep("rows", lambda n: _solver(n, _SOLVER_COLUMNS)),
        "K": sweep("columns", lambda k: _solver(_SOLVER_ROWS, k)),
        "T": sweep("snippets", lambda t: _step(t, 1, given.width)),
        "videos": sweep("videos", _numpy_stage),
        "devices": sweep("devices", lambda n: _step(188, n, given.width), constant=True, at_most=present),
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


def _sweep(
    given: flags.FlagValues, flag: str, make, *, constant: bool = False, at_most: float = float("inf")
) -> list[dict]:
    """Times of `make(size)` for the sizes of a flag, beside the straight line (``constant``: a level one)."""
    sizes = [int(n) for n in cli.parse_numbers(flag, given[flag].value) if n <= at_most]
    seconds = harness.in_turn({size: make(size) for size in sizes}, repeats=given.repeats)
    first = sizes[0]
    return [
        {"size": n, "seconds": seconds[n], "line": seconds[first] * (1 if constant else n / first)}
        for n in sizes
    ]


def _solver(num_rows: int, num_columns: int):
    logits = jax.random.normal(jax.random.key(0), (num_rows, num_columns)) * 3
    solve = jax.jit(sinkhorn)
    return lambda: solve(logits)


def _step(num_snippets: int, num_devices: int, width: int):
    config = CaseConfig(num_snippets=num_snippets, batch_size=8)
    rng = np.random.default_rng(0)
    widths = {"rgb": width, "flow": width}
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
    cli.run(sys.modules[__name__])
