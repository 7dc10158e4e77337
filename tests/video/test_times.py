"""Choosing frames by time stamps, against an oracle that looks at every time and every frame."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from case_jax.video.times import Stamped, StampError, Timed, choose, number_of_times, settle

TOLERANCE = 0.001  # seconds
RATES = st.sampled_from([1.0, 10.0, 12.5, 24.0, 25.0, 30.0])


def chosen(timed, fps):
    """The frames that are given, repeated ones as often as they are."""
    return [frame for frame, times in choose(timed, fps) for _ in range(times)]


def regular(rate, count, digits=None):
    """Frames at a constant rate, their time stamps rounded to so many digits."""
    stamps = [float(k / Fraction(rate)) for k in range(count)]
    if digits is not None:
        stamps = [round(stamp, digits) for stamp in stamps]
    return [Timed(stamp, float(1 / Fraction(rate)), k) for k, stamp in enumerate(stamps)]


def shown_at(timed, fps):
    """Oracle: at each time before the end, the last frame that has a time stamp up to then."""
    end, k, frames = timed[-1].time + timed[-1].length, 0, []
    while k / fps + TOLERANCE < end or k == 0:
        frames.append([frame for time, _, frame in timed if time <= k / fps + TOLERANCE][-1])
        k += 1
    return frames


@st.composite
def any_frames(draw):
    # No sum of these gaps is a multiple of 1 / fps plus the tolerance, where rounding would decide.
    gaps = draw(st.lists(st.integers(0, 900), min_size=1, max_size=40))
    stamps = [0.0, *((np.cumsum(gaps) + 0.5) / 7000).tolist()]
    length = draw(st.integers(1, 2000)) / 7000
    return [Timed(stamp, length, k) for k, stamp in enumerate(stamps)]


@given(any_frames(), RATES)
def test_agrees_with_the_oracle(timed, fps):
    assert chosen(timed, fps) == shown_at(timed, fps)


@given(any_frames(), RATES)
def test_every_frame_is_told_of_once_and_in_order(timed, fps):
    told = list(choose(timed, fps))
    assert [frame for frame, _ in told] == [frame for _, _, frame in timed]
    assert all(times >= 0 for _, times in told)


@pytest.mark.parametrize("digits", [None, 3])
@pytest.mark.parametrize("rate", [30, Fraction(30000, 1001), 50, Fraction(60000, 1001), 26, 120])
def test_a_higher_rate_loses_frames_in_a_regular_pattern(rate, digits):
    got = chosen(regular(rate, 3000, digits), 25)
    steps = np.diff(got)
    ratio = float(rate) / 25
    assert set(steps) <= {int(np.floor(ratio)), int(np.ceil(ratio))}  # so no frame comes twice
    skips = np.diff(np.flatnonzero(steps == np.ceil(ratio)))
    assert np.ptp(skips) <= (1 if digits is None else 2)


@pytest.mark.parametrize("digits", [None, 3])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), 24, 20, 15, 12.5, 10, 1])
def test_a_lower_rate_repeats_frames_in_a_regular_pattern(rate, digits):
    got = chosen(regular(rate, 300, digits), 25)
    _, times = np.unique(got, return_counts=True)
    assert len(times) == 300  # so none is skipped
    assert np.ptp(times) <= 1


@pytest.mark.parametrize("digits", [None, 3])
@pytest.mark.parametrize("rate", [25, 30, 29.97, Fraction(30000, 1001), 60, 240])
def test_at_its_own_rate_a_video_is_itself(rate, digits):
    assert chosen(regular(rate, 3000, digits), float(rate)) == list(range(3000))


@pytest.mark.parametrize(
    "rate, frames, expected",
    [(30, 150, 125), (30, 151, 126), (30, 7, 6), (30, 1, 1), (25, 77, 77), (60, 3, 2), (12.5, 10, 20)],
)
def test_how_many_frames_a_video_has(rate, frames, expected):
    assert number_of_times(frames / rate, fps=25) == expected
    assert len(chosen(regular(rate, frames), 25)) == expected


def test_no_video_is_too_short_for_one_frame():
    assert chosen([Timed(0.0, 1e-6, "flash")], 25) == ["flash"]
    assert chosen([], 25) == []


# Time stamps as files have them


def settled(*stamps, period=0.5):
    """Times of frames from pairs of time and length, or times alone."""
    pairs = [stamp if isinstance(stamp, tuple) else (stamp, None) for stamp in stamps]
    return [each.time for each in settle([Stamped(*pair, None) for pair in pairs], period)]


@pytest.mark.parametrize(
    "stamps, times",
    [
        ([0, 1, 2], [0, 1, 2]),
        ([7, 8, 10], [0, 1, 3]),
        ([-2, -1, 0.5], [0, 1, 2.5]),
        ([None, None, None], [0, 0.5, 1]),
        ([(None, 2), (None, 3), None], [0, 2, 5]),
        ([5, None, 7], [0, 0.5, 2]),
        ([None, 9, 10], [0, 0.5, 1.5]),
        ([0, 1, 0.9, 2], [0, 1, 1, 2]),
        ([0, 1, 1, 2], [0, 1, 1, 2]),
        ([0, 9, 0, 1], [0, 9, 9.5, 10.5]),
        ([3, 9, (0, 2), None], [0, 6, 6.5, 8.5]),
    ],
)
def test_times_start_at_0_and_never_go_back(stamps, times):
    assert settled(*stamps) == times


@given(st.lists(st.one_of(st.none(), st.floats(-1e4, 1e4))))
def test_times_of_any_stamps(stamps):
    times = []
    try:
        for each in settle([Stamped(stamp, stamp, k) for k, stamp in enumerate(stamps)], 0.04):
            times.append(each.time)
            assert each.length > 0
            assert each.frame == len(times) - 1
    except StampError:
        pass
    assert times[:1] in ([], [0.0])
    assert times == sorted(times)


def test_time_that_jumps_by_days_is_damage():
    timed = settle([Stamped(time, None, None) for time in (0, 1, 90_000)], 0.04)
    assert [next(timed).time, next(timed).time] == [0, 1]
    with pytest.raises(StampError, match="jump by 89999 s"):
        next(timed)
