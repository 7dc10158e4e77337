import html
import shutil

import pytest

from case_jax.errors import InputError
from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.per_video import per_video_ap
from case_jax.report import write
from case_jax.runs.workdir import Workdir
from tests.helpers.reports import TIOU


def test_a_report_is_a_page_and_a_picture_in_the_workdir(reported):
    folder = reported.run.workdir.path
    assert reported.path == reported.run.workdir.report == folder / "report.html"
    assert (folder / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "timeline.svg").read_text().startswith("<svg")


def test_the_picture_shows_the_video_of_median_quality(reported):
    dataset, outcome = reported.dataset, reported.outcome
    name = write.median_video(dataset, outcome)
    truth = make_segments(dataset.test.ground_truth())
    quality = per_video_ap(truth, detected_segments(outcome.detections, dataset.info.classes), TIOU)
    worse = [video for video in quality if quality[video] < quality[name]]
    better = [video for video in quality if quality[video] > quality[name]]
    assert max(len(worse), len(better)) <= len(quality) // 2
    drawn = (reported.run.workdir.path / "timeline.svg").read_text()
    assert f">{html.escape(name, quote=False)}<" in drawn


def test_any_test_video_can_be_drawn(tmp_path, reported):
    workdir = Workdir(tmp_path)
    name = reported.dataset.test.videos[-1].name
    paths = write.write_timeline(workdir, reported.dataset, reported.outcome, name)
    assert [path.name for path in paths] == ["timeline.png", "timeline.svg"]
    assert f">{html.escape(name, quote=False)}<" in paths[1].read_text()


def test_without_its_packages_a_report_is_refused_or_left_out(tmp_path, monkeypatch, reported):
    assert write.missing_packages() == []
    write.require_report_packages()
    monkeypatch.setattr(write.importlib.util, "find_spec", lambda name: None if name == "jinja2" else name)
    assert write.missing_packages() == ["jinja2"]
    with pytest.raises(InputError, match=r"^--report: needs jinja2.*\[plots\]"):
        write.require_report_packages()
    run = reported.run
    shutil.copytree(run.workdir.path, tmp_path / "run", ignore=shutil.ignore_patterns("report*", "timeline*"))
    moved = type(run)(run.settings, Workdir(tmp_path / "run"), run.dataset)
    with pytest.warns(UserWarning, match="jinja2 not installed"):
        assert write.write_report(moved, reported.outcome) is None
    assert not moved.workdir.report.exists()
