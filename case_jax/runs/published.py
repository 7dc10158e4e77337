"""Checkpoints of the published PyTorch code: from its files to a workdir of ours, and back."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from case_jax.config import CaseConfig
from case_jax.data.info import DatasetInfo
from case_jax.data.names import is_hidden
from case_jax.data.npy import write_features
from case_jax.data.sources import Source, read_source
from case_jax.data.torch_files import read_state_dict, write_state_dict
from case_jax.errors import InputError
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from case_jax.training.state import TrainState

__all__ = ["adopt", "export", "params_from_published", "params_to_published"]

# Our layer -> the published code's, with the stream's name in it.
_LAYERS = {
    "cas_encoder": "cas_module_{stream}.0",
    "cas_head": "cas_module_{stream}.2",
    "attention_encoder": "base_module_{stream}",
    "attention_head": "att_module_{stream}",
}
_STREAMS = ("rgb", "flow")
# Dimensions of the published code's arrays, by the ends of their names. Convolutions cover one snippet.
_DIMENSIONS = {"prototypes.weight": 2, ".weight": 3, ".bias": 1}


def adopt(
    workdir: Workdir,
    torch_path: str,
    labels_path: str,
    config: CaseConfig,
    info: DatasetInfo,
    *,
    seed: int,
    eval_every: int,
    tiou: Sequence[float],
    data: str | None = None,
    classes_from: str = "the data set",
) -> RunSettings:
    """Makes a workdir of a published checkpoint, as if it had been trained here.

    Args:
        workdir: to make; its folder must not exist or be empty.
        torch_path: the published code's state dict.
        labels_path: a .npy file with its Q^C, (K, 2).
        config: hyper-parameters; width and number of clusters are taken from the checkpoint instead.
        info: classes, streams and time, which the checkpoint does not tell.
        seed: what the settings say; nothing is drawn.
        eval_every: what the settings say; nothing is trained.
        tiou: thresholds of mAP.
        data: where the data set is, if that is known.
        classes_from: where ``info`` is from, for messages.

    Returns:
        The settings of the run, with the sizes of the checkpoint.

    Raises:
        InputError: if a file cannot be read or is not a checkpoint of CASE, classes or streams do not fit, or
            the folder is not empty.
    """
    if len(info.streams) != 2:
        raise InputError(
            f"{classes_from}: has {len(info.streams)} stream(s); expected two, as the published code"
        )
    state_dict = read_state_dict(torch_path)
    _check_arrays(torch_path, state_dict)
    try:
        params = params_from_published(state_dict, info.streams)
    except InputError as error:  # a name is missing
        raise InputError(f"{torch_path}: {str(error).removeprefix('checkpoint: ')}") from None
    shapes = {stream: jax.tree.map(np.shape, of_stream) for stream, of_stream in params.items()}
    num_classes = shapes[info.streams[0]]["cas_head"]["kernel"][-1]
    if num_classes != len(info.classes):
        raise InputError(
            f"{torch_path}: has {num_classes} classes; expected the {len(info.classes)} of {classes_from}"
        )
    settings = RunSettings(
        _with_sizes(config, shapes[info.streams[0]]),
        info,
        {stream: of_stream["cas_encoder"]["kernel"][0] for stream, of_stream in shapes.items()},
        seed,
        eval_every=eval_every,
        tiou=tuple(tiou),
        data=data,
    )
    _check_shapes(torch_path, shapes, settings)
    _check_empty(workdir.path)
    _write(workdir, settings, params, _read_cluster_labels(labels_path, settings.config.num_clusters))
    return settings


def export(
    workdir: Workdir, torch_path: str, labels_path: str, *, which: Literal["best", "last"] = "best"
) -> TrainState:
    """Writes a run's checkpoint in the form of the published code; needs PyTorch.

    Args:
        workdir: of a run of CASE with two streams.
        torch_path: the state dict to write.
        labels_path: the .npy file with Q^C to write.
        which: "best", by what the run keeps, or "last".

    Returns:
        The state that was written.

    Raises:
        InputError: if there is no such run, it has a second stage, PyTorch is not installed, or a file cannot
            be written.
    """
    settings, state = workdir.load(which)
    streams = settings.info.streams
    if settings.refinement is not None:
        raise InputError(
            f"{workdir.path}: has a second stage, which the published code does not know; expected the run "
            "of its first stage"
        )
    if len(streams) != 2 or not settings.config.ccc:
        raise InputError(
            f"{workdir.path}: is not a run of CASE with two streams; expected one, as the published code"
        )
    params = jax.tree.map(np.asarray, state.params)
    write_state_dict(torch_path, params_to_published(params, streams))
    write_features(labels_path, np.asarray(state.cluster_labels))
    return state


def params_from_published(state_dict: Mapping[str, np.ndarray], streams: Sequence[str]) -> dict:
    """Parameters under the published PyTorch names, as ours.

    Args:
        state_dict: name -> array; convolution weights are (out, in, 1). `base_module_*` may carry the ``.0``
            of a torch Sequential or not.
        streams: our names of the two streams that are called rgb and flow there.

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
    for ours, theirs in zip(streams, _STREAMS):
        params[ours] = {
            layer: {
                "kernel": np.ascontiguousarray(get(name.format(stream=theirs) + ".weight")[..., 0].T),
                "bias": get(name.format(stream=theirs) + ".bias"),
            }
            for layer, name in _LAYERS.items()
        }
        params[ours]["prototypes"] = get(f"clu_head_{theirs}.prototypes.weight")
    return params


