"""A report of a small made-up run, and a browser to look at it."""

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset
from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.evaluator import Evaluator
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir

# A name that ends scripts, opens elements and quotes.
ODD_NAME = 'a</script><b title="&">'
CONFIG = CaseConfig(num_snippets=24, batch_size=2, hidden_dim=8, num_clusters=4, num_steps=20)
TIOU = (0.1, 0.3, 0.5)


class Reported(NamedTuple):
    """What went into a report."""

    path: Path
    dataset: Dataset
    scores: VideoScores
    detections: dict[str, Detections]


def make_report(folder: Path, config: CaseConfig = CONFIG) -> Reported:
    """Of an untrained network, on five test videos."""
    from case_jax.report.page import write_report

    dataset = make_synthetic_dataset(3, SyntheticSpec(num_train=4, num_test=5, num_classes=3, width=6))
    videos = list(dataset.test.videos)
    videos[1] = videos[1]._replace(name=ODD_NAME)
    test = dataclasses.replace(dataset.test, videos=tuple(videos), packed=None)
    dataset = dataclasses.replace(dataset, test=test)
    settings = RunSettings.of(config, dataset, seed=7, eval_every=10, tiou=TIOU, data="synthetic")
    state = settings.fresh_state()
    # Labels that differ, so that P^T does, and activations that cross the thresholds.
    labels = np.linspace(0, 1, config.num_clusters, dtype=np.float32)
    state = state.replace(cluster_labels=jax.numpy.stack([labels, 1 - labels], axis=1))
    state = state.replace(params=jax.tree.map(lambda leaf: 4 * leaf, state.params))
    workdir = Workdir(folder / "a run & <more>")
    workdir.begin(settings)
    names = [name for name, on in (("entropy_snippets", config.scc), ("entropy_clusters", config.ccc)) if on]
    workdir.write_history(
        [
            {"step": step, "metrics": {"loss": 9 / step, "loss_video": 5 / step} | dict.fromkeys(names, 1.25)}
            for step in (5, 10, 15, 20)
        ]
    )
    row = {"losses": {"loss": 1.0}, "tiou": TIOU, "map": [0.5] * 3}
    workdir.write_metrics([{"step": 10, "average": 0.5, **row}, {"step": 20, "average": 0.25, **row}])
    with Evaluator(dataset.test, dataset.info, config) as evaluator:
        scores = evaluator.score(state)
        detections = evaluator.localize(scores, config).detections()
        results = {
            title: evaluator.map_of(detections, TIOU) for title in ("last (step 20)", "best (step 10)")
        }
    path = write_report(workdir, dataset, state, results, scores, detections, seconds=12.0)
    return Reported(path, dataset, jax.tree.map(np.asarray, scores), detections)


@pytest.fixture(scope="session")
def reported(tmp_path_factory) -> Reported:
    # Enough precision for Adam's step count and the like is no matter here: nothing is trained.
    with jax.numpy_dtype_promotion("standard"):
        return make_report(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")))
    program = next(found, None)
    if program is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """open_page(path, width=1200, height=900, color_scheme="light"); fails on any error or request."""
    with contextlib.ExitStack() as stack:
        problems: list[str] = []

        def open_one(path: Path, *, width: int = 1200, height: int = 900, color_scheme: str = "light"):
            context = chromium.new_context(
                viewport={"width": width, "height": height}, color_scheme=color_scheme, offline=True
            )
            stack.callback(context.close)
            page = context.new_page()
            page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            requests: list[str] = []
            page.goto(path.as_uri())
            assert requests == [path.as_uri()]
            return page

        yield open_one
        assert problems == []
