import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from case_jax.localization.tiou import tiou

many = settings(max_examples=50, deadline=None, derandomize=True)
SECONDS = st.tuples(st.integers(0, 12), st.integers(0, 9)).map(lambda s: (s[0], s[0] + s[1]))
FLOATS = st.tuples(st.floats(-9, 9), st.floats(0, 9)).map(lambda s: (s[0], s[0] + s[1]))


def columns(segments):
    return np.array(segments, np.float64).reshape(-1, 2).T


@many
@given(one=SECONDS, others=st.lists(SECONDS, max_size=20))
def test_it_is_the_number_of_shared_seconds_over_covered_ones(one, others):
    found = tiou(*map(float, one), *columns(others))
    shared = [len(set(range(*one)) & set(range(*other))) for other in others]
    covered = [len(set(range(*one)) | set(range(*other))) for other in others]
    np.testing.assert_array_equal(found, [s / c if c else 0.0 for s, c in zip(shared, covered)])


@many
@given(ones=st.lists(FLOATS, max_size=8), others=st.lists(FLOATS, max_size=8))
def test_it_is_symmetric_bounded_and_broadcast(ones, others):
    a, b = columns(ones)[:, :, None], columns(others)[:, None, :]
    overlap = tiou(*a, *b)
    assert overlap.shape == (len(ones), len(others))
    assert overlap.dtype == np.float64
    np.testing.assert_array_equal(overlap, tiou(*b, *a))
    assert ((overlap >= 0) & (overlap <= 1)).all()


@many
@given(one=FLOATS, others=st.lists(FLOATS, max_size=20))
def test_without_extra_seconds_it_is_the_plain_formula_bit_for_bit(one, others):
    (start, end), (starts, ends) = one, columns(others)
    shared = np.maximum(0.0, np.minimum(end, ends) - np.maximum(start, starts))
    union = (end - start) + (ends - starts) - shared
    expected = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    assert tiou(start, end, starts, ends).tobytes() == expected.tobytes()


def test_extra_seconds_lengthen_the_intersection_and_both_segments():
    assert tiou(0.0, 3.0, np.array([2.0, 3.5, 9.0]), np.array([5.0, 5.0, 12.0]), extra=1.0).tolist() == [
        2 / 6,
        0.5 / 6,
        0.0,
    ]


def test_the_overlap_of_points_is_zero():
    assert tiou(0.0, 0.0, np.zeros(2), np.zeros(2)).tolist() == [0.0, 0.0]
