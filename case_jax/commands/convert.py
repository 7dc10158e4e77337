"""The published code's PyTorch checkpoint to a workdir of ours, and back.

python -m experiments.convert_checkpoint --torch=best_model.pkl --cluster_labels=cls_gt.npy --output=W
python -m experiments.convert_checkpoint --checkpoint=W --torch=best_model.pkl --cluster_labels=cls_gt.npy

The first needs no PyTorch, and runs nothing that the file contains. A checkpoint tells neither classes nor
time nor T: they are THUMOS14's and the published ones, or those of --data_dir and of training's flags.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from absl import flags
from rich.console import Console

from case_jax.commands import cli, hardware, inputs
from case_jax.config import CaseConfig
from case_jax.data.activitynet import find_dataset
from case_jax.data.files import write_features
from case_jax.data.formats import Source, read_source
from case_jax.data.info import THUMOS14, DatasetInfo, read_info
from case_jax.data.thumos import is_thumos_layout
from case_jax.data.torch_files import read_state_dict, write_state_dict
from case_jax.errors import InputError
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.published import params_from_published, params_to_published
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir

def define_flags(given: flags.FlagValues) -> None:
    """The flags of this command."""
    flags.DEFINE_string("torch", None, "the published code's state dict (best_model.pkl)", flag_values=given)
    flags.DEFINE_string("cluster_labels", None, "the published code's Q^C (cls_gt.npy)", flag_values=given)
    flags.DEFINE_string("output", None, "workdir to make from them", flag_values=given)
    flags.DEFINE_string("checkpoint", None, "workdir to make them from", flag_values=given)
    flags.DEFINE_enum("which", "best", ["best", "last"], "which checkpoint of --checkpoint", flag_values=given)
    inputs.define_flags(given, num_seeds=1)
    hardware.define_flags(given)
    cli.define_config_flags(given)


# Of the published code's arrays, by the ends of their names; kernels of convolutions have one snippet.
_DIMENSIONS = {"prototypes.weight": 2, ".weight": 3, ".bias": 1}


def main(given: flags.FlagValues) -> None:
    """Runs the command."""
    torch_path = cli.require(given, "torch", "the path of a PyTorch state dict")
    labels_path = cli.require(given, "cluster_labels", "the path of a .npy file with Q^C")
    if given.checkpoint:
        if given.output:
            raise InputError("--output: contradicts --checkpoint; expected one of the two")
        said = _to_published(Workdir(given.checkpoint), torch_path, labels_path)
    else:
        said = _from_published(torch_path, labels_path, cli.require(given, "output", "a workdir, or --checkpoint"))
    Console(soft_wrap=True, markup=False).print(said, highlight=False)


def _from_published(torch_path: str, labels_path: str, output: str) -> str:
    info = _info()
    state_dict = read_state_dict(torch_path)
    _check_arrays(torch_path, state_dict)
    try:
        params = params_from_published(state_dict, info.streams)
    except InputError as error:  # a name is missing
        raise InputError(f"{torch_path}: {str(error).removeprefix('checkpoint: ')}") from None
    shapes = {stream: jax.tree.map(np.shape, of_stream) for stream, of_stream in params.items()}
    first = shapes[info.streams[0]]
    num_classes = first["cas_head"]["kernel"][-1]
    if num_classes != len(info.classes):
        raise InputError(
            f"{torch_path}: has {num_classes} classes; expected the {len(info.classes)} of "
            f"{given.data_dir or 'THUMOS14, or --data_dir'}"
        )
    config = _config(first)
    widths = {stream: of_stream["cas_encoder"]["kernel"][0] for stream, of_stream in shapes.items()}
    settings = RunSettings(
        config,
        info,
        widths,
        given.seed,
        eval_every=given.eval_every,
        tiou=cli.tiou_from_flags(given),
        data=os.path.abspath(given.data_dir) if given.data_dir else None,
    )
    expected = jax.eval_shape(settings.fresh_state)  # in no memory, however large
    for stream, of_stream in shapes.items():
        if of_stream != jax.tree.map(np.shape, expected.params[stream]):
            raise InputError(f"{torch_path}: shapes of stream {stream!r} do not fit; expected those of CASE")
    workdir = Workdir(output)
    _check_output(output)
    state = settings.fresh_state().replace(
        step=np.int32(config.num_steps),
        params=jax.tree.map(lambda array: np.asarray(array, np.float32), params),
        cluster_labels=_read_cluster_labels(labels_path, config.num_clusters),
    )
    workdir.begin(settings)
    with CheckpointStore(workdir.checkpoints) as store:
        store.save(jax.device_put(state), average=0.0)
    sizes = ", ".join(f"{stream} ({width})" for stream, width in widths.items())
    return (
        f"{num_classes} classes, streams {sizes}, {config.num_clusters} clusters, as step "
        f"{config.num_steps:,}: {output}\n"
        f"tested with {config.num_snippets} snippets a video (--num_snippets), "
        f"{info.frames_per_second:g} frames per second, one snippet every {info.frames_per_snippet:g}"
    )


def _check_arrays(path: str, state_dict: Mapping[str, np.ndarray]) -> None:
    """Refuses numbers that nothing can be computed with, and shapes that no layer of CASE has."""
    for name, array in state_dict.items():
        with np.errstate(over="ignore"):  # an overflow shows as infinite
            finite = np.isfinite(array.astype(np.float32)).all()
        if not finite:
            raise InputError(f"{path}: {name!r} holds values that are not finite; expected finite numbers")
        dimensions = next((n for ending, n in _DIMENSIONS.items() if name.endswith(ending)), array.ndim)
        if array.ndim != dimensions or 0 in array.shape or array.shape[2:] not in ((), (1,)):
            raise InputError(f"{path}: {name!r} has shape {array.shape}; expected that of a layer of CASE")


def _check_output(output: str) -> None:
    if not os.path.lexists(output):
        return
    try:
        empty = not os.listdir(output)
    except OSError as error:
        raise InputError(f"{output}: cannot be read ({error.strerror}); expected a new folder") from None
    if not empty:
        raise InputError(f"{output}: is not empty; expected a new folder")


def _config(shapes: dict) -> CaseConfig:
    """The flags' config with the sizes of the checkpoint."""
    return dataclasses.replace(
        cli.config_from_flags(given),
        hidden_dim=shapes["cas_encoder"]["kernel"][-1],
        num_clusters=shapes["prototypes"][0],
    )


