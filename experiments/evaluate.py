"""mAP of any ActivityNet-format prediction file.

python -m experiments.evaluate --ground_truth=gt.json --predictions=p.json --subset=test --tiou=0.1:0.7:0.1
"""

import json
import time

from absl import flags

from case_jax.data.annotations import read_ground_truth, subset_of
from case_jax.data.dataset import as_entries
from case_jax.errors import InputError
from case_jax.localization.detection_map import DetectionMap, detection_map, make_segments
from case_jax.localization.detections import read_predictions
from case_jax.report.tables import map_table, per_class_table
from experiments import cli

flags.DEFINE_string("ground_truth", None, "ground truth in ActivityNet form (gt.json)")
flags.DEFINE_string("predictions", None, "detections in ActivityNet form")
flags.DEFINE_string("subset", "test", "subset of the ground truth to score")
flags.DEFINE_string("tiou", "0.1:0.7:0.1", 'tIoU thresholds, "first:last:step" or "a,b,c"')
flags.DEFINE_boolean("json", False, "print one JSON object in place of tables")
FLAGS = flags.FLAGS


def main() -> None:
    truth_path = cli.require("ground_truth", "the path of a ground-truth file")
    predictions_path = cli.require("predictions", "the path of a prediction file")
    thresholds = cli.tiou_from_flags()

    database = read_ground_truth(truth_path)
    truth = subset_of(database, FLAGS.subset, path=truth_path)
    predictions = read_predictions(predictions_path)
    labels = {a.label for video in database.values() for a in video.annotations}
    for video, entries in predictions.items():
        if video not in database:
            raise InputError(f"{predictions_path}: has video {video!r}; expected videos of {truth_path}")
        for entry in entries:
            if entry["label"] not in labels:
                raise InputError(
                    f"{predictions_path}: video {video!r} has label {entry['label']!r}; expected one of the "
                    f"{len(labels)} labels of {truth_path}"
                )
    scored = {video: entries for video, entries in predictions.items() if video in truth}

    began = time.perf_counter()
    result = detection_map(
        make_segments({video: as_entries(annotations) for video, annotations in truth.items()}),
        make_segments(scored),
        thresholds,
    )
    seconds = time.perf_counter() - began
    if FLAGS.json:
        print(json.dumps(_as_json(result)))
        return
    instances = sum(map(len, truth.values()))
    detections = sum(map(len, scored.values()))
    outside = sum(map(len, predictions.values())) - detections
    print(per_class_table(result))
    print()
    print(map_table({FLAGS.subset: result}))
    print(
        f"\n{len(truth)} videos of subset {FLAGS.subset!r} with {instances:,} instances of "
        f"{len(result.classes)} classes; {detections:,} detections in {len(scored)} of these videos"
        + (f" ({outside:,} more in other subsets, not counted)" if outside else "")
        + f"; ActivityNet protocol, computed in {seconds:.2f} s"
    )


def _as_json(result: DetectionMap) -> dict:
    return {
        "tiou": result.tiou.tolist(),
        "map": result.per_tiou.tolist(),
        "average": result.average,
        "per_class": dict(zip(result.classes, result.per_class.tolist())),
    }


if __name__ == "__main__":
    cli.run(main)
