"""Saving and restoring training states with Orbax.

A checkpoint holds the whole `TrainState`. The settings, classes, streams and time of a snippet that belong to
it are in the workdir's `config.json`; see `case_jax.runs.workdir`.
"""

import contextlib
import errno
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from case_jax.data.files import writing
from case_jax.errors import InputError
from case_jax.runs.plain_paths import plain_path
from case_jax.training.state import TrainState

__all__ = ["CheckpointStore"]


class CheckpointStore:
    """The checkpoints of one run: the latest two, and the one of the highest quality.

    Use it as a context manager, which waits at its end for saves that are still being written.

    Attributes:
        folder: the folder that holds a folder per checkpoint, named by its step.
    """

    def __init__(self, folder: str | os.PathLike, *, read_only: bool = False):
        """Opens a store.

        Args:
            folder: the folder of the checkpoints; made if needed, unless ``read_only``.
            read_only: write nothing; `save` has no effect.

        Raises:
            InputError: if the metrics of a checkpoint cannot be read.
        """
        self.folder = Path(folder).absolute()
        self._closing = contextlib.ExitStack()
        if not read_only:
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
        self._place = self._closing.enter_context(plain_path(self.folder))  # the folder as Orbax can take it
        policies = checkpoint_managers
        options = ocp.CheckpointManagerOptions(
            create=not read_only,
            read_only=read_only,
            save_interval_steps=0 if read_only else 1,
            best_fn=_quality,  # without it, Orbax does not store metrics
            # Orbax's "keep the best N" alone would delete the latest step, so that a resume would go back.
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(2),
                    policies.BestN(get_metric_fn=_quality, n=1, keep_checkpoints_without_metrics=False),
                ]
            ),
            cleanup_tmp_directories=not read_only,  # left by a process that was killed while it saved
        )
        with _unwarned() if read_only else contextlib.nullcontext():
            try:
                self._manager = ocp.CheckpointManager(self._place, options=options)
            except ValueError as error:  # Orbax reads the metrics of all checkpoints here
                self._closing.close()
                raise InputError(
                    f"{self.folder}: cannot be read ({self._reason(error)}); expected checkpoints of a "
                    "training"
                ) from None

    def __enter__(self) -> "CheckpointStore":
        """Returns the store."""
        return self

    def __exit__(self, *exception) -> None:
        """Waits for saves and closes.

        Raises:
            InputError: if the last save could not be written.
        """
        with self._closing:
            try:
                self.wait()
            finally:
                with self._writing():  # Orbax writes metadata last
                    self._manager.close()

    def save(self, state: TrainState, *, quality: float | None = None) -> None:
        """Saves a state in the background, unless a later state is saved already.

        Args:
            state: the state to save.
            quality: by which the best checkpoint is kept: its average mAP in [0, 1], or how healthy it is;
                None if it is not known, which counts as the worst.

        Raises:
            InputError: if this state, or the one saved before, could not be written.
        """
        with self._writing():  # Orbax waits here for the save before
            self._manager.save(
                int(state.step),
                args=ocp.args.StandardSave(_tree(state)),
                metrics=None if quality is None else {"average": quality, "step": int(state.step)},
            )

    def wait(self) -> None:
        """Waits until every saved state is on disk.

        Raises:
            InputError: if one could not be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Orbax raises exceptions of many kinds
            if _is_lack_of_memory(error):
                raise
            raise InputError(
                f"{self.folder}: cannot be written ({self._reason(error)}); expected a folder with room in it"
            ) from error

    @property
    def steps(self) -> list[int]:
        """Steps of all checkpoints, rising."""
        return list(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """Step of the latest checkpoint; None without checkpoints."""
        return self._manager.latest_step()

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint of the highest quality, the earliest of equals; None if there is none.

        Raises:
            InputError: if the metrics of a checkpoint are damaged.
        """
        quality = {step: _quality(self._metrics(step)) for step in self._manager.all_steps()}
        return max(quality, key=quality.__getitem__, default=None)

    def _metrics(self, step: int) -> Mapping[str, float] | None:
        """The metrics saved with a checkpoint; None if it was saved without its quality.

        Raises:
            InputError: if they are damaged.
        """
        try:
            metrics = self._manager.metrics(step)
            _quality(metrics)
        except Exception as error:  # the reader and the content raise exceptions of many kinds
            raise InputError(
                f"{self.folder / str(step) / 'metrics'}: cannot be read ({self._reason(error)}); expected "
                "the quality of this step"
            ) from None
        return metrics

    def _reason(self, error: Exception) -> str:
        """The beginning and the end of Orbax's message, which say what it was doing and why it failed.

        Too many open files are told by that alone, of which TensorStore speaks in the middle.
        """
        if os.strerror(errno.EMFILE) in str(error):
            return os.strerror(errno.EMFILE)
        text = " ".join(str(error).split()).replace(str(self._place), str(self.folder))
        text = text or type(error).__name__
        return text if len(text) <= 160 else f"{text[:75]} ... {text[-80:]}"

    def set_aside(self, step: int) -> Path:
        """Moves a damaged checkpoint out of the store, to beside it, where it can be examined.

        Args:
            step: step of the checkpoint.

        Returns:
            Its new folder.
        """
        number = 0
        while (kept := self.folder.parent / f"damaged_{step}{f'_{number}' if number else ''}").exists():
            number += 1
        (self.folder / str(step)).rename(kept)
        self._manager.reload()
        return kept

    def restore(self, template: TrainState, step: int) -> TrainState:
        """Reads a checkpoint.

        Args:
            template: a state of the same config and shapes, for example a fresh one; the checkpoint is
                restored to its devices.
            step: step of the checkpoint.

        Returns:
            The state.

        Raises:
            InputError: if the checkpoint does not exist, is damaged, or has other shapes.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _tree(template))
        try:
            # Shapes are compared first, because TensorStore's threads would print about them, at any time.
            stored = ocp.StandardCheckpointHandler().metadata(self._place / str(step) / "default").tree
            for name in ("params", "cluster_labels", *(("scorer",) if "scorer" in target else ())):
                shapes = jax.tree.map(lambda array: tuple(array.shape), stored[name])
                expected = jax.tree.map(lambda array: tuple(array.shape), target[name])
                if shapes != expected:
                    raise ValueError(f"{name} are of other shapes")
            tree = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as error:  # Orbax raises exceptions of many kinds
            if _is_lack_of_memory(error):
                raise
            raise InputError(
                f"{self.folder / str(step)}: cannot be restored ({self._reason(error)}); expected a "
                "checkpoint of this run's settings"
            ) from error
        return template.replace(**{**tree, "key": _key_like(template.key, tree["key"])})


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Silences Orbax's warnings that a store which is opened for reading cannot be written."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether memory is short, which says nothing about a checkpoint."""
    return isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def _key_like(key: jax.Array, data: jax.Array) -> jax.Array:
    """A key of the same algorithm as another one."""
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def _quality(metrics: Mapping[str, float] | None) -> tuple[float, float]:
    """Orders checkpoints: the earlier of equals is better; without metrics, the worst.

    "average" is the quality's name on disk, where it is the average mAP of most runs.
    """
    if metrics is None:
        return -math.inf, 0.0
    return float(metrics["average"]), -int(metrics["step"])


def _tree(state: TrainState) -> dict:
    """The arrays of a state, under the names that they have on disk."""
    return {
        "step": state.step,
        "params": state.params,
        "opt_state": state.opt_state,
        "key": jax.random.key_data(state.key),
        "cluster_labels": state.cluster_labels,
        **({} if state.scorer is None else {"scorer": state.scorer}),
    }
