"""What a refusal must be: one line that names the file, says what is wrong and what was expected."""

import io
from pathlib import Path

import numpy as np
import pytest

from case_jax.errors import InputError

__all__ = ["JSON", "LONG", "NPY", "ONES", "Trap", "assert_message", "assert_refused", "bad", "npz", "refused"]

NPY = "expected a .npy file with a (snippets, channels) array of numbers"
JSON = "expected a JSON file"

ONES = np.ones((4, 3), np.float32)
LONG = str(10**400)  # a number that no float can be


def npz(array):
    buffer = io.BytesIO()
    np.savez(buffer, array)
    return buffer.getvalue()


def refused(read, path):
    """The one line with which a reader refuses a file, without the file's name before it."""
    with pytest.raises(InputError) as raised:
        read(path)
    message = str(raised.value)
    assert message.isprintable()  # so it is one line
    assert "; expected " in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def assert_message(message, expected):
    """Word for word; "…" stands for words of Python's, numpy's or h5py's."""
    before, *after = expected.split("…")
    if not after:
        assert message == expected
        return
    (after,) = after
    assert message.startswith(before)
    assert message.endswith(after)
    assert len(message) > len(before) + len(after)


def bad(name, content, message, **options):
    return pytest.param(content, message, id=name, **options)


def assert_refused(read, folder, message):
    """The whole message, in which {0} stands for a folder."""
    with pytest.raises(InputError) as raised:
        read(folder)
    assert str(raised.value).isprintable()
    assert_message(str(raised.value), message.format(folder))


class Trap:
    """Leaves a file behind where it is unpickled."""

    path = None

    def __reduce__(self):
        return Path.touch, (self.path,)
