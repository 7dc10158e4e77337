"""Shows a run on a console: its messages, and on a terminal one line that says how far training is."""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from case_jax.method.objective import LOSS_TERMS
from case_jax.runs.narrator import Narrator, Show

__all__ = ["ConsoleNarrator", "progress_line", "videos_bar"]

_BAR = 20  # characters
_CHUNKS = 20  # the speed is a mean over so many of the last chunks of steps


class ConsoleNarrator(Narrator):
    """Prints what a run says on a console.

    Attributes:
        console: where to print.
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
        """Shows a text until the context ends, if the console is a terminal."""
        return self.console.status(Text(text))


@contextlib.contextmanager
def progress_line(
    console: Console, title: str, step: int, num_steps: int, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Show]:
    """Shows one line while the context lasts, if the console is a terminal; otherwise nothing at all.

    Args:
        console: where to show the line.
        title: the beginning of the line.
        step: steps taken before.
        num_steps: steps in all.
        clock: returns the time, in seconds.

    Yields:
        A function to call after every chunk of steps, with the arguments that `Show` describes. Of many seeds
        trained together, the line shows mean metrics and mean mAP.
    """
    with Progress(_Line(console), console=console, disable=not _is_terminal(console)) as progress:
        known: dict = {"losses": {}, "last": None, "best": None, "speed": None}
        task = progress.add_task(title, total=num_steps, completed=step, **known)
        # The first chunk includes compilation, so the speed is counted from its end.
        ends: collections.deque[tuple[int, float]] = collections.deque(maxlen=_CHUNKS + 1)  # step, time

        def show(
            step: int,
            metrics: Mapping[str, float | np.ndarray],
            last: Sequence[float | None],
            best: Sequence[float | None],
        ) -> None:
            if not ends or ends[-1][0] != step:  # an evaluation shows the same step once more
                ends.append((step, clock()))
            (first_step, began), (last_step, ended) = ends[0], ends[-1]
            progress.update(
                task,
                completed=step,
                losses={name: float(np.mean(v)) for name, v in metrics.items() if name.startswith("loss")},
                last=_mean(last),
                best=_mean(best),
                speed=(last_step - first_step) / (ended - began) if ended > began else None,
            )

        yield show


def videos_bar(console: Console, num_videos: int) -> tuple[Progress, TaskID]:
    """A bar that counts videos, with a rate and the time left, for a context; hidden unless on a terminal.

    Args:
        console: where to show it.
        num_videos: how many there are.

    Returns:
        The bar and its only task, whose field ``rate`` is text, at first "compiling".
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, disable=not _is_terminal(console))
    return bar, bar.add_task("videos", total=num_videos, rate="compiling")


def _is_terminal(console: Console) -> bool:
    return console.is_interactive and console.file.isatty()


class _Line(ProgressColumn):
    """The whole line; a narrow terminal shows less of it."""

    def __init__(self, console: Console):
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Text:
        # From the fullest form to the shortest. If even the shortest is too wide, it is cut.
        for bar, terms, named in ((1, 1, 1), (0, 1, 1), (0, 1, 0), (0, 0, 1), (0, 0, 0)):
            parts = [task.description if named else "", _bar(task) if bar else ""]
            parts += [f"{int(task.completed)}/{_total(task)}", *_figures(task, terms=bool(terms))]
            line = "  ".join(part for part in parts if part)
            if len(line) < self._console.width:
                break
        return Text(line, no_wrap=True, overflow="ellipsis")


def _figures(task: Task, *, terms: bool) -> list[str]:
    """Losses, speed, mAP and the time left, as far as they are known."""
    losses, last, best, speed = (task.fields[name] for name in ("losses", "last", "best", "speed"))
    if not losses:
        return ["compiling"]
    shown = [f"{term.short} {losses[term.metric]:.3f}" for term in LOSS_TERMS if term.metric in losses]
    figures = [f"loss {losses['loss']:.3f}" + (f" ({' '.join(shown)})" if terms else "")]
    figures.append(f"{speed:.1f} steps/s" if speed else "- steps/s")
    if last is not None:
        figures.append(f"mAP {100 * last:.1f} best {100 * best:.1f} %")
    if speed:
        left = round((_total(task) - task.completed) / speed)  # seconds
        figures.append(f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left")
    return figures


def _bar(task: Task) -> str:
    done = round(_BAR * task.completed / _total(task))
    return ("━" * done + "╺" * (done < _BAR)).ljust(_BAR)


def _total(task: Task) -> int:
    """Steps in all; `progress_line` always knows them."""
    return int(task.total or 0)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
