"""Which snippets belong to which cluster, and their frames (Figure 6)."""

import re
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from case_jax.data.dataset import Dataset, in_action
from case_jax.data.samplers import uniform_indices
from case_jax.errors import InputError
from case_jax.method.scores import VideoScores
from experiments.ablations.drawing import GalleryRow, Member

__all__ = ["Frames", "gallery"]

_WIDTH = 160  # of a frame in the figure, pixels


class Frames:
    """Frames of videos as pictures in folders: <folder>/<video>/<name with a number>.jpg or .png."""

    def __init__(self, folder: str, videos: Sequence[str], *, frames_per_second: float):
        """Lists the pictures; they are read when they are needed.

        Args:
            folder: with one folder per video.
            videos: that must be there.
            frames_per_second: of the pictures; the first one, by its number, is of second 0.

        Raises:
            InputError: if a video's folder is missing or holds no picture.
        """
        self._rate = frames_per_second
        self._paths: dict[str, list[Path]] = {}
        root = Path(folder)
        if not root.is_dir():
            raise InputError(
                f"--frames_dir: {root}: no such folder; expected one folder of frames per test video"
            )
        for video in videos:
            paths = [
                p for p in root.glob(f"{_literal(video)}/*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")
            ]
            numbered = [(int(re.findall(r"\d+", p.stem)[-1]), p) for p in paths if re.search(r"\d", p.stem)]
            if not numbered:
                raise InputError(
                    f"--frames_dir: {root / video}: holds no frames; expected pictures with numbers in their "
                    "names, as in img_00001.jpg"
                )
            self._paths[video] = [path for _, path in sorted(numbered)]

    def at(self, video: str, second: float) -> np.ndarray:
        """The picture at a second, (height, width, 3) uint8, made small; the last one beyond the end.

        Raises:
            InputError: if it cannot be read.
        """
        from PIL import Image  # comes with matplotlib

        paths = self._paths[video]
        path = paths[min(int(second * self._rate), len(paths) - 1)]
        try:
            with Image.open(path) as image:
                image.thumbnail((_WIDTH, _WIDTH))
                return np.asarray(image.convert("RGB"))
        except Exception as error:  # a damaged picture makes its decoder raise nearly anything
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: cannot be read ({reason}); expected a picture") from None


def gallery(
    scores: VideoScores,
    cluster_labels: np.ndarray,
    dataset: Dataset,
    *,
    frames: Frames | None = None,
    num_members: int = 6,
) -> list[GalleryRow]:
    """Every cluster with the test snippets that belong to it most, one of each video.

    Args:
        scores: of the V test videos.
        cluster_labels: (K, 2) Q^C.
        dataset: for annotations and the time of a snippet.
        frames: of the test videos.
        num_members: snippets per cluster, from different videos.

    Returns:
        One row per cluster, in the clusters' order.
    """
    assignments = np.asarray(scores.clusters)  # (V, T, K)
    videos, num_samples = dataset.test.videos, assignments.shape[1]
    lengths = np.array([video.num_snippets for video in videos], np.int32)
    snippet = np.asarray(jax.vmap(uniform_indices, in_axes=(0, None))(lengths, num_samples))  # (V, T)
    snippet_seconds = np.array([video.seconds(dataset.info) for video in videos]) / lengths
    middle = (snippet + 0.5) * snippet_seconds[:, None]
    truth = np.stack([in_action(video.annotations, m) for video, m in zip(videos, middle)])
    distinct = np.diff(snippet, axis=1, prepend=-1) > 0  # a short video repeats snippets
    first = assignments.argmax(axis=2)

    rows = []
    for k, foreground in enumerate(np.asarray(cluster_labels)[:, 0]):
        mine = (first == k) & distinct
        best = assignments[:, :, k].argmax(axis=1)  # of each video
        order = np.argsort(-assignments[np.arange(len(videos)), best, k], kind="stable")[:num_members]
        members = []
        for v in order:
            second, name = float(middle[v, best[v]]), videos[v].name
            members.append(
                Member(
                    name,
                    round(second - float(snippet_seconds[v]) / 2, 3),
                    float(assignments[v, best[v], k]),
                    bool(truth[v, best[v]]),
                    None if frames is None else frames.at(name, second),
                )
            )
        purity = float(truth[mine].mean()) if mine.any() else float("nan")
        rows.append(
            GalleryRow(k, float(foreground), float(mine.sum() / distinct.sum()), purity, tuple(members))
        )
    return rows


def _literal(name: str) -> str:
    """A name as a pattern that matches only itself."""
    return re.sub(r"([\[\]*?])", r"[\1]", name)