def params_to_published(params: Mapping, streams: Sequence[str]) -> dict[str, np.ndarray]:
    """The inverse of `params_from_published`; encoders of the attention branch are ``base_module_*.0``."""
    state_dict = {}
    for ours, theirs in zip(streams, _STREAMS):
        for layer, name in _LAYERS.items():
            full = name.format(stream=theirs) + (".0" if layer == "attention_encoder" else "")
            kernel = np.asarray(params[ours][layer]["kernel"])
            state_dict[f"{full}.weight"] = np.ascontiguousarray(kernel.T)[..., None]
            state_dict[f"{full}.bias"] = np.asarray(params[ours][layer]["bias"])
        state_dict[f"clu_head_{theirs}.prototypes.weight"] = np.asarray(params[ours]["prototypes"])
    return state_dict


def _check_arrays(path: str, state_dict: Mapping[str, np.ndarray]) -> None:
    """Rejects numbers that nothing can be computed with, and shapes that no layer of CASE has."""
    for name, array in state_dict.items():
        with np.errstate(over="ignore"):  # an overflow shows as infinite
            finite = np.isfinite(array.astype(np.float32)).all()
        if not finite:
            raise InputError(f"{path}: {name!r} holds values that are not finite; expected finite numbers")
        dimensions = next((n for ending, n in _DIMENSIONS.items() if name.endswith(ending)), array.ndim)
        if array.ndim != dimensions or 0 in array.shape or array.shape[2:] not in ((), (1,)):
            raise InputError(f"{path}: {name!r} has shape {array.shape}; expected that of a layer of CASE")


def _with_sizes(config: CaseConfig, shapes: Mapping) -> CaseConfig:
    """The config with the width and the number of clusters of a stream's layers."""
    return dataclasses.replace(
        config, hidden_dim=shapes["cas_encoder"]["kernel"][-1], num_clusters=shapes["prototypes"][0]
    )


def _check_shapes(path: str, shapes: Mapping[str, Any], settings: RunSettings) -> None:
    expected = jax.eval_shape(settings.fresh_state)  # takes no memory, however large the layers are
    for stream, of_stream in shapes.items():
        if of_stream != jax.tree.map(np.shape, expected.params[stream]):
            raise InputError(f"{path}: shapes of stream {stream!r} do not fit; expected those of CASE")


def _check_empty(folder: Path) -> None:
    if not os.path.lexists(folder):
        return
    try:
        empty = all(map(is_hidden, os.listdir(folder)))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror}); expected a new folder") from None
    if not empty:
        raise InputError(f"{folder}: is not empty; expected a new folder")


def _read_cluster_labels(path: str, num_clusters: int) -> np.ndarray:
    """(K, 2) float32 Q^C."""
    labels = read_source(Source(Path(path)))
    if labels.shape != (num_clusters, 2):
        raise InputError(f"{path}: has shape {labels.shape}; expected ({num_clusters}, 2), as the prototypes")
    if labels.min() < 0 or not all(math.isclose(total, 1, abs_tol=1e-3) for total in labels.sum(axis=1)):
        raise InputError(f"{path}: has rows that do not sum to 1; expected probabilities of foreground")
    return labels


def _write(workdir: Workdir, settings: RunSettings, params: Mapping, cluster_labels: np.ndarray) -> None:
    state = settings.fresh_state().replace(
        step=np.int32(settings.config.num_steps),
        params=jax.tree.map(lambda array: np.asarray(array, np.float32), params),
        cluster_labels=cluster_labels,
    )
    workdir.begin(settings)
    with CheckpointStore(workdir.checkpoints) as store:
        store.save(jax.device_put(state), quality=0.0)
