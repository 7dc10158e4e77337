"""One training at a time in a folder."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from case_jax.errors import InputError

__all__ = ["exclusive"]


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keeps other trainings out of a folder while the context lasts, or until this process ends.

    Where the system or its file system has no locks, nobody is kept out.

    Args:
        folder: an existing folder.

    Raises:
        InputError: if another training is in it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another training is writing to it; expected one at a time, or another --workdir"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
                raise
        yield
    finally:
        os.close(descriptor)  # which gives up the lock
