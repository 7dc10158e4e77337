"""Settings of the second stage."""

import dataclasses
import math

from case_jax.errors import InputError

__all__ = ["RefinementConfig"]


@dataclasses.dataclass(frozen=True)
class RefinementConfig:
    """How the second stage is trained. docs/plus.md tells how the defaults were chosen.

    Raises:
        InputError: if a value is out of range.
    """

    hidden_dim: int = 128  # H, width of the only hidden layer
    num_steps: int = 250  # steps of training
    batch_size: int = 12  # videos in a batch, at most all of them
    learning_rate: float = 2e-3  # highest; it rises for a tenth of the steps and falls as a cosine
    weight_decay: float = 0.02  # decoupled (AdamW)
    dropout: float = 0.5  # of the hidden layer
    input_dropout: float = 0.4  # of the features, the same ones for all proposals of a video
    average: float = 0.98  # of the weights, a moving average over steps, which is what is used
    num_proposals: int = 80  # of a training video, at most
    flank: float = 0.25  # length of a proposal's flanks, in lengths of the proposal
    surest: float = 0.5  # pseudo-instances score at least this part of their class's best in the video
    unsure_weight: float = 0.3  # of proposals of a video's classes that no pseudo-instance supports

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole = field.type in (int, "int")
            if whole and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"--{field.name}: is {value!r}; expected a whole number, 1 or more")
            if not whole and not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise InputError(f"--{field.name}: is {value!r}; expected a finite number, 0 or more")
        for name in ("dropout", "input_dropout", "average"):
            if getattr(self, name) >= 1:
                raise InputError(f"--{name}: is {getattr(self, name)!r}; expected less than 1")
