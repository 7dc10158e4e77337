"""Flags that name files and folders: ~ is the home folder there, as in a shell."""

import os

from absl import flags

from case_jax.errors import InputError

__all__ = ["LISTS", "PATHS", "expand"]

# Flags of all commands that name a file or a folder, and those that name several: a,b,c.
PATHS = frozenset(
    {
        *("ambiguous", "checkpoint", "cluster_labels", "csv", "data_dir", "features", "flow_weights"),
        *("ground_truth", "labels", "output", "page", "rgb_weights", "srt", "torch", "video", "videos"),
        *("annotations", "folder", "frames_dir", "input", "vtt", "workdir"),
    }
)
LISTS = frozenset({"predictions"})


def expand(given: flags.FlagValues) -> None:
    """Replaces a leading ~ or ~user in the values of flags that name files and folders.

    A shell leaves the ~ of --workdir=~/runs as it is, and a flagfile knows no shell. Without this, a folder
    that is called ~ would come to be, which is dangerous to remove. One that is called so is ./~ .

    Args:
        given: the flags of a command, parsed.

    Raises:
        InputError: if there is no such user.
    """
    for name in sorted((PATHS | LISTS) & set(given)):
        value = given[name].value
        if isinstance(value, str) and "~" in value:
            parts = value.split(",") if name in LISTS else [value]
            given[name].value = ",".join(_expanded(name, part) for part in parts)


def _expanded(name: str, path: str) -> str:
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        user = path.partition(os.sep)[0]
        raise InputError(
            f"--{name}: is {path!r}, and {user} is no user here; expected a path, such as ./{path}"
        )
    return expanded
