"""The report of a run of THUMOS14's size: the time to write it, its size, and the time to open it.

python -m benchmarks.report

Opening is timed in a headless Chromium, from the address to the first drawn timeline. It needs the extra
`test` and the browser; without them the table says so. There is no peer.
"""

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import harness
from benchmarks.thumos_shape import scored_videos
from case_jax.commands import cli
from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset, Split, Video
from case_jax.data.info import THUMOS14
from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.localization.detect import localize_video
from case_jax.method.scores import VideoScores
from case_jax.report.page import write_page
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir

TIOU = tuple(np.arange(1, 8) / 10)


def define_flags(given: flags.FlagValues) -> None:
    """The flags of this benchmark."""
    harness.define_repeats(given, 5)
    flags.DEFINE_integer("num_videos", 210, "videos", lower_bound=1, flag_values=given)


def main(given: flags.FlagValues) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as folder:
        write = _writer(Workdir(folder), given.num_videos)
        written = [harness.seconds_of(write) for _ in range(given.repeats)]
        path = Path(folder) / "report.html"
        size, opened = path.stat().st_size, _open(path, given.repeats)
    rows = [
        ["report", "", ""],
        ["written", harness.milliseconds(statistics.median(written)), "ms"],
        ["size", f"{size / 1e6:.2f}", "MB"],
        ["opened", *((harness.milliseconds(opened), "ms") if opened else ("-", "no Chromium"))],
    ]
    harness.finish(
        "report",
        rows,
        ours_s=statistics.median(written),
        peer=None,
        peer_s=None,
        videos=given.num_videos,
        bytes=size,
        open_s=opened,
    )


def _writer(workdir: Workdir, num_videos: int):
    """A function that writes the report of made-up scores into a workdir."""
    config, scored = CaseConfig(), scored_videos(num_videos)
    rng = np.random.default_rng(0)
    videos = tuple(
        Video(v.name, {"rgb": np.zeros((1, 1), np.float32)}, v.annotations, v.duration) for v in scored
    )
    split = Split("test", videos)
    dataset = Dataset(THUMOS14, split, split)
    fused = np.stack([v.fused for v in scored])
    attention = fused.max(axis=-1)
    clusters = rng.dirichlet(np.full(config.num_clusters, 0.2), attention.shape).astype(np.float32)
    scores = VideoScores(
        fused, np.stack([v.scores for v in scored]), attention, attention, attention, clusters
    )
    detections = {
        v.name: localize_video(v.fused, v.scores, duration=v.duration, config=config) for v in scored
    }
    widths = {"rgb": 1, "flow": 1}
    settings = RunSettings(config, THUMOS14, widths, seed=0, eval_every=50, tiou=TIOU)
    workdir.begin(settings)
    metrics = {name: 1.0 for name in ("loss", "loss_video", "entropy_snippets", "entropy_clusters")}
    workdir.write_history([{"step": step, "metrics": metrics} for step in range(10, 3601, 10)])
    found = detected_segments(detections, THUMOS14.classes)
    result = detection_map(make_segments(split.ground_truth()), found, TIOU)
    state = settings.fresh_state()
    return lambda: write_page(workdir, dataset, state, {"best": result}, scores, detections) and None


def _open(path: Path, repeats: int) -> float | None:
    """Median seconds until the page shows a timeline; None without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        return None
    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for _ in range(repeats):
            page = browser.new_page()
            began = time.perf_counter()
            page.goto(path.as_uri())
            page.wait_for_selector("#timeline svg rect.truth", state="attached")
            times.append(time.perf_counter() - began)
            page.close()
        browser.close()
    return statistics.median(times)


if __name__ == "__main__":
    cli.run(sys.modules[__name__])
