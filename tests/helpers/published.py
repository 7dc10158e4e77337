"""Checkpoints as the published PyTorch code writes them, made without PyTorch."""

import numpy as np

__all__ = ["published_arrays"]


def published_arrays(
    *, width: int = 3, hidden: int = 4, num_classes: int = 2, num_clusters: int = 2
) -> dict[str, np.ndarray]:
    """The published code's parameters by name: layers of ones for the streams rgb and flow.

    Args:
        width: channels of each stream.
        hidden: channels inside the network.
        num_classes: classes.
        num_clusters: clusters.
    """
    arrays = {}
    for stream in ("rgb", "flow"):
        for layer, shape in (
            (f"cas_module_{stream}.0", (hidden, width)),
            (f"cas_module_{stream}.2", (num_classes, hidden)),
            (f"base_module_{stream}.0", (hidden, width)),
            (f"att_module_{stream}", (1, hidden)),
        ):
            arrays[f"{layer}.weight"] = np.ones((*shape, 1), np.float32)
            arrays[f"{layer}.bias"] = np.ones(shape[0], np.float32)
        arrays[f"clu_head_{stream}.prototypes.weight"] = np.ones((num_clusters, hidden), np.float32)
    return arrays
