"""Refuses what a command could not write in the end, before it begins its work."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from case_jax.errors import InputError

__all__ = ["check_outputs"]

_Paths = Mapping[str, str | os.PathLike | None]  # flag, without its dashes -> path; None or "" if not given


def check_outputs(
    *,
    files: _Paths | None = None,
    folders: _Paths | None = None,
    own_folders: _Paths | None = None,
    inputs: _Paths | None = None,
) -> None:
    """Rejects outputs that would overwrite each other or an input, or that cannot be written.

    Args:
        files: that the command writes, by their flags.
        folders: in which it writes files beside others. Two of them may be the same, or be an input.
        own_folders: in which it writes files that must not be among others.
        inputs: what it reads.

    Raises:
        InputError: if a file or an own folder is another output or an input, too; a folder is there in place
            of a file, or a file in place of a folder; or a folder is none, or may not be written to.
    """
    written, within, own = _given(files), _given(folders), _given(own_folders)
    seen = _given(inputs) | within
    for name, path in (written | own).items():
        for other, second in seen.items():
            if os.path.realpath(path) == os.path.realpath(second):
                kind = "file" if name in written else "folder"
                raise InputError(f"--{name}: is {path}, as --{other}; expected another {kind}")
        seen[name] = path
    for path in written.values():
        if os.path.isdir(path):
            raise _unwritable(path, errno.EISDIR)
    for name, path in (within | own).items():
        if os.path.exists(path) and not os.path.isdir(path):
            raise InputError(f"--{name}: {path} is a file; expected a folder")
    for path in (*(p.parent for p in written.values()), *within.values(), *own.values()):
        _check_folder(path)


def _given(paths: _Paths | None) -> dict[str, Path]:
    return {name: Path(path) for name, path in (paths or {}).items() if path}


def _check_folder(folder: Path) -> None:
    """Rejects a folder that could neither be written to nor be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not os.path.isdir(there):
        raise _unwritable(folder, errno.ENOTDIR)
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(folder, errno.EACCES)


def _unwritable(path: Path, reason: int) -> InputError:
    return InputError(f"{path}: cannot be written ({os.strerror(reason)})")
