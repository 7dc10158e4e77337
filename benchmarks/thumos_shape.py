"""Generated data in THUMOS14's shape: numbers and lengths of videos, classes, instances. No real video."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from case_jax.data.dataset import Annotation, Dataset, Split, Video
from case_jax.data.info import THUMOS14
from case_jax.data.packed import PackedFeatures, allocate_rows, first_rows

__all__ = ["ScoredVideo", "make_dataset", "scored_videos"]

# Durations in seconds: the median video lasts about 2.5 minutes, some a quarter of an hour.
_MEDIAN, _SPREAD, _SHORTEST, _LONGEST = 155.0, 0.75, 10.0, 1_700.0


class ScoredVideo(NamedTuple):
    """Made-up outputs of the network for one video, and its true actions."""

    name: str
    fused: np.ndarray  # (T, G)
    scores: np.ndarray  # (G,)
    duration: float  # seconds
    annotations: tuple[Annotation, ...]


def make_dataset(
    *, num_train: int = 200, num_test: int = 210, width: int = 1024, num_snippets: int | None = None
) -> Dataset:
    """Random features with realistic lengths and density of annotations, generated from seed 0.

    Args:
        num_train: training videos.
        num_test: test videos.
        width: channels of each of the two streams.
        num_snippets: snippets of every video, instead of drawn lengths.
    """
    rng = np.random.default_rng(0)

    def split(subset: str, count: int) -> Split:
        drawn = [_annotate(rng) for _ in range(count)]
        lengths = np.array(
            [max(1, int(seconds / THUMOS14.seconds_per_snippet)) for seconds, _ in drawn], np.int32
        )
        if num_snippets is not None:
            lengths[:] = num_snippets
        first = first_rows(lengths)
        rows = {}
        for stream in THUMOS14.streams:
            rows[stream] = allocate_rows(int(lengths.sum()), width, np.dtype(np.float32))
            for begin in range(0, len(rows[stream]), 4096):  # parts need little memory
                part = rows[stream][begin : begin + 4096]
                part[:] = rng.standard_normal(part.shape, np.float32)
            rows[stream].flags.writeable = False
        videos = [
            Video(f"{subset}_{i:04d}", {s: rows[s][f : f + n] for s in rows}, annotations)
            for i, (f, n, (_, annotations)) in enumerate(zip(first, lengths, drawn))
        ]
        return Split(subset, tuple(videos), PackedFeatures(rows, first, lengths))

    return Dataset(THUMOS14, split(THUMOS14.train_subset, num_train), split(THUMOS14.test_subset, num_test))


def scored_videos(num_videos: int = 210, num_snippets: int = 750) -> list[ScoredVideo]:
    """Sequences that rise where actions are, with noise that gives about 110 proposals a video."""
    rng = np.random.default_rng(0)
    return list(_scored(rng, num_videos, num_snippets))


def _scored(rng, num_videos: int, num_snippets: int) -> Iterator[ScoredVideo]:
    num_classes = len(THUMOS14.classes)
    for i in range(num_videos):
        seconds, annotations = _annotate(rng)
        time = (np.arange(num_snippets) + 0.5) / num_snippets * seconds
        fused = np.full((num_snippets, num_classes), 0.08)
        scores = np.zeros(num_classes)
        for label, start, end in annotations:
            column = THUMOS14.classes.index(label)
            scores[column] = 1
            away = np.maximum(0, np.maximum(start - time, time - end))
            fused[:, column] += 0.75 * rng.uniform(0.4, 1) * np.exp(-away)
        smooth = max(1, int(1.2 * num_snippets / seconds))
        noise = rng.standard_normal((num_snippets + smooth - 1, num_classes))
        noise = np.lib.stride_tricks.sliding_window_view(noise, smooth, axis=0).sum(axis=-1) / np.sqrt(smooth)
        fused = np.clip(fused + 0.045 * noise, 0, 1).astype(np.float32)
        yield ScoredVideo(f"video_{i:04d}", fused, scores / scores.sum(), seconds, annotations)


def _annotate(rng) -> tuple[float, tuple[Annotation, ...]]:
    """A duration in seconds, and annotations: about one instance of 4 seconds in every 13 seconds."""
    seconds = float(np.clip(_MEDIAN * np.exp(_SPREAD * rng.standard_normal()), _SHORTEST, _LONGEST))
    label = str(rng.choice(THUMOS14.classes))
    annotations, position = [], rng.exponential(6.0)
    while position + 1 < seconds and len(annotations) < 100:
        end = min(seconds, position + rng.gamma(2.0, 2.0) + 0.3)
        annotations.append(Annotation(label, round(position, 2), round(end, 2)))
        position = end + rng.exponential(9.0)
    return seconds, tuple(annotations) or (Annotation(label, 0.0, round(seconds / 2, 2)),)
