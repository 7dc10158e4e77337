"""3D convolution and pooling, padded as TensorFlow's SAME: plain sums over taps in float64."""

import itertools

import numpy as np

__all__ = ["convolve", "largest", "relu"]


def _windows(inputs, window, stride, fill):
    """Yields (tap, the values that it meets) of (B, T, H, W, C), for all taps of a window."""
    pads, lengths = [], []
    for size, width, step in zip(inputs.shape[1:4], window, stride):
        length = int(np.ceil(size / step))
        missing = max((length - 1) * step + width - size, 0)
        pads.append((missing // 2, missing - missing // 2))
        lengths.append(length)
    padded = np.pad(np.asarray(inputs, np.float64), ((0, 0), *pads, (0, 0)), constant_values=fill)
    for tap in itertools.product(*map(range, window)):
        cuts = (slice(t, t + (n - 1) * s + 1, s) for t, n, s in zip(tap, lengths, stride))
        yield tap, padded[:, *cuts]


def convolve(inputs, kernel, stride=1):
    """(B, T, H, W, I) by (t, h, w, I, O) to (B, T', H', W', O)."""
    taps = _windows(inputs, kernel.shape[:3], (stride,) * 3, 0.0)
    return sum(values @ np.asarray(kernel, np.float64)[tap] for tap, values in taps)


def largest(inputs, window, stride):
    """Max pooling of (B, T, H, W, C) with (T, H, W) windows and strides."""
    return np.max([values for _, values in _windows(inputs, window, stride, -np.inf)], axis=0)


def relu(values):
    """max(0, values)."""
    return np.maximum(values, 0)
