import unicodedata

import pytest

from case_jax.data.similar import did_you_mean, fold_label, fold_name

DECOMPOSED = unicodedata.normalize("NFD", "Café")


@pytest.mark.parametrize(
    "one, other, agree",
    [
        ("High Jump", "highjump", True),
        ("High Jump", "high_jump", True),
        ("High-Jump", " HIGH  jump", True),
        ("Café", DECOMPOSED, True),
        ("Café", "Cafe", False),
        ("High Jump", "High Jumps", False),
    ],
)
def test_labels(one, other, agree):
    assert (fold_label(one) == fold_label(other)) == agree


@pytest.mark.parametrize(
    "one, other, agree",
    [
        ("v_abc", "abc", True),
        ("abc.mp4", "V_ABC", True),
        ("abc.npy", "abc", True),
        ("video_test_01", "video test 01", True),
        (DECOMPOSED, "café.avi", True),
        ("video_test_01", "video_test_1", False),
        ("a.1", "a.2", False),
    ],
)
def test_names(one, other, agree):
    assert (fold_name(one) == fold_name(other)) == agree


def test_a_message_names_what_could_be_meant():
    assert did_you_mean("abc.mp4", ["x", "v_abc"]) == " (did you mean 'v_abc'?)"
    assert did_you_mean("abd", ["x", "v_abc"]) == ""
    assert did_you_mean("high jump", ["HighJump"], fold_label) == " (did you mean 'HighJump'?)"
