"""Converts a PyTorch checkpoint of the published code to a workdir of ours, and back.

python -m experiments.convert_checkpoint --torch=best_model.pkl --cluster_labels=cls_gt.npy --output=W
python -m experiments.convert_checkpoint --checkpoint=W --torch=best_model.pkl --cluster_labels=cls_gt.npy

The first needs no PyTorch, and runs nothing that the file contains. A checkpoint tells neither classes nor
time nor T: they are THUMOS14's and the published ones, or those of --data_dir and of training's flags.
"""

import os

from absl import flags
from rich.console import Console

from case_jax.commands import cli, hardware, inputs
from case_jax.commands.outputs import check_outputs
from case_jax.data.activitynet import find_dataset
from case_jax.data.info import THUMOS14, DatasetInfo, read_info
from case_jax.data.thumos import is_thumos_layout
from case_jax.errors import InputError
from case_jax.runs.published import adopt, export
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir

__all__ = ["define_flags", "main"]


def define_flags(given: flags.FlagValues) -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("torch", None, "the published code's state dict (best_model.pkl)", flag_values=given)
    flags.DEFINE_string("cluster_labels", None, "the published code's Q^C (cls_gt.npy)", flag_values=given)
    flags.DEFINE_string("output", None, "workdir to make from them", flag_values=given)
    flags.DEFINE_string("checkpoint", None, "workdir to make them from", flag_values=given)
    flags.DEFINE_enum(
        "which", "best", ["best", "last"], "which checkpoint of --checkpoint", flag_values=given
    )
    inputs.define_flags(given, num_seeds=1)
    hardware.define_flags(given)
    cli.define_config_flags(given)


def main(given: flags.FlagValues) -> None:
    """Converts one way or the other, and says what was written."""
    torch_path = cli.require(given, "torch", "the path of a PyTorch state dict")
    labels_path = cli.require(given, "cluster_labels", "the path of a .npy file with Q^C")
    if given.checkpoint:
        if given.output:
            raise InputError("--output: contradicts --checkpoint; expected one of the two")
        check_outputs(files={"torch": torch_path, "cluster_labels": labels_path})
        state = export(Workdir(given.checkpoint), torch_path, labels_path, which=given.which)
        said = f"{given.which} checkpoint (step {int(state.step):,}): {torch_path}, {labels_path}"
    else:
        output = cli.require(given, "output", "a workdir, or --checkpoint")
        check_outputs(own_folders={"output": output}, inputs={"data_dir": given.data_dir})
        settings = adopt(
            Workdir(output),
            torch_path,
            labels_path,
            cli.config_from_flags(given),
            _info(given.data_dir),
            seed=given.seed,
            eval_every=given.eval_every,
            tiou=cli.tiou_from_flags(given),
            data=os.path.abspath(given.data_dir) if given.data_dir else None,
            classes_from=given.data_dir or "THUMOS14, or --data_dir",
        )
        said = _described(settings, output)
    Console(soft_wrap=True, markup=False).print(said, highlight=False)


def _info(data_dir: str | None) -> DatasetInfo:
    """Classes, streams and time of the checkpoint's data set: THUMOS14's unless told otherwise."""
    if not data_dir:
        return THUMOS14
    return read_info(data_dir) if is_thumos_layout(data_dir) else find_dataset(data_dir).info


def _described(settings: RunSettings, output: str) -> str:
    config, info = settings.config, settings.info
    sizes = ", ".join(f"{stream} ({width})" for stream, width in settings.stream_widths.items())
    return (
        f"{len(info.classes)} classes, streams {sizes}, {config.num_clusters} clusters, as step "
        f"{config.num_steps:,}: {output}\n"
        f"tested with {config.num_snippets} snippets a video (--num_snippets), "
        f"{info.frames_per_second:g} frames per second, one snippet every {info.frames_per_snippet:g}"
    )
