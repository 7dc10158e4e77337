"""Real annotations and detections of THUMOS14's test videos."""

from typing import NamedTuple

import pytest

from case_jax.data.annotations import read_ground_truth, subset_of
from case_jax.data.dataset import as_entries
from case_jax.evaluation.matching import Segments, make_segments
from case_jax.localization.detections import read_predictions


class Real(NamedTuple):
    truth: dict[str, list[dict]]
    found: dict[str, list[dict]]
    truth_segments: Segments
    found_segments: Segments


@pytest.fixture(scope="session")
def real(shared_data) -> Real:
    folder = shared_data / "thumos14"
    truth = subset_of(read_ground_truth(folder / "gt.json"), "test", path=folder / "gt.json")
    truth = {video: as_entries(annotations) for video, annotations in truth.items()}
    found = read_predictions(folder / "detections_crnet.json")
    return Real(truth, found, make_segments(truth), make_segments(found))
