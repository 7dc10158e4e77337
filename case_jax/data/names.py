"""Video names with and without ActivityNet's prefix."""

from collections.abc import Container

__all__ = ["find_name"]

_PREFIX = "v_"


def find_name(name: str, known: Container[str]) -> str | None:
    """The name under which a video is known: as it is, with the prefix "v_", or without it.

    Annotations of ActivityNet name videos by their YouTube ids, files of features often by "v_" and the id.

    Args:
        name: of a video.
        known: names.

    Returns:
        The known name, or None.

    Example:
        >>> find_name("abc", {"v_abc"}), find_name("v_abc", {"abc"}), find_name("abc", {"abcd"})
        ('v_abc', 'abc', None)
    """
    for candidate in (name, _PREFIX + name, name.removeprefix(_PREFIX)):
        if candidate in known:
            return candidate
    return None
