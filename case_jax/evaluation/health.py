"""The health of a run without annotations: whether attention and classes have found the same thing.

Separate branches learn them, so they agree only where both have found the actions. `Health.agreement` says
how much, and ranks runs on the same videos. `Health.collapsed` tells runs whose attention has settled on
something else. docs/plus.md has the runs from which both were chosen.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["MIN_CERTAINTY", "MIN_SEPARATION", "Health", "measure_health"]

# A run has collapsed if both are lower. Of videos that are hard to tell apart, only one of them may be.
MIN_SEPARATION = 0.12
MIN_CERTAINTY = 0.6


class Health(NamedTuple):
    """What videos tell about a run without their annotations."""

    separation: float  # in [-1, 1]: by how much the video's classes are likelier in the foreground
    agreement: float  # covariance over snippets of P^A and the probability of the video's classes
    foreground: float  # in [0, 1]: share of the snippets whose P^A is above 1/2
    certainty: float  # in [0, 1]: mean of the videos' highest scores

    @property
    def collapsed(self) -> bool:
        """Whether the attention has settled on something else than the actions."""
        return self.separation < MIN_SEPARATION and self.certainty < MIN_CERTAINTY

    def in_words(self) -> str:
        """A line that says what was seen of a collapsed run, and what to try."""
        return (
            "seems to have collapsed: its classes are hardly likelier in the foreground than in the "
            f"background (separation {self.separation:.2f}, of runs that work {MIN_SEPARATION:g} or more), "
            f"and no class is likely in most videos (highest score {self.certainty:.2f} on average, of runs "
            f"that work {MIN_CERTAINTY:g} or more); {100 * self.foreground:.0f} % of the snippets are "
            "foreground; try the settings of case_plus.flags, which start from evidence, or several seeds "
            "(--num_seeds=5 --keep=healthiest)"
        )


def measure_health(
    separation: npt.ArrayLike | None, attention: npt.ArrayLike, video: npt.ArrayLike
) -> Health | None:
    """The health of a run, from what it says about videos; their annotations are not used.

    Args:
        separation: (V,) float, see `case_jax.method.scores.separation`; None where a single class leaves
            nothing to compare.
        attention: (V, T) float P^A.
        video: (V, G) float video scores. A video that shows no action, by a background class, counts less.

    Returns:
        `Health`; None without ``separation``.

    Example:
        >>> measure_health([0.4, 0.2], [[0.9, 0.1], [0.8, 0.7]], [[1.0, 0.0], [0.5, 0.5]])
        Health(separation=0.3, agreement=0.06875, foreground=0.75, certainty=0.75)
    """
    if separation is None:
        return None
    separation, video = np.asarray(separation, np.float64), np.asarray(video, np.float64)
    attention = np.asarray(attention)
    mean = attention.mean(axis=1, dtype=np.float64)
    shown = max(float(video.sum()), 1e-9)  # the number of videos, less those that show no action
    values = (
        separation.sum() / shown,
        # The covariance with weights w is the difference of the means by w and by 1 - w, times the mean of
        # w and that of 1 - w.
        (separation * mean * (1 - mean)).sum() / shown,
        (attention > 0.5).mean(),
        video.max(axis=1).mean(),
    )
    return Health(*(round(float(value), 6) for value in values))
