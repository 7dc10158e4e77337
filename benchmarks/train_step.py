"""One training step: ours against PyTorch's and against its bare matrix products.

python -m benchmarks.train_step

Ours is timed as training runs it: several steps in one program, each drawing and gathering its batch. PyTorch
gets a ready batch; it takes the same step, written from the paper in torch_step.py, eagerly and with
torch.compile. The matrix products are those of our step, for the same number of steps in one program, on the
same backend.
"""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks import harness
from case_jax.commands import cli
from case_jax.config import CaseConfig
from case_jax.data.packed import pack
from case_jax.training.feeding import TrainingSet, train_chunk
from case_jax.training.loop import fit
from case_jax.training.state import create_train_state
from case_jax.training.step import train_step

_PEERS = ("eager", "compile")
_CHUNK, _PRODUCTS = "ours, per step of a chunk", "the step's matrix products"


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    harness.define_repeats(given, 7)
    flags.DEFINE_integer("steps", 5, "steps in one of our programs", lower_bound=1, flag_values=given)
    flags.DEFINE_integer(
        "num_videos", 32, "training videos that batches are drawn from", lower_bound=1, flag_values=given
    )
    harness.define_width(given)
    flags.DEFINE_integer("num_classes", 20, "classes", lower_bound=1, flag_values=given)
    flags.DEFINE_list(
        "peers",
        list(_PEERS),
        "some of eager and compile (PyTorch); without one, the matrix products are the peer",
        flag_values=given,
    )
    cli.define_config_flags(given)


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    config = cli.config_from_flags(given)
    peers = harness.peers_from_flags(given, _PEERS)
    if peers:
        harness.require_packages("peers", "bench", torch="torch")
    state, training_set, batch = _training(config, given)
    chunk = _carrying(functools.partial(train_chunk, num_steps=given.steps), state, training_set)
    products, macs = bare_products(config, given.width, given.num_classes, given.steps)
    contestants = {
        _CHUNK: chunk,
        "ours, one step on a ready batch": _carrying(train_step, state, batch),
        _PRODUCTS: products,
    }
    contestants |= {f"PyTorch {peer}": _torch_step(peer, config, batch) for peer in peers}
    seconds = harness.in_turn(contestants, repeats=given.repeats, warmup=2)
    seconds[_CHUNK] /= given.steps
    seconds[_PRODUCTS] /= given.steps

    dispatch_s = _dispatch_seconds(config)
    ours_s, gemm_s = seconds[_CHUNK], seconds[_PRODUCTS]
    peer = min((name for name in seconds if "PyTorch" in name), key=seconds.get, default=_PRODUCTS)
    rows = [["step", "ms", "ours / it", "GFLOP/s of its products"]]
    for name, value in seconds.items():
        rows.append(
            [name, harness.milliseconds(value), f"{ours_s / value:.2f}", f"{2e-9 * macs / value:.0f}"]
        )
    share = dispatch_s / (given.steps * ours_s)
    rows.append(
        [f"dispatch and report of a chunk ({share:.2%} of it)", harness.milliseconds(dispatch_s), "", ""]
    )
    harness.finish(
        "train_step",
        rows,
        ours_s=ours_s,
        peer=peer,
        peer_s=seconds[peer],
        gemm_fraction=gemm_s / ours_s,
        gemm_s=gemm_s,
        dispatch_s=dispatch_s,
        dispatch_fraction=share,
        all_s=seconds,
        shape=[config.batch_size, config.num_snippets, 2 * given.width],
        precision=config.matmul_precision,
    )


def _training(config: CaseConfig, given: flags.FlagValues):
    """A fresh state, random features on the device, and one batch of them."""
    rng = np.random.default_rng(0)
    widths = {"rgb": given.width, "flow": given.width}
    videos = [
        {
            name: rng.standard_normal((config.num_snippets, width), np.float32)
            for name, width in widths.items()
        }
        for _ in range(max(given.num_videos, config.batch_size))
    ]
    labels = np.eye(given.num_classes, dtype=np.float32)[rng.integers(given.num_classes, size=len(videos))]
    state = create_train_state(config, jax.random.key(0), stream_widths=widths, num_classes=given.num_classes)
    training_set = jax.device_put(TrainingSet(pack(videos, tuple(widths), config.feature_dtype), labels))
    features = {name: jnp.stack([video[name] for video in videos[: config.batch_size]]) for name in widths}
    return state, training_set, {"features": features, "labels": jnp.asarray(labels[: config.batch_size])}


def _carrying(function, state, data):
    """A call that starts from the state that the last call returned, and donates that state's memory."""
    jitted = jax.jit(function, donate_argnums=0)
    carried = [jax.tree.map(jnp.copy, state)]

    def call():
        carried[0], metrics = jitted(carried[0], data)
        return carried[0].params, metrics

    return call


