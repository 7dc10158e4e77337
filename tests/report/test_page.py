import dataclasses
import html.parser
import re

import numpy as np
import pytest

from case_jax.data.dataset import Annotation, Dataset, Split, Video
from case_jax.data.info import THUMOS14
from case_jax.errors import InputError
from case_jax.evaluation.matching import detected_segments, make_segments
from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.evaluation.oracles import oracle_maps
from case_jax.evaluator import false_alarms_of
from case_jax.localization.detections import Detections
from case_jax.method.scores import VideoScores
from case_jax.report.page import write_page
from case_jax.report.tables import alarm_rows, map_rows
from case_jax.runs.settings import RunSettings
from case_jax.runs.workdir import Workdir
from tests.helpers.reports import CONFIG, TIOU


class _Parser(html.parser.HTMLParser):
    """Checks that elements are closed in order; collects the rows of tables, all addresses and all ids."""

    VOID = ("meta", "input", "br", "link")

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.rows, self.ids = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action")]
        self.ids += [value for name, value in attributes if name == "id"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def parsed(reported):
    parser = _Parser()
    parser.feed(reported.path.read_text())
    parser.close()
    assert parser.open == []
    return parser


def test_it_needs_no_network(reported, parsed):
    text = reported.path.read_text()
    assert parsed.addresses == ["#videos"]
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|import\(", text)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_its_tables_show_the_results(reported, parsed):
    test = reported.dataset.test
    found = detected_segments(reported.detections, reported.dataset.info.classes)
    result = detection_map(make_segments(test.ground_truth()), found, TIOU)
    title = "best (step 10)"
    for row in map_rows({"last (step 20)": result, title: result}):
        assert row in parsed.rows
    for name, values in zip(result.classes, result.per_class):
        assert [name, *(f"{100 * v:.2f}" for v in (*values, values.mean()))] in parsed.rows
    assert sum(row[0] in ("1 G", "2 G", "3 G", "5 G", "10 G") for row in parsed.rows) == 5
    all_missed = next(row for row in parsed.rows if row[0] == "all")
    assert all_missed[-1] == str(test.num_instances)
    clusters = [row for row in parsed.rows if len(row) == 4 and row[0].isdecimal()]
    assert [(row[0], row[1]) for row in clusters] == [
        ("3", "1.000"), ("2", "0.667"), ("1", "0.333"), ("0", "0.000")
    ]  # fmt: skip


def test_it_states_facts_about_the_run(reported):
    text = reported.path.read_text()
    for fact in (
        "Synthetic data.",
        "4 videos with",
        "5 videos with",
        "3 classes; rgb (6), flow (6)",
        "SCC, CCC, clustering-assisted testing",
        "20, evaluated every 10; shown: 0",
        "12 s for the training command, on cpu",
        "&#34;cluster_temperature&#34;: 10.0",
    ):
        assert fact in text, fact


@pytest.fixture
def thumos_sized():
    """Random scores of 210 videos with 750 samples and 20 classes, and 23,500 random detections."""
    rng = np.random.default_rng(0)
    videos, detections = [], {}
    for i in range(210):
        length = int(rng.integers(100, 1500))
        labels = rng.choice(THUMOS14.classes, 2)
        starts = rng.uniform(0, 0.6 * length, 16)
        annotations = tuple(Annotation(str(rng.choice(labels)), float(s), float(s) + 4) for s in starts)
        videos.append(Video(f"video_test_{i:07}", {"rgb": np.zeros((length, 1), np.float32)}, annotations))
        begin = rng.uniform(0, 0.6 * length, 112)
        detections[videos[-1].name] = Detections(
            rng.integers(0, 20, 112), begin, begin + rng.uniform(1, 9, 112), rng.uniform(-0.2, 1.2, 112)
        )
    draw = lambda *shape: rng.uniform(size=(210, *shape)).astype(np.float32)  # noqa: E731
    scores = VideoScores(draw(750, 20), draw(20), draw(750), draw(750), draw(750), draw(750, 16))
    split = Split("test", tuple(videos))
    info = dataclasses.replace(THUMOS14, streams=("rgb",))
    return Dataset(info, dataclasses.replace(split, subset="train"), split), scores, detections


@pytest.mark.slow
def test_a_page_of_thumos14s_size_stays_small(tmp_path, thumos_sized):
    dataset, scores, detections = thumos_sized
    config = dataclasses.replace(CONFIG, num_snippets=750, num_clusters=16)
    settings = RunSettings.of(config, dataset, seed=0, eval_every=1, tiou=TIOU)
    workdir = Workdir(tmp_path)
    workdir.begin(settings)
    found = detected_segments(detections, dataset.info.classes)
    result = detection_map(make_segments(dataset.test.ground_truth()), found, TIOU)
    path = write_page(workdir, dataset, settings.fresh_state(), {"best": result}, scores, detections)
    assert 3_000_000 < path.stat().st_size < 15_000_000
    assert "of the 210 test videos" not in path.read_text()  # it holds all videos


def test_a_page_that_cannot_be_written_leaves_nothing_behind(tmp_path, reported):
    workdir = Workdir(tmp_path)
    workdir.begin(reported.run.settings)
    workdir.report.mkdir()
    outcome = reported.outcome
    with pytest.raises(InputError, match=r"report\.html: cannot be written \(Is a directory\)$"):
        write_page(
            workdir, reported.dataset, outcome.state, outcome.results, outcome.scores, outcome.detections
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "report.html"]


def test_the_baseline_has_no_clusters(baseline_reported):
    text = baseline_reported.path.read_text()
    assert "none: the baseline" in text
    assert "Snippet clusters" not in text
    assert '"clusters":[]' in text


def test_a_run_that_was_not_trained_here_has_no_best_checkpoint(tmp_path, reported):
    workdir = Workdir(tmp_path)
    workdir.begin(reported.run.settings)
    outcome = reported.outcome
    path = write_page(
        workdir, reported.dataset, outcome.state, outcome.results, outcome.scores, outcome.detections
    )
    text = path.read_text()
    assert "not trained here; a checkpoint of step 0" in text
    assert "step 0. Click a heading" in text
    assert "best (step 10)" not in text


def test_oracles_are_told(reported, parsed):
    found = detected_segments(reported.outcome.detections, reported.dataset.info.classes)
    truth = make_segments(reported.dataset.test.ground_truth())
    tiou = list(reported.outcome.results.values())[-1].tiou
    for row in map_rows(oracle_maps(truth, found, lambda segments: detection_map(truth, segments, tiou))):
        assert row in parsed.rows


def test_false_alarms_are_told_where_a_test_video_shows_no_action(tmp_path, reported):
    assert "False alarms" not in reported.path.read_text()
    first, *others = reported.dataset.test.videos
    test = dataclasses.replace(reported.dataset.test, videos=(first._replace(annotations=()), *others))
    dataset = dataclasses.replace(reported.dataset, test=test)
    workdir = Workdir(tmp_path)
    workdir.begin(reported.run.settings)
    outcome = reported.outcome
    page = write_page(workdir, dataset, outcome.state, outcome.results, outcome.scores, outcome.detections)
    parser = _Parser()
    parser.feed(page.read_text())
    alarms = false_alarms_of(test, dataset.info, outcome.detections)
    assert len(alarms.score) > 0
    for row in alarm_rows(alarms):
        assert row in parser.rows
    assert "1 test videos" in page.read_text()
