"""What a data set is to the rest of the code, whichever way it was read or made."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from case_jax.data.feature_files import video_length
from case_jax.data.info import DatasetInfo
from case_jax.data.packed import DTYPES, PackedFeatures, pack

__all__ = ["Annotation", "Dataset", "Split", "Video", "as_entries", "hold_out", "in_action"]


class Annotation(NamedTuple):
    """One action instance."""

    label: str
    start: float  # seconds
    end: float  # seconds


def as_entries(annotations: Sequence[Annotation]) -> list[dict]:
    """Annotations as the {"label", "segment"} entries that detection mAP takes."""
    return [{"label": a.label, "segment": (a.start, a.end)} for a in annotations]


def in_action(annotations: Sequence[Annotation], seconds: np.ndarray) -> np.ndarray:
    """(N,) bool: whether an annotated action is on at each of (N,) seconds."""
    on = np.zeros(len(seconds), bool)
    for annotation in annotations:
        on |= (annotation.start <= seconds) & (seconds < annotation.end)
    return on


class Video(NamedTuple):
    """One untrimmed video."""

    name: str
    features: Mapping[str, np.ndarray]  # stream -> (T_v, D), float32 unless asked for otherwise
    annotations: tuple[Annotation, ...]  # of test videos for scoring; of training videos only labels are used
    duration: float | None = None  # seconds that rescaled features cover

    @property
    def num_snippets(self) -> int:
        """T_v."""
        return video_length(self.features)

    def seconds(self, info: DatasetInfo) -> float:
        """How long the features last, T_v snippets together."""
        if self.duration is not None:
            return self.duration
        if info.rescaled:
            raise ValueError(f"video {self.name!r}: rescaled features need the video's duration")
        return self.num_snippets * info.seconds_per_snippet


@dataclasses.dataclass(frozen=True)
class Split:
    """Videos that train, or videos that test."""

    subset: str
    videos: tuple[Video, ...]
    packed: PackedFeatures | None = None  # where the videos' features lie together, if they do
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)  # why -> how many

    @property
    def population(self) -> str:
        """How many videos and instances there are, and what was left out."""
        said = f"{len(self.videos):,} videos with {self.num_instances:,} instances"
        reasons = ", ".join(f"{count:,} {why}" for why, count in self.left_out.items() if count)
        return f"{said} (left out: {reasons})" if reasons else said

    @property
    def num_instances(self) -> int:
        """Annotated action instances in all videos."""
        return sum(len(video.annotations) for video in self.videos)

    def pack(self, streams: Sequence[str], dtype: str = "float32") -> PackedFeatures:
        """The features of all videos in one array per stream; a copy only if they do not lie so already."""
        packed = self.packed
        if packed is not None and all(packed.rows[name].dtype == DTYPES[dtype] for name in streams):
            return packed
        return pack([video.features for video in self.videos], streams, dtype)

    def video_labels(self, classes: Sequence[str]) -> np.ndarray:
        """(V, G) float32 multi-hot labels Y: all that training sees of the annotations."""
        index = {name: i for i, name in enumerate(classes)}
        labels = np.zeros((len(self.videos), len(classes)), np.float32)
        for row, video in zip(labels, self.videos):
            row[[index[a.label] for a in video.annotations]] = 1
        return labels

    def database(self, subset: str, info: DatasetInfo) -> dict[str, dict]:
        """Video name -> what ActivityNet's annotation files say of it."""
        return {
            video.name: {
                "subset": subset,
                "duration": video.seconds(info),
                "annotations": as_entries(video.annotations),
            }
            for video in self.videos
        }

    def ground_truth(self) -> dict[str, list[dict]]:
        """Video name -> [{"label", "segment"}], as `case_jax.evaluation.mean_average_precision` takes it."""
        return {video.name: as_entries(video.annotations) for video in self.videos}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Training and test videos with their facts."""

    info: DatasetInfo
    train: Split
    test: Split

    @property
    def stream_widths(self) -> dict[str, int]:
        """Stream name -> D."""
        features = (self.train.videos or self.test.videos)[0].features
        return {name: features[name].shape[1] for name in self.info.streams}


def hold_out(dataset: Dataset, groups: Sequence[str], part: int, num_parts: int) -> Dataset:
    """A data set to choose settings on: a part of the training split stands in for the test split.

    Args:
        dataset: whose training videos are annotated.
        groups: one name per training video; videos of one group (a person, a camera) stay together.
        part: which part, from 0 on.
        num_parts: of how many, at least 2 and at most as many as there are groups. Groups are dealt out in an
            order that is always the same, so that the parts are disjoint and together are all of them.

    Returns:
        `Dataset` that trains on the other parts; the test split is left out.

    Example:
        >>> names = ("ann_1", "ann_2", "bob_1")
        >>> train = Split("train", tuple(Video(name, {}, ()) for name in names))
        >>> whole = Dataset(DatasetInfo(("Jump",)), train, Split("test", ()))
        >>> for part in range(2):
        ...     print([video.name for video in hold_out(whole, ["ann", "ann", "bob"], part, 2).test.videos])
        ['ann_1', 'ann_2']
        ['bob_1']
    """
    order = np.random.default_rng(0).permutation(sorted(set(groups)))
    held = set(order[part::num_parts].tolist())
    inside = [group in held for group in groups]

    def take(wanted: bool) -> tuple[Video, ...]:
        return tuple(video for video, is_held in zip(dataset.train.videos, inside) if is_held == wanted)

    info = dataset.info
    return Dataset(info, Split(info.train_subset, take(False)), Split(info.test_subset, take(True)))
