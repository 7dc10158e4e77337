import jax.numpy as jnp
import numpy as np

from case_jax.data.dataset import Annotation, Dataset, Split, Video
from case_jax.data.info import DatasetInfo
from case_jax.method.scores import VideoScores
from experiments.ablations import clusters

INFO = DatasetInfo(classes=("Jump",), streams=("acc",), frames_per_second=10.0, frames_per_snippet=5.0)


def video(name, length, *segments):
    annotations = tuple(Annotation("Jump", start, end) for start, end in segments)
    return Video(name, {"acc": np.zeros((length, 2), np.float32)}, annotations)


def test_gallery_by_hand():
    # Snippets of 0.5 s; "long" has 6 for 3 samples (snippets 0, 2, 4), "short" 2 (snippets 0, 0, 1).
    videos = (video("long", 6, (1.0, 1.5)), video("short", 2, (0.5, 1.0)))
    dataset = Dataset(INFO, Split("train", ()), Split("test", videos))
    assignments = np.array([[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], [[0.7, 0.3], [0.7, 0.3], [0.05, 0.95]]])
    scores = VideoScores(*(None,) * 5, clusters=jnp.asarray(assignments, jnp.float32))
    first, second = clusters.gallery(scores, np.array([[0.25, 0.75], [0.75, 0.25]]), dataset)

    def facts(row):
        return [(m.video, m.second, round(m.probability, 3), m.foreground) for m in row.members]

    assert facts(first) == [("long", 0.0, 0.9, False), ("short", 0.0, 0.7, False)]
    assert facts(second) == [("short", 0.5, 0.95, True), ("long", 1.0, 0.8, True)]
    # There are five distinct snippets; the repeated one counts once.
    assert (first.cluster, first.foreground, first.hard_share, first.purity) == (0, 0.25, 0.6, 0.0)
    assert (second.cluster, second.foreground, second.hard_share, second.purity) == (1, 0.75, 0.4, 1.0)


def test_an_empty_cluster_has_no_purity():
    dataset = Dataset(INFO, Split("train", ()), Split("test", (video("v", 2),)))
    scores = VideoScores(*(None,) * 5, clusters=jnp.array([[[0.9, 0.1], [0.8, 0.2]]]))
    _, empty = clusters.gallery(scores, np.full((2, 2), 0.5), dataset)
    assert empty.hard_share == 0
    assert np.isnan(empty.purity)
    assert empty.members[0].second == 0.5
