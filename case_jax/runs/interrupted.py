"""The state in which a training was interrupted between two evaluations: `interrupted/` in the workdir."""

import shutil

import jax

from case_jax.errors import InputError
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.workdir import Workdir
from case_jax.training.state import TrainState

__all__ = ["forget", "restore", "save", "saved_steps"]


def saved_steps(workdir: Workdir) -> list[int]:
    """Steps at which training was interrupted and saved since the last evaluation."""
    if not workdir.interrupted.is_dir():
        return []
    with CheckpointStore(workdir.interrupted, read_only=True) as store:
        return store.steps


def save(workdir: Workdir, state: TrainState) -> None:
    """Saves a state between evaluations, and waits until it is on disk.

    Raises:
        InputError: if it cannot be written.
    """
    if any(step >= int(state.step) for step in saved_steps(workdir)):
        forget(workdir)  # training did not go on from it, so it was of no use
    with CheckpointStore(workdir.interrupted) as store:
        store.save(state)


def restore(workdir: Workdir, template: TrainState, step: int, evaluated: int) -> TrainState:
    """The state saved at a step between evaluations.

    Args:
        workdir: of the run.
        template: a state of the same config and shapes, for example a fresh one.
        step: which step to restore.
        evaluated: step of the last evaluation before; `history.jsonl` must hold the losses since then.

    Raises:
        InputError: if the state is damaged, or losses are missing.
    """
    with CheckpointStore(workdir.interrupted, read_only=True) as store:
        state = store.restore(template, step)
    steps = [0, *(row["step"] for row in workdir.history())]
    if not {step, evaluated} <= set(steps):
        raise InputError(
            f"{workdir.history_path}: does not lead from step {evaluated} to {step}; expected the losses up "
            f"to {workdir.interrupted / str(step)}"
        )
    return state


def forget(workdir: Workdir) -> None:
    """Removes a state that an evaluated checkpoint has overtaken, or that cannot be restored."""
    if not jax.process_index():
        shutil.rmtree(workdir.interrupted, ignore_errors=True)  # what stays of it is never used again
