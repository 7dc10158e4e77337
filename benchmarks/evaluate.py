"""Detection mAP: ours against the protocol as it is commonly written, detection by detection.

python -m benchmarks.evaluate

Both score the same detections of THUMOS14-shaped videos at tIoU 0.1:0.7:0.1, in turn in this process. The
benchmark fails unless they find the same mAP.
"""

import sys

import numpy as np
from absl import flags

from benchmarks import harness, plain_loops
from benchmarks.thumos_shape import scored_videos
from case_jax.commands import cli
from case_jax.config import CaseConfig
from case_jax.data.dataset import as_entries
from case_jax.data.info import THUMOS14
from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.localization.detect import localize_video
from case_jax.localization.detections import to_activitynet

TIOU = np.arange(1, 8) / 10


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    harness.define_repeats(given, 3)
    flags.DEFINE_integer("num_videos", 210, "videos", lower_bound=1, flag_values=given)


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    config, videos = CaseConfig(), scored_videos(given.num_videos)
    detections = {
        v.name: localize_video(v.fused, v.scores, duration=v.duration, config=config) for v in videos
    }
    truth = {v.name: as_entries(v.annotations) for v in videos}
    entries = to_activitynet(detections, THUMOS14.classes)["results"]
    segments = make_segments(truth)

    def ours():
        return detection_map(segments, detected_segments(detections, THUMOS14.classes), TIOU).per_tiou

    def theirs():
        return plain_loops.mean_average_precision(truth, entries, TIOU)

    np.testing.assert_allclose(ours(), theirs(), rtol=0, atol=1e-12)
    seconds = harness.in_turn({"ours": ours, "plain loops": theirs}, repeats=given.repeats)
    count = sum(found.score.size for found in detections.values())
    rows = [["mAP", "ms", "detections per second"]]
    rows += [[name, harness.milliseconds(s), f"{count / s:,.0f}"] for name, s in seconds.items()]
    harness.finish(
        "evaluate",
        rows,
        ours_s=seconds["ours"],
        peer="plain loops",
        peer_s=seconds["plain loops"],
        videos=given.num_videos,
        detections=count,
    )


if __name__ == "__main__":
    cli.run(sys.modules[__name__])
