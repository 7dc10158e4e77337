import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.evaluation.mean_average_precision import detection_map
from case_jax.evaluation.per_video import per_video_ap
from tests.helpers.segments import CROWD, FOUND, TIOU, TRUTH, as_segments, take


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    truth=st.lists(TRUTH, min_size=1, max_size=12),
    found=st.lists(FOUND, max_size=20) | st.lists(CROWD, min_size=8, max_size=25),
)
def test_ap_of_each_video_is_the_mean_ap_of_that_video_alone(truth, found):
    result = per_video_ap(as_segments(truth), as_segments(found), TIOU)
    assert set(result) == {row[0] for row in truth}
    for video, ap in result.items():
        own = [row for row in truth if row[0] == video]
        alone = detection_map(as_segments(own), as_segments([r for r in found if r[0] == video]), TIOU)
        assert ap == pytest.approx(alone.average, abs=1e-12)
    assert list(result) == sorted(result, key=lambda video: (result[video], video))
    assert list(per_video_ap(as_segments(truth), as_segments(found[::-1]), TIOU).items()) == list(
        result.items()
    )


@pytest.mark.parametrize("truth, tiou", [([], [0.5]), ([("v", "a", 0, 1)], [])])
def test_without_ground_truth_or_thresholds_it_is_an_error(truth, tiou):
    with pytest.raises(ValueError, match="needs at least one ground truth and one tIoU threshold"):
        per_video_ap(as_segments(truth), as_segments([("v", "a", 0, 1, 0.5)]), tiou)


def test_real_thumos14_videos(real):
    truth, found = real.truth_segments, real.found_segments
    result = per_video_ap(truth, found, [0.3, 0.5])
    assert len(result) == 210
    for video, ap in [*list(result.items())[:3], *list(result.items())[-3:]]:
        alone = detection_map(
            take(truth, truth.video == video), take(found, found.video == video), [0.3, 0.5]
        )
        assert ap == pytest.approx(alone.average, abs=1e-12)
    assert list(result.values()) == sorted(result.values())
    assert 0 <= min(result.values()) < 0.1
    assert max(result.values()) == 1.0
