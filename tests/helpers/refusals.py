"""What a refusal must be: one line "<file or flag>: what is wrong; expected ...".

Tests check a message by its parts (the file, the offending value, a key word of what was expected), so that a
sentence can be reworded without touching tests, while a message about something else still fails them.
"""

import pytest

from case_jax.errors import InputError

__all__ = ["assert_parts", "assert_refused", "bad", "refusal"]


def refusal(call, *arguments):
    """The one line with which a call refuses its input."""
    with pytest.raises(InputError) as raised:
        call(*arguments)
    message = str(raised.value)
    assert message.isprintable(), message  # so it is one line
    return message


def assert_parts(message, named, wrong, expected=""):
    """Checks a message of the form "<named>: <wrong>; expected <expected>".

    Args:
        message: the message.
        named: the file or flag with which it begins.
        wrong: the parts that what is wrong has to contain, in order, with "…" between them.
        expected: the parts of what was expected, likewise.
    """
    assert message.startswith(f"{named}: "), message
    found_wrong, separator, found_expected = message.removeprefix(f"{named}: ").rpartition("; expected ")
    assert separator, message
    for found, parts in ((found_wrong, wrong), (found_expected, expected)):
        position = 0
        for part in map(str.strip, parts.split("…")):
            position = found.find(part, position)
            assert position >= 0, f"{part!r} is missing in {found!r}"
            position += len(part)


def assert_refused(call, path, wrong, expected="", *, named=None):
    """Checks that ``call(path)`` refuses with `assert_parts`; it names the path unless told otherwise."""
    assert_parts(refusal(call, path), path if named is None else named, wrong, expected)


def bad(name, *values, **options):
    """A case of a test by parameters, with a name."""
    return pytest.param(*values, id=name, **options)
