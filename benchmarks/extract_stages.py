"""The stages from a video to features, each alone and all together; a part of benchmarks.extract."""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from case_jax.data.extraction import Extraction, Source
from case_jax.video.clips import VideoClips
from case_jax.video.extract import Extractor
from case_jax.video.extras import import_extra
from case_jax.video.flow import flow_of
from case_jax.video.frames import FrameSettings, open_frames
from case_jax.video.weights import Weights

__all__ = ["stage_rates"]

_PAIRS = {"dis": 40, "tvl1": 2}  # pairs of frames that are timed


def stage_rates(
    weights: Weights, *, num_frames: int, size: tuple[int, int], crop: int, num_workers: int
) -> dict[str, float]:
    """Frames per second of each stage.

    Args:
        weights: of the rgb network.
        num_frames: frames of each of two made-up videos.
        size: (width, height) of their frames in pixels.
        crop: pixels of the side of the square that the network sees. Frames are made 8/7 as high, as 256 are
            to 224.
        num_workers: processes that read them where all stages run together.

    Returns:
        Stage -> frames (of flow: pairs) per second; "all together" is the command's rate without the time in
        which the network is compiled.
    """
    with tempfile.TemporaryDirectory() as folder:
        videos = {name: _write_video(Path(folder) / f"{name}.mp4", num_frames, size) for name in "ab"}
        source = Source(weights.name, weights.sha256)
        extraction = Extraction({"rgb": source}, side=crop * 8 // 7, crop=crop)
        extractor = Extractor(extraction, {"rgb": weights})
        [_] = extractor.each({"a": videos["a"]})  # compiles
        rates = {"decoding, resizing, cropping": _rate(lambda: _read(videos["a"], extraction))}
        for method, count in _PAIRS.items():
            rates[f"flow {method}"] = _rate(
                lambda m=method, n=count: _flow(videos["a"], m, min(n, num_frames))
            )
        rates["all together"] = _rate(lambda: _extract(extractor, videos, num_workers))
    return rates


def _rate(work: Callable[[], int]) -> float:
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


def _read(path: Path, extraction: Extraction) -> int:
    clips = VideoClips(path, extraction)
    for _ in clips:
        pass
    return clips.video.frames


def _flow(path: Path, method: str, count: int) -> int:
    with open_frames(path, FrameSettings()) as reader:
        return sum(1 for _ in flow_of(itertools.islice(reader, count + 1), method)) - 1


def _extract(extractor: Extractor, videos: dict[str, Path], num_workers: int) -> int:
    found = list(extractor.each(videos, num_workers=num_workers))
    return sum(extracted.video.frames for extracted in found if extracted.video)


def _write_video(path: Path, num_frames: int, size: tuple[int, int]) -> Path:
    """A video of 25 frames/s in which coloured noise drifts, as hard to decode as a real one."""
    av = import_extra("av")
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8 + num_frames, 3), np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(num_frames):
            image = noise[:, number : number + width // 8].repeat(8, axis=0).repeat(8, axis=1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode())
    return path
