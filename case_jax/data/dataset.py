"""A data set as the rest of the code sees it, whether it was read or made."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from case_jax.data.feature_files import video_length
from case_jax.data.info import DatasetInfo
from case_jax.data.packed import DTYPES, PackedFeatures, pack
from case_jax.words import counted

__all__ = [
    "AMBIGUOUS_ONLY",
    "NO_ANNOTATIONS",
    "Annotation",
    "Dataset",
    "Split",
    "Video",
    "as_entries",
    "hold_out",
    "in_action",
    "only_labels",
    "without_action_free",
]

# Reasons for which videos are left out of a split.
NO_ANNOTATIONS = "without annotations"
AMBIGUOUS_ONLY = "with ambiguous actions only"


class Annotation(NamedTuple):
    """One action instance."""

    label: str
    start: float  # seconds
    end: float  # seconds


def as_entries(annotations: Sequence[Annotation]) -> list[dict]:
    """Annotations as the {"label", "segment"} entries (seconds) that detection mAP takes."""
    return [{"label": a.label, "segment": (a.start, a.end)} for a in annotations]


def in_action(annotations: Sequence[Annotation], seconds: np.ndarray) -> np.ndarray:
    """(N,) bool, whether an annotated action is under way at each of N times; ``seconds`` is (N,) float."""
    on = np.zeros(len(seconds), bool)
    for annotation in annotations:
        on |= (annotation.start <= seconds) & (seconds < annotation.end)
    return on


def only_labels(videos: Iterable[Sequence[Annotation]]) -> str | None:
    """The labels that all of some videos have alike, joined by "and"; None if videos differ.

    A video label teaches by the videos that lack it. Where all videos have the same labels, L_V is as low as
    it can be from the first step on.
    """
    labels = {frozenset(a.label for a in annotations) for annotations in videos}
    return " and ".join(sorted(labels.pop())) if len(labels) == 1 else None


class Video(NamedTuple):
    """One untrimmed video."""

    name: str
    features: Mapping[str, np.ndarray]  # stream -> (T_v, D), float32 unless asked for otherwise
    annotations: tuple[Annotation, ...]  # training uses only their labels, evaluation their segments, too
    duration: float | None = None  # seconds that the features cover, if they were rescaled

    @property
    def num_snippets(self) -> int:
        """T_v, the number of snippets."""
        return video_length(self.features)

    @property
    def action_free(self) -> bool:
        """Whether the video is known to show no action: all of it is background."""
        return not self.annotations

    def seconds(self, info: DatasetInfo) -> float:
        """How many seconds the T_v snippets cover together."""
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
    packed: PackedFeatures | None = None  # the array of which the videos' features are views, if there is one
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)  # reason -> how many videos
    num_cut: int = 0  # videos of which a stream had a snippet more than another, and is cut

    @property
    def population(self) -> str:
        """The number of videos and instances in words, and how many videos were left out, and why."""
        said = f"{counted(len(self.videos), 'video')} with {counted(self.num_instances, 'instance')}"
        if self.num_action_free:
            said += f", {self.num_action_free:,} of them without any action"
        reasons = ", ".join(f"{count:,} {why}" for why, count in self.left_out.items() if count)
        said += f" (left out: {reasons})" if reasons else ""
        return f"{said}; {self.num_cut:,} with a stream cut by one snippet" if self.num_cut else said

    @property
    def num_instances(self) -> int:
        """The number of annotated action instances in all videos."""
        return sum(len(video.annotations) for video in self.videos)

    @property
    def num_action_free(self) -> int:
        """The number of videos without any action."""
        return sum(video.action_free for video in self.videos)

    @property
    def missing_contrast(self) -> str | None:
        """What is missing for labels to teach anything, in words; None if nothing is."""
        if (labels := only_labels([video.annotations for video in self.videos])) is None:
            return None
        return (
            f"all {len(self.videos):,} training videos are labelled {labels}, so that their labels teach "
            "nothing; expected videos without any action (with empty annotations), or with other labels"
        )

    def pack(self, streams: Sequence[str], dtype: str = "float32") -> PackedFeatures:
        """The features of all videos in one array per stream; copied only if they do not lie so already.

        Args:
            streams: which streams, in order.
            dtype: "float32" or "bfloat16".

        Returns:
            `PackedFeatures` in host memory.
        """
        packed = self.packed
        if packed is not None and all(packed.rows[name].dtype == DTYPES[dtype] for name in streams):
            return packed
        return pack([video.features for video in self.videos], streams, dtype)

    def video_labels(self, classes: Sequence[str]) -> np.ndarray:
        """(V, G) float32 multi-hot labels Y of the V videos: all that training sees of the annotations."""
        index = {name: i for i, name in enumerate(classes)}
        labels = np.zeros((len(self.videos), len(classes)), np.float32)
        for row, video in zip(labels, self.videos):
            row[[index[a.label] for a in video.annotations]] = 1
        return labels

    def database(self, subset: str, info: DatasetInfo) -> dict[str, dict]:
        """Video name -> its entry in ActivityNet's annotation files.

        Args:
            subset: the subset that all entries get.
            info: of the data set; tells the videos' durations in seconds.
        """
        return {
            video.name: {
                "subset": subset,
                "duration": video.seconds(info),
                "annotations": as_entries(video.annotations),
            }
            for video in self.videos
        }

    def ground_truth(self) -> dict[str, list[dict]]:
        """Video name -> [{"label", "segment"}] (seconds), as `case_jax.evaluation` takes it."""
        return {video.name: as_entries(video.annotations) for video in self.videos}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The training and test videos of a data set, and its facts."""

    info: DatasetInfo
    train: Split
    test: Split

    @property
    def stream_widths(self) -> dict[str, int]:
        """Stream -> D, the number of channels."""
        features = (self.train.videos or self.test.videos)[0].features
        return {name: features[name].shape[1] for name in self.info.streams}


def without_action_free(dataset: Dataset) -> Dataset:
    """A data set without the videos that show no action, which `Split.left_out` counts."""

    def take(split: Split) -> Split:
        if not split.num_action_free:
            return split
        videos = tuple(video for video in split.videos if not video.action_free)
        before = split.left_out.get(NO_ANNOTATIONS, 0)
        left_out = {**split.left_out, NO_ANNOTATIONS: before + split.num_action_free}
        return dataclasses.replace(split, videos=videos, packed=None, left_out=left_out)

    return dataclasses.replace(dataset, train=take(dataset.train), test=take(dataset.test))


def hold_out(dataset: Dataset, groups: Sequence[str], part: int, num_parts: int) -> Dataset:
    """A data set to choose settings on: a part of the training split stands in for the test split.

    Args:
        dataset: a data set whose training videos are annotated.
        groups: one name per training video; videos of one group (a person, a camera) stay together.
        part: which part to hold out, from 0 on.
        num_parts: how many parts there are, at least 2 and at most as many as groups. The groups are dealt
            out in an order that is always the same, so that the parts are disjoint and cover all groups.

    Returns:
        `Dataset` that trains on the other parts and tests on this one; the true test split is left out.

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
