import errno
import fcntl
import os

import pytest

from case_jax.runs.lock import exclusive
from tests.helpers.refusals import assert_refused


def _enter(folder):
    with exclusive(folder):
        pass


def test_a_second_training_is_kept_out_until_the_first_one_ends(tmp_path):
    with exclusive(tmp_path):
        assert_refused(_enter, tmp_path, "another training is writing", "--workdir")
    _enter(tmp_path)


def test_folders_are_locked_one_by_one(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    with exclusive(tmp_path / "a"):
        _enter(tmp_path / "b")


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL])
def test_where_a_file_system_has_no_locks_nobody_is_kept_out(monkeypatch, tmp_path, number):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    _enter(tmp_path)


def test_the_folder_is_closed_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path):
        raise ZeroDivisionError
    _enter(tmp_path)
