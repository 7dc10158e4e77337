"""Training: the state, one pure step, chunks of steps and how they are fed, and the loop over chunks."""

from case_jax.training.feeding import TrainingSet, train_chunk
from case_jax.training.loop import Chunk, NonFiniteLossError, fit
from case_jax.training.state import TrainState, create_train_state, make_optimizer, select_seed, stack_seeds
from case_jax.training.step import train_step

__all__ = [
    "Chunk",
    "NonFiniteLossError",
    "TrainState",
    "TrainingSet",
    "create_train_state",
    "fit",
    "make_optimizer",
    "select_seed",
    "stack_seeds",
    "train_chunk",
    "train_step",
]