def _dispatch_seconds(config: CaseConfig) -> float:
    """Seconds that a chunk takes beside its steps, measured with steps that compute next to nothing."""
    tiny = dataclasses.replace(config, num_snippets=8, batch_size=2, hidden_dim=8, num_clusters=2)
    rng = np.random.default_rng(0)
    videos = [{name: rng.standard_normal((8, 4), np.float32) for name in ("rgb", "flow")} for _ in range(4)]
    labels = np.eye(2, dtype=np.float32)[[0, 1, 0, 1]]
    state = create_train_state(tiny, jax.random.key(0), stream_widths={"rgb": 4, "flow": 4}, num_classes=2)
    chunks = fit(state, videos, labels, num_steps=101, report_every=1)
    next(chunks)  # compiles
    return harness.seconds_of(lambda: [chunk.metrics for chunk in chunks]) / 100


def _torch_step(peer: str, config: CaseConfig, batch):
    import torch

    from benchmarks.torch_step import TorchCase

    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    joined = np.concatenate([np.asarray(array) for array in batch["features"].values()], axis=2)
    features = torch.from_numpy(np.ascontiguousarray(joined.transpose(0, 2, 1))).to(device)
    labels = torch.from_numpy(np.array(batch["labels"])).to(device)
    widths = tuple(array.shape[2] for array in batch["features"].values())
    case = TorchCase(widths, labels.shape[1], config, compiled=peer == "compile")
    case.streams.to(device)
    case.cluster_labels = case.cluster_labels.to(device)
    return lambda: case.step(features, labels)


def bare_products(config: CaseConfig, width: int, num_classes: int, num_steps: int):
    """A call that computes only the matrix products of one step, on random operands.

    Args:
        config: sizes and precision of the step; all of CASE's components are counted.
        width: channels of each of the two streams.
        num_classes: G.
        num_steps: one call computes the products of this many steps.

    Returns:
        The call, and the number of multiply-accumulates of one step.
    """
    num_rows, hidden, clusters = (
        config.batch_size * config.num_snippets, config.hidden_dim, config.num_clusters
    )  # fmt: skip
    rng = np.random.default_rng(0)

    def matrix(*shape):
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    operands = []  # (left, right, contracted axis of each)
    for _ in ("rgb", "flow"):
        rows = matrix(num_rows, width)
        for _ in ("cas_encoder", "attention_encoder"):  # forward; gradient of the kernel
            operands.append((rows, matrix(width, hidden), 1, 0))
            operands.append((rows, matrix(num_rows, hidden), 0, 0))
        for outputs in (num_classes, 1 + clusters):  # the heads: forward; gradients of kernel and rows
            inputs, kernel, gradient = (
                matrix(num_rows, hidden),
                matrix(hidden, outputs),
                matrix(num_rows, outputs),
            )
            operands += [(inputs, kernel, 1, 0), (inputs, gradient, 0, 0), (gradient, kernel, 1, 1)]
        weights = matrix(num_rows, clusters + 2)  # Eq. (4): forward; gradient of the embeddings
        operands += [(weights, matrix(num_rows, hidden), 0, 0), (weights, matrix(clusters + 2, hidden), 1, 0)]

    def all_products(carried, _, arrays):
        # The barrier ties operands to the carried value: XLA cannot move a product out of the loop.
        arrays, carried = jax.lax.optimization_barrier((arrays, carried))
        results = [
            jax.lax.dot_general(
                left, right, (((a,), (b,)), ((), ())), precision=_PRECISIONS[config.matmul_precision]
            )
            for (left, right), (_, _, a, b) in zip(arrays, operands)
        ]
        # Only one number of each product is used; the barrier makes XLA compute all of them.
        results = jax.lax.optimization_barrier(results)
        return carried + sum(result[0, 0].astype(jnp.float32) for result in results), None

    @jax.jit
    def compute(arrays):
        body = functools.partial(all_products, arrays=arrays)
        return jax.lax.scan(body, jnp.float32(0), length=num_steps)[0]

    macs = sum(left.size * right.shape[1 - b] for left, right, _, b in operands)
    if config.matmul_precision == "bfloat16":
        operands = [
            (left.astype(jnp.bfloat16), right.astype(jnp.bfloat16), a, b) for left, right, a, b in operands
        ]
    arrays = [(left, right) for left, right, _, _ in operands]
    return lambda: compute(arrays), macs


_PRECISIONS = {
    "float32": jax.lax.Precision.HIGHEST,
    "tf32": jax.lax.Precision.DEFAULT,
    "bfloat16": jax.lax.Precision.DEFAULT,
}


if __name__ == "__main__":
    cli.run(sys.modules[__name__])
