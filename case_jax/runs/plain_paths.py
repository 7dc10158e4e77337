"""Paths for libraries that read more into a path than the name of a file."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from case_jax.data.files import writing

__all__ = ["plain_path"]

# Orbax takes [, * and ? for patterns, and so finds none of the files that it has written itself, or those of
# other folders. TensorStore takes a backslash for a slash, and no names that are not UTF-8 (surrogates here).
_ODD = re.compile("[][*?\\\\\ud800-\udfff]")


@contextlib.contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """A path to an existing folder that every library takes for what it is.

    Args:
        folder: an absolute path of any characters.

    Yields:
        The folder itself where its path is plain; otherwise a link to it in a temporary folder, which lasts
        as long as the context.

    Raises:
        InputError: if there is no temporary folder to put a link into.
    """
    if not _ODD.search(folder.as_posix()):
        yield folder
        return
    with contextlib.ExitStack() as stack:
        with writing(folder):
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="case_jax_"))
            link = Path(place) / "checkpoints"
            link.symlink_to(folder, target_is_directory=True)
        yield link
