"""The progress line: on a terminal one line that changes; in a file or a pipe nothing that moves."""

import codecs
import contextlib
import io
import os
import pty
import re
import signal
import subprocess

import numpy as np
import pytest
from rich.console import Console

from case_jax.commands.progress import ConsoleNarrator, progress_line
from case_jax.method.objective import LOSS_TERMS
from tests.conftest import ROOT
from tests.helpers.commands import interruptible
from tests.helpers.workdirs import SMALL

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


class FakeTerminal(io.StringIO):
    def isatty(self):
        return True


def fake_console(width: int) -> Console:
    """A console that takes its file for a terminal."""
    return Console(
        file=FakeTerminal(),
        width=width,
        force_terminal=True,
        soft_wrap=True,
        markup=False,
        _environ={"TERM": "xterm"},
    )


def last_line(width: int, chunks, *, title="training", step=0, times=()) -> str:
    """How the line ends on a terminal of some width, if ``chunks`` of steps end at some times."""
    console = fake_console(width)
    clock = iter(times or range(len(chunks)))
    with progress_line(console, title, step, 400, clock=lambda: next(clock)) as show:
        for chunk in chunks:
            show(*chunk)
    written = console.file.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is shown again
    return re.split(r"[\r\n]+", ESCAPE.sub("", written).strip())[-1].rstrip()


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
def test_one_line_that_fits(width, line):
    """The first chunk ends after 100 s of compilation; the second takes 2 s for 10 steps."""
    chunks = [(190, METRICS, [None], [None]), (200, METRICS, [0.25], [0.5])]
    assert last_line(width, chunks, step=180, times=(100.0, 102.0)) == line


def test_before_the_end_of_the_first_chunk_it_compiles():
    assert last_line(60, []) == "training  ╺                     0/400  compiling"


def test_speed_and_map_are_shown_once_they_are_known():
    baseline = {name: LOSSES[name] for name in ("loss", "loss_video", "loss_attention")}
    line = last_line(200, [(10, baseline, [None], [None])], title="1 of 2: [b] seed 3")
    assert line == (
        "1 of 2: [b] seed 3  ╺                     10/400  loss 4.000 (video 0.500 att 0.250)  - steps/s"
    )


def test_every_term_of_the_objective_has_a_place():
    metrics = {"loss": 1.0} | {term.metric: 2.0 for term in LOSS_TERMS}
    line = last_line(400, [(10, metrics, [None], [None])])
    assert f"({' '.join(f'{term.short} 2.000' for term in LOSS_TERMS)})" in line


def test_of_many_seeds_the_means_are_shown():
    metrics = {name: np.array([value - 0.25, value + 0.25]) for name, value in METRICS.items()}
    line = last_line(115, [(10, metrics, [0.25, 0.5], [0.5, 0.75])])
    assert line == f"training  10/400  loss 4.000 {TERMS}  - steps/s  mAP 37.5 best 62.5 %"


def test_speed_is_a_mean_over_the_last_chunks():
    chunks = [(10 * i, LOSSES, [None], [None]) for i in range(1, 31)]
    times = [1.0 * i for i in range(20)] + [19.0 + 5.0 * i for i in range(1, 11)]
    # From chunk 10, which ends after 9 s, to chunk 30, which ends after 69 s.
    line = last_line(60, chunks, times=times)
    assert line.split("  ")[-2:] == [f"{200 / 60:.1f} steps/s", "0:00:30 left"]


def test_the_last_evaluation_does_not_change_the_speed():
    chunks = [(390, LOSSES, [0.5], [0.5]), (400, LOSSES, [0.5], [0.5]), (400, LOSSES, [0.25], [0.5])]
    line = last_line(80, chunks, times=[0.0, 1.0])
    assert line == "training  400/400  loss 4.000  10.0 steps/s  mAP 25.0 best 50.0 %  0:00:00 left"


@pytest.mark.parametrize("forced", [False, True])
def test_a_file_gets_no_line(monkeypatch, forced):
    if forced:  # colours may be, the line is not
        monkeypatch.setenv("FORCE_COLOR", "1")
    log = io.StringIO()
    with progress_line(Console(file=log), "training", 0, 400) as show:
        show(10, METRICS, [0.25], [0.5])
    assert log.getvalue() == ""


def test_a_narrator_prints_lines_as_they_are():
    log = io.StringIO()
    narrator = ConsoleNarrator(Console(file=log, soft_wrap=True, markup=False))
    narrator.say("step 3 [best]")
    with narrator.busy("reading"), narrator.progress("training", 0, 400) as show:
        show(10, METRICS, [0.25], [0.5])
    assert log.getvalue() == "step 3 [best]\n"


def test_a_pipe_gets_lines_and_nothing_that_moves(trained):
    """It gets the description, the evaluations and the table."""
    assert all(line.isprintable() for line in trained.stdout.split("\n"))
    beginnings = [line.split()[0] if line else "" for line in trained.stdout.split("\n")]
    assert beginnings == [
        *("training:", "test:", "2", "model:"),
        *("step", "step", "step"),
        *("mAP", beginnings[8], "last", "best", ""),
        *("warning:", ""),  # after 6 steps it has not learnt anything yet
    ]
    assert set(beginnings[8]) == {"-"}


@pytest.mark.slow
def test_a_terminal_gets_the_line_and_an_interruption_ends_it(small_dataset, tmp_path, environment):
    flags = [f"--data_dir={small_dataset}", f"--workdir={tmp_path}", *SMALL]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        interruptible("-m", "experiments.thumos", *flags, "--num_steps=42000"),
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
    os.close(master)
    assert process.wait(timeout=60) == 130
    number = r"\d+\.\d{3}"
    terms = " ".join(f"{term.short} {number}" for term in LOSS_TERMS)
    assert re.search(
        rf"training  [━╺ ]{{20}}  \d+/42000  loss {number} \({terms}\)  \d+\.\d steps/s  "
        r"mAP \d+\.\d best \d+\.\d %  \d+:\d\d:\d\d left",
        ESCAPE.sub("", written),
    )
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # the cursor is shown again
    *_, before, last, rest = re.split(r"\r?\n", ESCAPE.sub("", written))
    assert re.fullmatch(r"interrupted at step \d+ of 42000: saved; the same command goes on", last)
    assert "left" in before
    assert rest == ""


def _read(terminal: int, *, until: str | None) -> str:
    """Reads a terminal up to some text, or until no process writes to it any more."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    written = ""
    with contextlib.suppress(OSError):  # a terminal ends with this error
        while until is None or until not in written:
            data = os.read(terminal, 1 << 16)
            if not data:
                break
            written += decoder.decode(data)
    return written
