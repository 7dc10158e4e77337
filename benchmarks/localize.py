"""Features to detections: ours against PyTorch video by video, with proposals and soft-NMS in plain loops.

python -m benchmarks.localize

Two parts are timed. The network turns THUMOS14-shaped features into fused sequences and video scores. The
numpy stage turns sequences into proposals, suppresses them and computes mAP. Its sequences are made to give
about as many proposals as those of a trained network, since random features give fewer. The peer runs in turn
in the same process. The published code takes about 43 s for the numpy stage of 210 videos on two such cores.
"""

import sys

import jax
import numpy as np
from absl import flags

from benchmarks import harness, plain_loops
from benchmarks.thumos_shape import make_dataset, scored_videos
from case_jax.commands import cli
from case_jax.config import CaseConfig
from case_jax.data.dataset import as_entries
from case_jax.data.info import THUMOS14
from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.localization.detect import localize_videos
from case_jax.method.sampled_videos import sample_videos, score_sampled
from case_jax.training.state import create_train_state

TIOU = np.arange(1, 8) / 10
PUBLISHED_S = 43.0  # numpy stage and mAP of 210 videos, 23,500 proposals, one process on two cores
_PEERS = ("torch", "loops")


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    harness.define_repeats(given, 3)
    flags.DEFINE_integer("num_videos", 210, "videos", lower_bound=1, flag_values=given)
    harness.define_width(given)
    flags.DEFINE_list(
        "peers",
        list(_PEERS),
        "some of torch (for the network) and loops (for the numpy stage), or none",
        flag_values=given,
    )


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    config = CaseConfig()
    peers = harness.peers_from_flags(given, _PEERS)
    if "torch" in peers:
        harness.require_packages("peers", "bench", torch="torch")
    network = _network_contestants(config, given.num_videos, given.width, with_torch="torch" in peers)
    stage, count = _stage_contestants(config, given.num_videos, with_loops="loops" in peers)
    network_s = harness.in_turn(network, repeats=given.repeats)
    stage_s = harness.in_turn(stage, repeats=given.repeats)
    ours_s = network_s["ours"] + stage_s["ours"]
    rows = [["part", "ms", "videos per second"]]
    for title, part in (("network", network_s), ("numpy stage + mAP", stage_s)):
        rows += [
            [f"{title}, {name}", harness.milliseconds(s), f"{given.num_videos / s:,.0f}"]
            for name, s in part.items()
        ]
    published_s = PUBLISHED_S * given.num_videos / 210
    peer_s = [part[name] for part, name in ((network_s, "torch"), (stage_s, "loops")) if name in part]
    measured = len(peer_s) == 2
    harness.finish(
        "localize",
        rows,
        ours_s=ours_s if measured else stage_s["ours"],
        peer="PyTorch video by video and plain loops" if measured else "published numpy stage (recorded)",
        peer_s=sum(peer_s) if measured else published_s,
        videos=given.num_videos,
        proposals=count,
        videos_per_s=given.num_videos / ours_s,
        network_s=network_s,
        stage_s=stage_s,
        published_stage_s=published_s,
        stage_speedup_over_published=published_s / stage_s["ours"],
    )


def _network_contestants(config: CaseConfig, num_videos: int, width: int, *, with_torch: bool):
    dataset = make_dataset(num_train=1, num_test=num_videos, width=width)
    state = create_train_state(
        config, jax.random.key(0), stream_widths=dataset.stream_widths, num_classes=len(THUMOS14.classes)
    )
    sampled = sample_videos(dataset.test.pack(THUMOS14.streams), num_snippets=config.num_snippets)

    def ours():
        scores = score_sampled(state, sampled)
        return np.asarray(scores.fused), np.asarray(scores.video)

    contestants = {"ours": ours}
    if with_torch:
        import torch

        from benchmarks.torch_step import TorchCase

        case = TorchCase(tuple(dataset.stream_widths.values()), len(THUMOS14.classes), config)

        @torch.no_grad()
        def theirs():
            results = []
            for video in dataset.test.videos:
                picked = np.arange(config.num_snippets) * video.num_snippets // config.num_snippets
                joined = np.concatenate([array[picked] for array in video.features.values()], axis=1)
                results.append(case.score(torch.from_numpy(joined.T[None].copy())))
            return results

        contestants["torch"] = theirs
    return contestants


def _stage_contestants(config: CaseConfig, num_videos: int, *, with_loops: bool):
    videos = scored_videos(num_videos, config.num_snippets)
    fused = np.stack([v.fused for v in videos])
    scores = np.stack([v.scores for v in videos])
    truth = {v.name: as_entries(v.annotations) for v in videos}
    segments = make_segments(truth)

    def ours():
        found = localize_videos(fused, scores, [v.duration for v in videos], config)
        detections = dict(zip(truth, found))
        result = detection_map(segments, detected_segments(detections, THUMOS14.classes), TIOU)
        return result.per_tiou, sum(d.score.size for d in found)

    def loops():
        predictions = plain_loops.predict(videos, THUMOS14.classes, config)
        return plain_loops.mean_average_precision(truth, predictions, TIOU), sum(
            map(len, predictions.values())
        )

    quality, count = ours()
    contestants = {"ours": ours}
    if with_loops:
        loops_quality, loops_count = loops()
        np.testing.assert_equal(count, loops_count)
        np.testing.assert_allclose(quality, loops_quality, rtol=0, atol=1e-6)
        contestants["loops"] = loops
    return contestants, count


if __name__ == "__main__":
    cli.run(sys.modules[__name__])
