"""What a user sees of a training run: a line on a terminal, nothing more in a file, and TensorBoard."""

import codecs
import concurrent.futures
import contextlib
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import jax
import numpy as np
import pytest
from experiments.progress import progress_line
from rich.console import Console

from case_jax.runs.workdir import Workdir
from tests.conftest import ROOT
from tests.experiments.test_interrupt import Session

LOSSES = {
    "loss": 4.0,
    "loss_video": 0.5,
    "loss_attention": 0.25,
    "loss_clustering": 1.125,
    "loss_cluster_classification": 0.75,
}
METRICS = {**LOSSES, "entropy_snippets": 1.5}
TERMS = "(video 0.500 att 0.250 clust 1.125 class 0.750)"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(autouse=True)
def usual_dtypes(strict_dtypes):
    """Training takes steps of Adam, which raises a float to an integer."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def last_line(monkeypatch, width: int, reports, *, title="training", step=0, times=()) -> str:
    """What the line ends as on a terminal of some width, after ``reports`` at some times."""
    master, slave = pty.openpty()
    for name, value in {"TERM": "xterm", "COLUMNS": str(width)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    times = iter(times or range(len(reports)))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        reading = pool.submit(_read, master, until=None)
        with os.fdopen(slave, "w") as terminal:
            console = Console(file=terminal, width=width, soft_wrap=True, markup=False)
            with progress_line(console, title, step, 400, clock=lambda: next(times)) as show:
                for report in reports:
                    show(*report)
        written = reading.result()
    os.close(master)
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is shown again
    plain = ESCAPE.sub("", written)
    return re.split(r"[\r\n]+", plain.strip())[-1].rstrip()


@pytest.mark.parametrize(
    "width, line",
    [
        (
            160,
            f"training  ━━━━━━━━━━╺           200/400  loss 4.000 {TERMS}  5.0 steps/s  "
            "mAP 25.0 best 50.0 %  0:00:40 left",
        ),
        (
            140,
            f"training  200/400  loss 4.000 {TERMS}  5.0 steps/s  mAP 25.0 best 50.0 %  0:00:40 left",
        ),
        (
            120,
            f"200/400  loss 4.000 {TERMS}  5.0 steps/s  mAP 25.0 best 50.0 %  0:00:40 left",
        ),
        (80, "training  200/400  loss 4.000  5.0 steps/s  mAP 25.0 best 50.0 %  0:00:40 left"),
        (75, "200/400  loss 4.000  5.0 steps/s  mAP 25.0 best 50.0 %  0:00:40 left"),
        (40, "200/400  loss 4.000  5.0 steps/s  mAP 2…"),
    ],
)
def test_one_line_that_fits(monkeypatch, width, line):
    """The first report waited 100 s for the compiler, the second one took 2 s for its 10 steps."""
    reports = [(190, METRICS, [None], [None]), (200, METRICS, [0.25], [0.5])]
    assert last_line(monkeypatch, width, reports, step=180, times=(100.0, 102.0)) == line


def test_before_the_first_report_it_compiles(monkeypatch):
    assert last_line(monkeypatch, 60, []) == "training  ╺                     0/400  compiling"


def test_speed_and_map_are_shown_when_they_are_known(monkeypatch):
    baseline = {name: LOSSES[name] for name in ("loss", "loss_video", "loss_attention")}
    line = last_line(monkeypatch, 200, [(10, baseline, [None], [None])], title="1 of 2: [b] seed 3")
    assert line == (
        "1 of 2: [b] seed 3  ╺                     10/400  loss 4.000 (video 0.500 att 0.250)  - steps/s"
    )


def test_of_many_seeds_the_means_are_shown(monkeypatch):
    metrics = {name: np.array([value - 0.25, value + 0.25]) for name, value in METRICS.items()}
    line = last_line(monkeypatch, 115, [(10, metrics, [0.25, 0.5], [0.5, 0.75])])
    assert line == f"training  10/400  loss 4.000 {TERMS}  - steps/s  mAP 37.5 best 62.5 %"


def test_speed_is_a_mean_over_the_last_reports(monkeypatch):
    reports = [(10 * i, LOSSES, [None], [None]) for i in range(1, 31)]
    times = [1.0 * i for i in range(20)] + [19.0 + 5.0 * i for i in range(1, 11)]
    # From report 10 on, at 9 s, to report 30, at 69 s.
    line = last_line(monkeypatch, 60, reports, times=times)
    assert line.split("  ")[-2:] == [f"{200 / 60:.1f} steps/s", "0:00:30 left"]


def test_after_the_last_evaluation_speed_does_not_change(monkeypatch):
    reports = [(390, LOSSES, [0.5], [0.5]), (400, LOSSES, [0.5], [0.5]), (400, LOSSES, [0.25], [0.5])]
    line = last_line(monkeypatch, 80, reports, times=[0.0, 1.0])
    assert line == "training  400/400  loss 4.000  10.0 steps/s  mAP 25.0 best 50.0 %  0:00:00 left"


def test_a_file_gets_no_line(tmp_path):
    with open(tmp_path / "log", "w") as log, progress_line(Console(file=log), "training", 0, 400) as show:
        show(10, METRICS, [0.25], [0.5])
    assert (tmp_path / "log").read_bytes() == b""


def test_a_file_gets_no_line_even_if_colours_are_forced(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    test_a_file_gets_no_line(tmp_path)


def test_what_a_pipe_gets(trained):
    """The lines of description, evaluations and results, and nothing that moves."""
    assert all(line.isprintable() for line in trained.stdout.split("\n"))
    beginnings = [line.split()[0] if line else "" for line in trained.stdout.split("\n")]
    assert beginnings == [
        *("training:", "test:", "2", "model:"),
        *("step", "step", "step"),
        *("mAP", beginnings[8], "last", "best", ""),
    ]
    assert set(beginnings[8]) == {"-"}


def test_what_a_terminal_gets_also_when_interrupted(small_dataset, tmp_path, environment):
    flags = [f"--data_dir={small_dataset}", f"--workdir={tmp_path}", "--eval_every=14", "--num_steps=42000"]
    flags += "--num_snippets=32 --hidden_dim=16 --num_clusters=4 --batch_size=4 --noreport".split()
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.thumos", *flags],
        cwd=ROOT,
        env={**environment, "TERM": "xterm", "COLUMNS": "160"},
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    written = _read(master, until="left")
    written += _read(master, until="average mAP")
    os.killpg(process.pid, signal.SIGINT)
    written += _read(master, until=None)
    assert process.wait(timeout=60) == 130
    number = r"\d+\.\d{3}"
    assert re.search(
        rf"training  [━╺ ]{{20}}  \d+/42000  loss {number} "
        rf"\(video {number} att {number} clust {number} class {number}\)  \d+\.\d steps/s  "
        r"mAP \d+\.\d best \d+\.\d %  \d+:\d\d:\d\d left",
        ESCAPE.sub("", written),
    )
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is shown again
    *_, before, last, rest = re.split(r"\r?\n", ESCAPE.sub("", written))
    assert re.fullmatch(r"interrupted at step \d+ of 42000: saved; the same command goes on", last)
    assert "left" in before
    assert rest == ""


def _read(terminal: int, *, until: str | None) -> str:
    """What a terminal gets up to some text, or to the end of all that write to it."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    written = ""
    with contextlib.suppress(OSError):  # so ends a terminal
        while until is None or until not in written:
            written += decoder.decode(os.read(terminal, 1 << 16))
    return written


