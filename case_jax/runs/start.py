"""Where a training begins or goes on: the latest step that all seeds of it have saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
from jax.sharding import Mesh

from case_jax.errors import InputError
from case_jax.runs import interrupted
from case_jax.runs.checkpoints import CheckpointStore
from case_jax.runs.narrator import Narrator
from case_jax.training import parallel
from case_jax.training.state import TrainState, stack_seeds

if TYPE_CHECKING:
    from case_jax.runs.run import Run

__all__ = ["Start", "find_start"]


class Start(NamedTuple):
    """Where training goes on."""

    state: TrainState  # of all seeds, on every device
    step: int  # steps that the state has taken
    evaluated: int  # the latest step that all seeds have evaluated, at most ``step``; 0 for none


def find_start(
    runs: Sequence[Run], stores: Sequence[CheckpointStore], mesh: Mesh, narrator: Narrator
) -> Start:
    """The latest step that all runs have saved, evaluated or interrupted.

    Args:
        runs: seeds that train together.
        stores: of their evaluated checkpoints.
        mesh: devices to put the state on.
        narrator: is told of each checkpoint that cannot be used.

    Raises:
        InputError: if some runs have trained and others have not, or no checkpoint can be restored.
    """
    furthest = max(store.latest_step or 0 for store in stores)
    common = set.intersection(*(set(store.steps) for store in stores))
    # Seeds that were interrupted in their first evaluation start anew, and come to the same result.
    if not common and furthest > runs[0].settings.eval_every:
        behind = next(run for run, store in zip(runs, stores) if furthest not in store.steps)
        raise InputError(
            f"{behind.workdir.path}: is not as far as the other seeds ({furthest} steps); expected seeds "
            "that began together, or to train it by itself, with a --workdir of its own"
        )
    fresh = [parallel.replicate(run.settings.fresh_state(), mesh) for run in runs]
    evaluated = max(common, default=0)
    start = _interrupted(runs, fresh, furthest, evaluated, narrator)
    if start is None:
        states, evaluated = _restore_evaluated(stores, sorted(common, reverse=True), fresh, narrator)
        start = Start(_stacked(states), evaluated, evaluated)
    return start


def _interrupted(
    runs: Sequence[Run], fresh: Sequence[TrainState], furthest: int, evaluated: int, narrator: Narrator
) -> Start | None:
    """The latest interrupted state after all evaluations that can be restored, if there is one."""
    steps = set.intersection(*(set(interrupted.saved_steps(run.workdir)) for run in runs))
    for step in sorted(steps, reverse=True):
        if not furthest < step <= runs[0].settings.config.num_steps:
            continue
        try:
            states = [
                interrupted.restore(run.workdir, state, step, evaluated) for run, state in zip(runs, fresh)
            ]
            return Start(_stacked(states), step, evaluated)
        except InputError as error:
            narrator.say(f"not used: {error}")
    return None


def _restore_evaluated(
    stores: Sequence[CheckpointStore],
    steps: Sequence[int],
    fresh: Sequence[TrainState],
    narrator: Narrator,
) -> tuple[Sequence[TrainState], int]:
    """The states of the latest of some steps that can be restored, and that step.

    Damaged checkpoints are set aside, unless all are damaged.

    Returns:
        The fresh states and 0 where there are no steps.

    Raises:
        InputError: if all checkpoints are damaged.
    """
    damaged: list[tuple[CheckpointStore, int, InputError]] = []
    for step in steps:
        states = []
        for store, state in zip(stores, fresh):
            try:
                states.append(store.restore(state, step))
            except InputError as error:
                damaged.append((store, step, error))
                break
        if len(states) < len(fresh):
            if jax.process_count() > 1:  # other processes may have restored it
                break
            continue
        for store, broken, reason in damaged:
            narrator.say(f"not used: {reason}; kept as {store.set_aside(broken)}")
        return states, step
    if damaged:
        raise damaged[0][2]
    return fresh, 0


def _stacked(states: Sequence[TrainState]) -> TrainState:
    return states[0] if len(states) == 1 else stack_seeds(states)
