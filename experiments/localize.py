"""Features on disk to ActivityNet-format detections.

python -m experiments.localize --checkpoint=W --features=F --output=p.json

F holds one folder per stream with one .npy file per video, like features/test of the THUMOS14 layout.
"""

import dataclasses
import math

from absl import flags
from rich.console import Console

from case_jax.data.thumos import load_feature_folder
from case_jax.errors import InputError
from case_jax.evaluation import predict
from case_jax.localization.detections import write_predictions
from case_jax.workdir import Workdir
from experiments import cli

flags.DEFINE_string("checkpoint", None, "workdir of a training run")
flags.DEFINE_enum("which", "best", ["best", "last"], "which of its checkpoints")
flags.DEFINE_string("features", None, "folder with one folder of .npy files per stream")
flags.DEFINE_string("output", None, "where to write the detections (JSON)")
flags.DEFINE_float("fps", None, "frames per second, if not those of the training data", lower_bound=1e-6)
flags.DEFINE_float(
    "frames_per_snippet", None, "frames per snippet, if not those of training", lower_bound=1e-6
)
FLAGS = flags.FLAGS


def main() -> None:
    workdir = Workdir(cli.require("checkpoint", "the workdir of a training run"))
    folder = cli.require("features", "a folder of features")
    output = cli.require("output", "the path of a JSON file to write")
    for name in ("fps", "frames_per_snippet"):
        value = FLAGS[name].value
        if value is not None and not math.isfinite(value):
            raise InputError(f"--{name}: is {value}; expected a finite number")
    settings, state = workdir.load(FLAGS.which)
    if settings.info.rescaled and not (FLAGS.fps and FLAGS.frames_per_snippet):
        raise InputError(
            f"{workdir.path}: was trained on rescaled features, which tell no time; expected --fps and "
            "--frames_per_snippet of these"
        )
    info = dataclasses.replace(
        settings.info,
        rescaled=False,
        frames_per_second=FLAGS.fps or settings.info.frames_per_second,
        frames_per_snippet=FLAGS.frames_per_snippet or settings.info.frames_per_snippet,
    )
    videos = load_feature_folder(folder, info.streams)
    for stream, width in settings.stream_widths.items():
        found = videos[0].features[stream].shape[1]
        if found != width:
            raise InputError(
                f"{folder}: stream {stream!r} has {found} channels; expected {width} as in training"
            )
    predictions = predict(state, videos, info)
    write_predictions(output, predictions)
    detections = sum(map(len, predictions["results"].values()))
    Console(soft_wrap=True, markup=False).print(
        f"{detections:,} detections in {len(videos):,} videos, by the {FLAGS.which} checkpoint (step "
        f"{int(state.step)}): {output}",
        highlight=False,
    )


if __name__ == "__main__":
    cli.run(main)
