"""A run: settings, a data set, and the folder in which it trains, resumes and is evaluated."""

import dataclasses
import os
from collections.abc import Sequence

from case_jax.config import CaseConfig
from case_jax.data.dataset import Dataset, without_action_free
from case_jax.data.feature_files import FeatureFiles
from case_jax.data.load import load_dataset
from case_jax.data.synthetic import make_synthetic_dataset
from case_jax.errors import InputError
from case_jax.evaluator import Evaluator
from case_jax.runs.hardware import Hardware
from case_jax.runs.narrator import Narrator
from case_jax.runs.outcome import Outcome, evaluate_run
from case_jax.runs.settings import EVAL_EVERY, SYNTHETIC, TIOU, RunSettings
from case_jax.runs.train import train
from case_jax.runs.training_features import check_features
from case_jax.runs.workdir import Workdir
from case_jax.training.loop import NonFiniteLossError

__all__ = ["Run", "check_batch", "place_of_data", "read_data"]


def read_data(
    data: str | os.PathLike, config: CaseConfig, *, in_memory: bool = True, strict: bool = False
) -> Dataset:
    """Reads the data set of a run.

    Args:
        data: a folder in the layout of THUMOS14 or ActivityNet, or `SYNTHETIC` for the embedded data set.
        config: its ``feature_dtype`` is that of features in memory; ``action_free="leave_out"`` leaves out
            the videos without any action.
        in_memory: False to leave the features on disk.
        strict: whether a video's streams have to be equally long; see `load_dataset`.

    Raises:
        InputError: if the data set cannot be read.
    """
    if data == SYNTHETIC:
        return make_synthetic_dataset()
    return load_dataset(
        data,
        in_memory=in_memory,
        dtype=config.feature_dtype,
        action_free=config.action_free != "leave_out",
        strict=strict,
    )


def place_of_data(workdir: Workdir, given: str | os.PathLike | None = None) -> str | os.PathLike:
    """Where a run's data set is: as given, or where it was when the run was trained.

    Raises:
        InputError: if neither is known, or there is no run.
    """
    place = given or workdir.settings().data
    if place is None:
        raise InputError(f"--data_dir: is missing; expected the data set of {workdir.path}")
    return place


@dataclasses.dataclass(frozen=True)
class Run:
    """One seed of one training, from its first step to its evaluation.

    Everything that a run produces is in its workdir, so that it can be interrupted and resumed at any time:
    begin it again with the same settings, or open it.

    Attributes:
        settings: all that the run follows from, besides the features.
        workdir: its folder, which holds these settings.
        dataset: what it trains and tests on.

    Example:
        >>> import tempfile
        >>> config = CaseConfig(num_snippets=16, hidden_dim=4, num_clusters=2, batch_size=8, num_steps=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = Run.begin(folder, config, "synthetic", eval_every=2)
        ...     again = Run.open(folder)  # then run.train() and run.evaluate()
        >>> again.settings == run.settings, len(again.dataset.train.videos)
        (True, 96)
    """

    settings: RunSettings
    workdir: Workdir
    dataset: Dataset

    @classmethod
    def begin(
        cls,
        folder: str | os.PathLike,
        config: CaseConfig,
        data: Dataset | str | os.PathLike,
        *,
        seed: int = 0,
        eval_every: int = EVAL_EVERY,
        tiou: Sequence[float] = TIOU,
    ) -> "Run":
        """Begins a run, or goes on with the one that a folder holds.

        Args:
            folder: the workdir; made if needed.
            config: hyper-parameters.
            data: the data set, or where it is: a folder in the layout of THUMOS14 or ActivityNet, or
                "synthetic". Only where a path is given, `open` can find the data set again by itself.
            seed: initial parameters, shuffling and sampling follow from it.
            eval_every: steps between evaluations on the test videos.
            tiou: thresholds of mAP, in (0, 1].

        Raises:
            InputError: if the data set cannot be read, has fewer training videos than a batch, or the folder
                holds a run of other settings.
        """
        dataset = data if isinstance(data, Dataset) else read_data(data, config)
        if config.action_free == "leave_out":
            dataset = without_action_free(dataset)
        settings = RunSettings.of(
            config,
            dataset,
            seed=seed,
            eval_every=eval_every,
            tiou=tiou,
            data=None if isinstance(data, Dataset) else _recorded(data),
        )
        check_batch(config, dataset)
        run = cls(settings, Workdir(folder), dataset)
        check_features([run])
        run.workdir.begin(settings)
        return run

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike,
        data: Dataset | str | os.PathLike | None = None,
        *,
        in_memory: bool = True,
    ) -> "Run":
        """Opens the run that a folder holds, with its data.

        Args:
            folder: the workdir.
            data: its data set, or where it is; default where it was when the run was trained.
            in_memory: False to leave the features on disk.

        Raises:
            InputError: if there is no run, or its data set cannot be found or read.
        """
        workdir = Workdir(folder)
        settings = workdir.settings()
        if not isinstance(data, Dataset):
            data = read_data(place_of_data(workdir, data), settings.config, in_memory=in_memory)
        return cls(settings, workdir, data)

    def train(self, hardware: Hardware | None = None, narrator: Narrator | None = None) -> None:
        """Trains to ``num_steps``, from where the workdir is; see `case_jax.runs.train.train`.

        Args:
            hardware: devices and worker processes; default all devices, without worker processes.
            narrator: is told how far training is; default nobody.

        Raises:
            InputError: if another training is writing to the workdir, no checkpoint can be restored, or a
                loss is not finite.
            Interrupted: by Ctrl-C or SIGTERM; what was trained is saved.
        """
        if hardware is None:
            hardware = Hardware.of(self.settings.config.batch_size, on_device=self.in_memory)
        try:
            train([self], hardware, narrator or Narrator())
        except NonFiniteLossError as error:
            raise self.not_finite(error) from None

    def evaluate(self) -> Outcome:
        """Evaluates the last and the best checkpoint on the test videos.

        Raises:
            InputError: if there is no checkpoint, or the data set does not fit the run.
        """
        with Evaluator(
            self.dataset.test, self.dataset.info, self.settings.config, on_device=self.in_memory
        ) as evaluator:
            return evaluate_run(self, evaluator, tiou=self.settings.tiou)

    def not_finite(self, error: NonFiniteLossError) -> InputError:
        """The error of training as bad input: it names the learning rate and the batch's videos."""
        return InputError(f"--learning_rate: is {self.settings.config.learning_rate}; {self.named(error)}")

    def named(self, error: NonFiniteLossError) -> str:
        """An error's message with the names of the batch's videos."""
        return error.with_names([video.name for video in self.dataset.train.videos])

    @property
    def in_memory(self) -> bool:
        """Whether the features are in memory, rather than on disk."""
        return not isinstance(self.dataset.test.videos[0].features, FeatureFiles)


def check_batch(config: CaseConfig, dataset: Dataset) -> None:
    """Rejects batches that are larger than the training split.

    Raises:
        InputError: if there are fewer training videos than a batch holds.
    """
    if len(dataset.train.videos) < config.batch_size:
        raise InputError(
            f"--batch_size: is {config.batch_size}; expected at most the {len(dataset.train.videos)} "
            "training videos"
        )


def _recorded(data: str | os.PathLike) -> str:
    """How the settings name a data set's place: a whole path, or `SYNTHETIC`."""
    return SYNTHETIC if data == SYNTHETIC else os.path.abspath(data)
