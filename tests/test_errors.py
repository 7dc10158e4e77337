import pytest

from case_jax.errors import InputError


def test_an_input_error_is_a_value_error():
    with pytest.raises(ValueError, match=r"^a\.npy: no such file; expected features$"):
        raise InputError("a.npy: no such file; expected features")


@pytest.mark.parametrize(
    "character, escaped",
    [
        ("\n", r"\n"),
        ("\r", r"\r"),
        ("\x1b", r"\x1b"),  # what begins a terminal's control sequence
        ("\x00", r"\x00"),
        ("\u2028", r"\u2028"),  # a line separator
        ("\u202e", r"\u202e"),  # turns the direction of the text that follows
        ("\udcff", r"\udcff"),  # a byte of a file's name that is not UTF-8
    ],
)
def test_characters_that_cannot_be_printed_are_escaped(character, escaped):
    message = str(InputError(f"a{character}b.npy: no such file"))
    assert message == f"a{escaped}b.npy: no such file"
    assert message.isprintable()


def test_other_letters_stay():
    assert str(InputError("séance 動画.npy: no such file")) == "séance 動画.npy: no such file"


def test_a_long_message_keeps_its_beginning_and_its_end():
    message = str(InputError("begin" + 10_000 * "x" + "end"))
    assert message.startswith("begin")
    assert message.endswith("end")
    assert " ... " in message
    assert len(message) <= 2000


def test_a_message_of_the_longest_length_is_whole():
    assert str(InputError(2000 * "x")) == 2000 * "x"
