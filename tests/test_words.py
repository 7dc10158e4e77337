"""Numbers and lists in words."""

import pytest

from case_jax.words import counted, listed, plural


@pytest.mark.parametrize(
    "count, noun, words",
    [
        (0, "video", "0 videos"),
        (1, "video", "1 video"),
        (1, "class", "1 class"),
        (1234, "class", "1,234 classes"),
    ],
)
def test_a_noun_agrees_with_its_number(count, noun, words):
    assert counted(count, noun) == words
    assert words.endswith(f" {plural(noun, count)}")


@pytest.mark.parametrize(
    "names, words", [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")]
)
def test_a_word_stands_before_the_last_name(names, words):
    assert listed(names, "or") == words
