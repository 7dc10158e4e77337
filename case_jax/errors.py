"""The one error that bad user input raises."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something a user handed over (a file, a flag, a value in it) cannot be used.

    The message is one line that names the file or flag, says what is wrong and what was expected.
    Command lines print it on standard error and exit with status 2; library users may catch it.
    """
