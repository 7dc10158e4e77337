"""What the doctor finds: one kind of oddity, how often it is there, and the first example."""

from typing import NamedTuple

__all__ = ["SPLITS", "Counter", "Finding"]

SPLITS = ("train", "test")


class Finding(NamedTuple):
    """One kind of oddity that was looked for."""

    what: str
    counts: dict[str, int]  # "train" and "test" -> how many were found
    example: str  # the first one; "" if there is none
    then: str  # what training and evaluation do about it
    fatal: bool = False  # whether training refuses a data set that has any

    @property
    def total(self) -> int:
        """How many were found in both splits."""
        return sum(self.counts.values())


class Counter:
    """Counts one kind of oddity, and remembers the first.

    Attributes:
        what, then, fatal, counts, example: as those of the `Finding`.
    """

    def __init__(self, what: str, then: str, *, fatal: bool = False):
        self.what, self.then, self.fatal = what, then, fatal
        self.counts = dict.fromkeys(SPLITS, 0)
        self.example = ""

    def add(self, split: str, example: str) -> None:
        """Counts one in a split, "train" or "test"."""
        self.example = self.example or example
        self.counts[split] += 1

    def finding(self) -> Finding:
        """All that were counted."""
        return Finding(self.what, self.counts, self.example, self.then, self.fatal)
