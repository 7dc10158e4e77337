from case_jax.data.problems import Problems, for_each
from case_jax.errors import InputError
from tests.helpers.refusals import refusal


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
