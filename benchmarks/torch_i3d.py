"""I3D in PyTorch, written from DeepMind's description as a PyTorch user would: the peer of `extract`.

Its parameters have the names of piergiaj's published code, so that its state dict is a file of that form.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

__all__ = ["TorchI3D"]

# Channels of b0, b1a, b1b, b2a, b2b, b3b.
_MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


def _pad_same(inputs, kernel, stride):
    """Pads (B, C, T, H, W) by zeros as TensorFlow's SAME does; the odd one goes to the end."""
    pads = []
    for size, width, step in zip(inputs.shape[:1:-1], kernel[::-1], stride[::-1]):
        total = max((-(-size // step) - 1) * step + width - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(inputs, pads) if any(pads) else inputs


def _pool(inputs, kernel, stride):
    # Inputs are >= 0, after a ReLU, so zeros never exceed a maximum.
    return functional.max_pool3d(_pad_same(inputs, kernel, stride), kernel, stride)


class _Unit(nn.Module):
    def __init__(self, inputs, outputs, size=1, stride=1):
        super().__init__()
        self.kernel, self.stride = (size,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inputs, outputs, self.kernel, self.stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=1e-3)

    def forward(self, inputs):
        return functional.relu(self.bn(self.conv3d(_pad_same(inputs, self.kernel, self.stride))))


class _Mixed(nn.Module):
    def __init__(self, inputs, widths):
        super().__init__()
        one, reduce_1, three_1, reduce_2, three_2, pooled = widths
        self.b0 = _Unit(inputs, one)
        self.b1a, self.b1b = _Unit(inputs, reduce_1), _Unit(reduce_1, three_1, 3)
        self.b2a, self.b2b = _Unit(inputs, reduce_2), _Unit(reduce_2, three_2, 3)
        self.b3b = _Unit(inputs, pooled)

    def forward(self, inputs):
        pooled = _pool(inputs, (3, 3, 3), (1, 1, 1))
        return torch.cat(
            [self.b0(inputs), self.b1b(self.b1a(inputs)), self.b2b(self.b2a(inputs)), self.b3b(pooled)], dim=1
        )


class _Logits(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv3d = nn.Conv3d(1024, num_classes, 1)

    def forward(self, inputs):
        pooled = functional.avg_pool3d(inputs, (2, *inputs.shape[3:]), stride=1)
        return self.conv3d(pooled).mean(dim=(2, 3, 4))


class TorchI3D(nn.Module):
    """Inception-v1, inflated.

    Args:
        channels: of a frame, 3 for RGB, 2 for flow.
        num_classes: of the head.
    """

    def __init__(self, channels: int = 3, num_classes: int = 400):
        super().__init__()
        self.Conv3d_1a_7x7 = _Unit(channels, 64, 7, 2)
        self.Conv3d_2b_1x1, self.Conv3d_2c_3x3 = _Unit(64, 64), _Unit(64, 192, 3)
        width = 192
        for block, widths in _MIXED.items():
            self.add_module(f"Mixed_{block}", _Mixed(width, widths))
            width = sum(widths[i] for i in (0, 2, 4, 5))
        self.logits = _Logits(num_classes)

    @torch.no_grad()
    def load_folded(self, params):
        """Takes parameters of `case_jax.video.i3d.I3D`, in which BatchNorm is part of the convolutions."""
        units = {name: module for name, module in self.named_modules() if isinstance(module, _Unit)}
        for block, named in params.items():
            if block == "logits":
                self._set(self.logits.conv3d.weight, named["kernel"])
                self.logits.conv3d.bias.copy_(torch.from_numpy(named["bias"]))
            elif block in units:
                self._load(units[block], named["kernel"], named["bias"])
            else:
                mixed = self.get_submodule(block)
                outputs = [unit.conv3d.out_channels for unit in (mixed.b0, mixed.b1a, mixed.b2a)]
                cuts = [outputs[0], outputs[0] + outputs[1]]
                first = zip(*(np.split(named["first"][name], cuts, axis=-1) for name in ("kernel", "bias")))
                for unit, (kernel, bias) in zip((mixed.b0, mixed.b1a, mixed.b2a), first):
                    self._load(unit, kernel, bias)
                for unit, name in ((mixed.b1b, "b1"), (mixed.b2b, "b2"), (mixed.b3b, "b3")):
                    self._load(unit, named[name]["kernel"], named[name]["bias"])

    def _load(self, unit, kernel, bias):
        self._set(unit.conv3d.weight, kernel)
        unit.bn.bias.copy_(torch.from_numpy(bias))
        unit.bn.running_var.fill_(1 - unit.bn.eps)  # so that BatchNorm divides by 1

    @staticmethod
    def _set(weight, kernel):
        kernel = kernel.reshape((1,) * (5 - kernel.ndim) + kernel.shape)
        weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel.transpose(4, 3, 0, 1, 2))))

    def forward(self, clips):
        """(B, C, T, H, W) clips to features (B, 1024), averages of Mixed_5c, and logits (B, classes)."""
        hidden = _pool(self.Conv3d_1a_7x7(clips), (1, 3, 3), (1, 2, 2))
        hidden = self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(hidden))
        before = {"3b": ((1, 3, 3), (1, 2, 2)), "4b": ((3, 3, 3), (2, 2, 2)), "5b": ((2, 2, 2), (2, 2, 2))}
        for block in _MIXED:
            if block in before:
                hidden = _pool(hidden, *before[block])
            hidden = self.get_submodule(f"Mixed_{block}")(hidden)
        return hidden.mean(dim=(2, 3, 4)), self.logits(hidden)
