"""The published PyTorch code's parameter names, to ours and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from case_jax.errors import InputError

__all__ = ["params_from_published", "params_to_published"]


# layer and array of ours -> the published code's name, with the stream's name in it
_PUBLISHED_LAYERS = {
    "cas_encoder": "cas_module_{stream}.0",
    "cas_head": "cas_module_{stream}.2",
    "attention_encoder": "base_module_{stream}",
    "attention_head": "att_module_{stream}",
}


_PUBLISHED_STREAMS = ("rgb", "flow")


def params_from_published(state_dict: Mapping[str, np.ndarray], streams: tuple[str, str]) -> dict:
    """Parameters under the published PyTorch names, as ours.

    Args:
        state_dict: name -> array; convolution weights are (out, in, 1). `base_module_*` may carry the
            ``.0`` of a torch Sequential or not.
        streams: our names for what is called rgb and flow there.

    Returns:
        Parameters of a `CaseNetwork` with these streams.

    Raises:
        InputError: if a name is missing.
    """

    def get(name: str) -> np.ndarray:
        for candidate in (name, name.replace(".weight", ".0.weight").replace(".bias", ".0.bias")):
            if candidate in state_dict:
                return np.asarray(state_dict[candidate])
        raise InputError(f"checkpoint: has no {name!r}; expected the published code's parameter names")

    params: dict[str, dict[str, Any]] = {}
    for ours, theirs in zip(streams, _PUBLISHED_STREAMS):
        params[ours] = {
            layer: {
                "kernel": np.ascontiguousarray(get(name.format(stream=theirs) + ".weight")[..., 0].T),
                "bias": get(name.format(stream=theirs) + ".bias"),
            }
            for layer, name in _PUBLISHED_LAYERS.items()
        }
        params[ours]["prototypes"] = get(f"clu_head_{theirs}.prototypes.weight")
    return params


def params_to_published(params: Mapping, streams: tuple[str, str]) -> dict[str, np.ndarray]:
    """The inverse of `params_from_published`; encoders of the attention branch are ``base_module_*.0``."""
    state_dict = {}
    for ours, theirs in zip(streams, _PUBLISHED_STREAMS):
        for layer, name in _PUBLISHED_LAYERS.items():
            full = name.format(stream=theirs) + (".0" if layer == "attention_encoder" else "")
            kernel = np.asarray(params[ours][layer]["kernel"])
            state_dict[f"{full}.weight"] = np.ascontiguousarray(kernel.T)[..., None]
            state_dict[f"{full}.bias"] = np.asarray(params[ours][layer]["bias"])
        state_dict[f"clu_head_{theirs}.prototypes.weight"] = np.asarray(params[ours]["prototypes"])
    return state_dict
