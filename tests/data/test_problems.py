import numpy as np
import pytest

from case_jax.data.load import load_dataset
from case_jax.data.problems import Problems, for_each
from case_jax.errors import InputError
from tests.helpers.refusals import assert_parts, refusal


def refuse(items):
    """Refuses numbers below 0."""

    def call(item):
        if item < 0:
            raise InputError(f"file {item}: is bad; expected better")
        return 2 * item

    return for_each(call, items)


def test_without_problems_all_results_are_there_in_order():
    assert refuse([3, 1, 2]) == [6, 2, 4]


def test_one_problem_is_told_in_its_own_words():
    assert refusal(refuse, [1, -1, 2]) == "file -1: is bad; expected better"


def test_several_problems_are_one_line():
    assert refusal(refuse, [-1, 1, -2, -3]) == (
        "file -1: is bad; expected better; 2 more cannot be used: file -2, file -3"
    )
    many = refusal(refuse, range(-20, 1))
    assert many.endswith(
        "; 19 more cannot be used: " + ", ".join(f"file {i}" for i in range(-19, -11)) + ", ..."
    )


def test_other_errors_are_not_noted():
    problems = Problems()
    try:
        with problems.noting():
            raise ValueError
    except ValueError:
        problems.refuse()
    else:
        raise AssertionError


@pytest.mark.parametrize("layout", ["thumos", "activitynet"])
def test_a_data_set_tells_all_bad_videos_at_once(layout, request):
    """Of what is checked together: files and annotations first, and then values."""
    made = request.getfixturevalue(layout)
    folder = made if layout == "thumos" else made.path
    names = ("a", "b") if layout == "thumos" else ("v_aaaaaaaaaaa", "v_bbbbbbbbbbb")
    one, two = (path for name in names for path in folder.rglob(f"rgb/{name}.npy"))
    for path in (one, two):
        np.save(path, np.load(path) * np.nan)
    message = refusal(load_dataset, folder)
    assert_parts(message, one, "snippet 0, channel 0 is nan", f"finite numbers; 1 more cannot be used: {two}")
    for path in (one, two):
        path.write_bytes(b"")
    message = refusal(load_dataset, folder)
    assert_parts(message, one, "cannot be read", f"array of numbers; 1 more cannot be used: {two}")
