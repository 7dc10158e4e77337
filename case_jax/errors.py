"""The one error that bad user input raises."""

__all__ = ["InputError"]

_LONGEST = 2000  # characters; a message may quote a file of any size


class InputError(ValueError):
    r"""A file, a flag or a value from the user cannot be used.

    The message is one line. It names the file or flag, says what is wrong and what was expected. Commands
    print it on standard error and exit with status 2; library users may catch it.

    Names of files and values in them may contain line breaks and control characters, which a terminal would
    obey. The message escapes them. It leaves out the middle of a very long text.

    Example:
        >>> str(InputError("a\nb.npy: no such file; expected features"))
        'a\\nb.npy: no such file; expected features'
    """

    def __init__(self, message: str):
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST - 800]} ... {message[-795:]}"
        super().__init__("".join(c if c.isprintable() else _escaped(c) for c in message))


def _escaped(character: str) -> str:
    """The escape sequence of a character that cannot be printed, for example a line break's."""
    return character.encode("unicode_escape", "surrogatepass").decode()
