"""The label that is never a class.

THUMOS14 marks intervals with it in which nobody can say whether an action is on: they are neither action nor
background. Taken for a class, it would be trained, detected and scored as one.
"""

__all__ = ["AMBIGUOUS", "is_ambiguous"]

AMBIGUOUS = "Ambiguous"


def is_ambiguous(label: str) -> bool:
    """Whether a label marks an interval as ambiguous, however it is capitalised.

    Example:
        >>> is_ambiguous("Ambiguous"), is_ambiguous("ambiguous "), is_ambiguous("AmbiguousJump")
        (True, True, False)
    """
    return label.strip().casefold() == AMBIGUOUS.casefold()
