"""What a run tells, on a terminal: lines of their own, and one line that says how far training is."""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.text import Text

from case_jax.runs.narrator import Narrator, Show

__all__ = ["ConsoleNarrator", "progress_line"]

# metric -> what the line calls it
_TERMS = {
    "loss_video": "video",
    "loss_attention": "att",
    "loss_clustering": "clust",
    "loss_cluster_classification": "class",
}
_BAR = 20  # characters
_REPORTS = 20  # that the speed is a mean over


class ConsoleNarrator(Narrator):
    """Prints what a run tells on a console.

    Attributes:
        console: where.
    """

    def __init__(self, console: Console):
        self.console = console

    def say(self, text: str) -> None:
        """Prints a line."""
        self.console.print(text, highlight=False)

    def progress(self, title: str, step: int, num_steps: int) -> contextlib.AbstractContextManager[Show]:
        """Shows `progress_line`."""
        return progress_line(self.console, title, step, num_steps)

    def busy(self, text: str) -> contextlib.AbstractContextManager:
        """Shows that something takes a while, if the console is a terminal."""
        return self.console.status(Text(text))


@contextlib.contextmanager
def progress_line(
    console: Console, title: str, step: int, num_steps: int, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Show]:
    """Shows one line while the context lasts, if the console is a terminal; otherwise nothing at all.

    Args:
        console: where.
        title: what the line begins with.
        step: steps taken before.
        num_steps: of how many.
        clock: seconds.

    Yields:
        A function to call with the step, the mean metrics of the last steps, and of every seed the average
        mAP of the last evaluation and of the best one so far, in [0, 1] (None before the first one).
        Metrics and mAP of many seeds are shown as their means.
    """
    disable = not (console.is_interactive and console.file.isatty())
    with Progress(_Line(console), console=console, disable=disable) as progress:
        known: dict = {"losses": {}, "last": None, "best": None, "speed": None}
        task = progress.add_task(title, total=num_steps, completed=step, **known)
        # The first report waits for the compiler: speed is counted from there.
        reports: collections.deque[tuple[int, float]] = collections.deque(maxlen=_REPORTS + 1)

        def show(step, metrics, last, best):
            if not reports or reports[-1][0] != step:
                reports.append((step, clock()))
            (first, began), (last_step, now) = reports[0], reports[-1]
            progress.update(
                task,
                completed=step,
                losses={name: float(np.mean(v)) for name, v in metrics.items() if name.startswith("loss")},
                last=_mean(last),
                best=_mean(best),
                speed=(last_step - first) / (now - began) if now > began else None,
            )

        yield show


class _Line(ProgressColumn):
    """The whole line; where the terminal is narrow, less of it."""

    def __init__(self, console: Console):
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        # From the fullest to the shortest; the last one is cut if it must be.
        for bar, terms, named in ((1, 1, 1), (0, 1, 1), (0, 1, 0), (0, 0, 1), (0, 0, 0)):
            parts = [task.description if named else "", _bar(task) if bar else ""]
            parts += [f"{int(task.completed)}/{int(task.total)}", *_figures(task, terms=bool(terms))]
            line = "  ".join(part for part in parts if part)
            if len(line) < self._console.width:
                break
        return Text(line, no_wrap=True, overflow="ellipsis")


def _figures(task: Task, *, terms: bool) -> list[str]:
    """Losses, speed, mAP and the time left, as far as they are known."""
    losses, last, best, speed = (task.fields[name] for name in ("losses", "last", "best", "speed"))
    if not losses:
        return ["compiling"]
    shown = [f"{short} {losses[name]:.3f}" for name, short in _TERMS.items() if name in losses]
    figures = [f"loss {losses['loss']:.3f}" + (f" ({' '.join(shown)})" if terms else "")]
    figures.append(f"{speed:.1f} steps/s" if speed else "- steps/s")
    if last is not None:
        figures.append(f"mAP {100 * last:.1f} best {100 * best:.1f} %")
    if speed:
        left = round((task.total - task.completed) / speed)
        figures.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
    return figures


def _bar(task: Task) -> str:
    done = round(_BAR * task.completed / task.total)
    return ("━" * done + "╺" * (done < _BAR)).ljust(_BAR)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