def test_events_hold_every_report_evaluation_and_the_settings(monkeypatch, tmp_path):
    session = Session(monkeypatch, tmp_path)
    session.train()
    assert_complete(session.workdirs[0])


def test_of_an_interrupted_run_too(monkeypatch, tmp_path):
    session = Session(monkeypatch, tmp_path, seeds=(3, 4))
    for step in (7, 14, 21):
        session.interrupt(step)
    session.train()
    for workdir in session.workdirs:
        assert len(list((workdir.path / "events").iterdir())) == 4
        assert_complete(workdir)


def test_events_after_the_checkpoint_are_void(monkeypatch, tmp_path):
    """A damaged state, so that training goes back over steps that it has written events of."""
    session = Session(monkeypatch, tmp_path)
    (workdir,) = session.workdirs
    session.interrupt(7)
    damaged(workdir, 7)
    session.interrupt(21)
    damaged(workdir, 21)
    session.train()
    written = [event for path in sorted((workdir.path / "events").iterdir()) for event in records_of(path)]
    steps = [event.step for event in written if event.WhichOneof("what") == "summary" and event.step]
    assert steps.count(7) == 2  # of which the reader is to ignore one
    assert_complete(workdir)


def test_tensorboard_reads_the_same(monkeypatch, tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    session = Session(monkeypatch, tmp_path)
    (workdir,) = session.workdirs
    session.interrupt(21)
    damaged(workdir, 21)
    session.train()
    accumulator = accumulators.EventAccumulator(str(workdir.path / "events"))
    accumulator.Reload()
    for tag, values in read_events(workdir).items():
        if tag != "settings/text_summary":
            assert [(e.step, e.value) for e in accumulator.Scalars(tag)] == values
    (settings,) = accumulator.Tensors("settings/text_summary")
    assert (settings.step, len(settings.tensor_proto.string_val)) == (0, 1)


def test_a_finished_run_begins_no_file_of_events(monkeypatch, tmp_path):
    session = Session(monkeypatch, tmp_path)
    for _ in range(2):
        session.train()
        session.resume()
    assert len(list((session.workdirs[0].path / "events").iterdir())) == 1


def damaged(workdir: Workdir, step: int) -> None:
    for path in (workdir.interrupted / str(step) / "default").rglob("d/*"):
        path.write_bytes(b"")


def assert_complete(workdir: Workdir) -> None:
    """The events are those of the history, of the metrics, and the settings."""
    expected = defaultdict(list)
    for row in workdir.history():
        for name, value in row["metrics"].items():
            expected[f"train/{name}"].append((row["step"], as_float32(value)))
    for row in workdir.metrics():
        for tiou, value in zip(row["tiou"], row["map"], strict=True):
            expected[f"test/mAP_{tiou:g}"].append((row["step"], as_float32(value)))
        expected["test/average"].append((row["step"], as_float32(row["average"])))
    assert {"train/loss_video", "train/entropy_clusters", "test/mAP_0.3"} <= set(expected)
    found = read_events(workdir)
    ((step, settings),) = found.pop("settings/text_summary")
    assert step == 0
    content = json.loads((workdir.path / "config.json").read_text())
    assert json.loads(settings) == content
    assert all(line.startswith("    ") for line in settings.splitlines())  # Markdown for: as it is
    assert found == expected


def as_float32(value: float) -> float:
    return float(np.float32(value))


def read_events(workdir: Workdir) -> dict[str, list]:
    """Tag -> (step, value) in the order written, as a reader should: a session voids later steps."""
    values = defaultdict(list)
    for path in sorted((workdir.path / "events").iterdir()):
        for event in records_of(path):
            if event.WhichOneof("what") == "session_log":
                for tag in values:
                    values[tag] = [pair for pair in values[tag] if pair[0] < event.step]
            for value in event.summary.value:
                text = value.tensor.string_val
                content = text[0].decode() if text else value.simple_value
                values[value.tag].append((event.step, content))
    return values


def records_of(path: Path) -> list:
    """The events of a file: length, its checksum, an event, its checksum, and so on."""
    from tensorboardX.proto.event_pb2 import Event

    content, events = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return events
