"""A run's report on disk: `report.html`, and a picture of one video.

This module imports jinja2 and matplotlib (extra `plots`) only when it writes, so that a command can first ask
whether they are installed.
"""

import importlib.util
import warnings
from pathlib import Path

import jax

from case_jax.data.dataset import Dataset
from case_jax.errors import InputError
from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.per_video import per_video_ap
from case_jax.localization.detections import to_activitynet
from case_jax.runs.outcome import Outcome
from case_jax.runs.run import Run
from case_jax.runs.workdir import Workdir

__all__ = ["median_video", "missing_packages", "require_report_packages", "write_report", "write_timeline"]

_PACKAGES = ("jinja2", "matplotlib")


def missing_packages() -> list[str]:
    """Names of the packages that a report needs and that are not installed."""
    return [name for name in _PACKAGES if importlib.util.find_spec(name) is None]


def require_report_packages() -> None:
    """Checks, before any work is done, that a report can be written.

    Raises:
        InputError: if a package is missing.
    """
    if missing_packages():
        raise InputError(
            f"--report: needs {' and '.join(_PACKAGES)}; expected pip install '.[plots]', or --noreport"
        )


def write_report(run: Run, outcome: Outcome, *, seconds: float | None = None) -> Path | None:
    """Writes `report.html`, `timeline.png` and `timeline.svg` into a run's workdir.

    Args:
        run: the run.
        outcome: the run's evaluation, with scores and detections.
        seconds: how long the training took; None where that is not known.

    Returns:
        The path of `report.html`; None, with a warning, where jinja2 or matplotlib is not installed.

    Raises:
        InputError: if a file cannot be written.
    """
    if missing_packages():
        needed = " and ".join(missing_packages())
        warnings.warn(f"no report: {needed} not installed (extra 'plots')", stacklevel=2)
        return None
    from case_jax.report.page import write_page  # needs jinja2

    assert outcome.scores is not None  # the first process has them, and only that one reports
    write_timeline(run.workdir, run.dataset, outcome, median_video(run.dataset, outcome))
    return write_page(
        run.workdir,
        run.dataset,
        outcome.state,
        outcome.results,
        outcome.scores,
        outcome.detections,
        seconds=seconds,
    )


def median_video(dataset: Dataset, outcome: Outcome) -> str:
    """Name of the test video of median quality (AP within the video): half of the test videos look worse."""
    truth = make_segments(dataset.test.ground_truth())
    found = detected_segments(outcome.detections, dataset.info.classes)
    worst_first = list(per_video_ap(truth, found, outcome.settings.tiou))
    return worst_first[len(worst_first) // 2]


def write_timeline(workdir: Workdir, dataset: Dataset, outcome: Outcome, video: str) -> list[Path]:
    """Draws one test video as `timeline.png` and `timeline.svg` into a run's workdir.

    Args:
        workdir: folder of the run.
        dataset: its test split holds the video.
        outcome: the run's evaluation, with scores and detections.
        video: name of the video.

    Returns:
        Both paths.

    Raises:
        InputError: if a file cannot be written.
    """
    from matplotlib.figure import Figure

    from case_jax.report.figures import save_figure, timeline  # needs matplotlib

    info, videos = dataset.info, dataset.test.videos
    row = next(i for i, one in enumerate(videos) if one.name == video)
    scores = jax.tree.map(lambda array: array[row], outcome.scores)
    entries = to_activitynet({video: outcome.detections[video]}, info.classes)["results"][video]
    figure = timeline(videos[row], scores, entries, info)
    assert isinstance(figure, Figure)  # it is a new one, not a part of one
    return save_figure(figure, workdir.path / "timeline")
