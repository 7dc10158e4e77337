"""What a run tells while it goes on, to whoever wants to show it."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

__all__ = ["Narrator", "Show"]

# Called with the step, the mean metrics of the last steps, and for every seed the average mAP of the last
# evaluation and of the best one so far, in [0, 1] (None before the first evaluation).
Show = Callable[[int, Mapping[str, float | np.ndarray], Sequence[float | None], Sequence[float | None]], None]


class Narrator:
    """Listens to a run and keeps silent. A subclass may print: `case_jax.commands.progress` has one.

    The library never prints by itself; whoever wants to see how far a training is passes a narrator.
    """

    def say(self, text: str) -> None:
        """Takes one line, for example the result of an evaluation."""

    def progress(self, title: str, step: int, num_steps: int) -> contextlib.AbstractContextManager[Show]:
        """Follows a training while the context lasts.

        Args:
            title: what is trained.
            step: steps taken before.
            num_steps: steps in all.

        Returns:
            A context manager that yields `Show`, which is called after every chunk of steps.
        """
        return contextlib.nullcontext(lambda step, metrics, last, best: None)
