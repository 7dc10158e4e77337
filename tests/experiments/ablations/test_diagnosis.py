import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.data.dataset import Annotation, Dataset, Split, Video
from case_jax.data.info import DatasetInfo
from experiments.ablations.diagnosis import area_under_curve, sampled_truth


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
@settings(deadline=None)
def test_area_is_the_share_of_pairs_in_order(points):
    scores, positive = np.array([p[0] for p in points], float), np.array([p[1] for p in points])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[positive] for b in scores[~positive]]
    area = area_under_curve(scores, positive)
    assert np.isnan(area) if not pairs else area == pytest.approx(np.mean(pairs))


def test_truth_is_looked_up_in_the_middle_of_samples():
    info = DatasetInfo(classes=("Jump",), streams=("acc",), frames_per_second=1, frames_per_snippet=1)
    video = Video("v", {"acc": np.zeros((8, 2), np.float32)}, (Annotation("Jump", 2.0, 5.0),))
    truth = sampled_truth(Dataset(info, Split("train", ()), Split("test", (video,))), 4)
    assert truth.tolist() == [[False, True, True, False]]  # snippets 0, 2, 4, 6