def _info() -> DatasetInfo:
    if not given.data_dir:
        info = THUMOS14
    elif is_thumos_layout(given.data_dir):
        info = read_info(given.data_dir)
    else:
        info = find_dataset(given.data_dir).info
    if len(info.streams) != 2:
        raise InputError(
            f"{given.data_dir}: has {len(info.streams)} stream(s); expected two, as the published code"
        )
    return info


def _read_cluster_labels(path: str, num_clusters: int) -> np.ndarray:
    labels = read_source(Source(Path(path)))
    if labels.shape != (num_clusters, 2):
        raise InputError(f"{path}: has shape {labels.shape}; expected ({num_clusters}, 2), as the prototypes")
    if labels.min() < 0 or not all(math.isclose(total, 1, abs_tol=1e-3) for total in labels.sum(axis=1)):
        raise InputError(f"{path}: has rows that do not sum to 1; expected probabilities of foreground")
    return labels


def _to_published(workdir: Workdir, torch_path: str, labels_path: str) -> str:
    settings, state = workdir.load(given.which)
    streams = settings.info.streams
    if len(streams) != 2 or not settings.config.ccc:
        raise InputError(
            f"{workdir.path}: is no run of CASE with two streams; expected one, as the published code"
        )
    params = jax.tree.map(np.asarray, state.params)
    write_state_dict(torch_path, params_to_published(params, streams))
    write_features(labels_path, np.asarray(state.cluster_labels))
    return f"{given.which} checkpoint (step {int(state.step):,}): {torch_path}, {labels_path}"
