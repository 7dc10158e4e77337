"""The one error that bad user input raises."""

__all__ = ["InputError"]

_LONGEST = 2000  # characters; what is wrong may quote a file of any size


class InputError(ValueError):
    r"""Something a user handed over (a file, a flag, a value in it) cannot be used.

    The message is one line that names the file or flag, says what is wrong and what was expected.
    Command lines print it on standard error and exit with status 2; library users may catch it.

    Names of files and values in them may hold line breaks and what terminals obey: such characters are
    escaped, and the middle of a very long message is left out.

    Example:
        >>> str(InputError("a\nb.npy: no such file; expected features"))
        'a\\nb.npy: no such file; expected features'
    """

    def __init__(self, message: str):
        if len(message) > _LONGEST:
            message = f"{message[: _LONGEST - 800]} ... {message[-795:]}"
        super().__init__("".join(c if c.isprintable() else _escaped(c) for c in message))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode()
