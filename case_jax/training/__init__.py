"""Training: the state, one pure step, the loop over chunks of steps, and batches divided over devices."""

from case_jax.training.loop import Chunk, NonFiniteLossError, TrainingSet, fit, train_chunk
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
