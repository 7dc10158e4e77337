"""What every command line shares: errors and interruptions of one line, and settings from flags."""

import dataclasses
import re
import signal
import sys
import types
import typing
from collections.abc import Callable, Sequence

import numpy as np
from absl import app, flags, logging

from case_jax.config import CaseConfig
from case_jax.data.files import one_line
from case_jax.errors import InputError
from case_jax.runs.signals import end_on_signals

__all__ = ["config_from_flags", "define_config_flags", "parse_numbers", "require", "run", "tiou_from_flags"]


def run(main: Callable[[], None]) -> None:
    """Parses the flags and calls ``main``.

    Bad input becomes one line on stderr and exit status 2; Ctrl-C one line and 130, SIGTERM one and 143.
    """

    def guarded(argv: Sequence[str]) -> None:
        logging.set_verbosity(logging.FATAL)  # Orbax narrates every file it writes, and every one it cannot
        sys.unraisablehook = _report_unraisable
        end_on_signals()
        try:
            if len(argv) > 1:
                raise InputError(f"{argv[1]}: is no flag; expected only --flag=value arguments")
            main()
        except InputError as error:
            _fail(error)
        except KeyboardInterrupt as interrupt:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)  # a second one does not wait for what is left to do
            print(str(interrupt) or "interrupted", file=sys.stderr)
            sys.exit(128 + getattr(interrupt, "signal", signal.SIGINT))
        except BrokenPipeError:  # the reader of our output has gone, as in `... | head`
            sys.stderr.close()
            sys.exit(1)

    app.run(guarded, flags_parser=_parse)


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """As Python does, but for what follows from a failed save, which is reported once, as bad input.

    TensorStore's threads tell each write that did not succeed to an event loop that Orbax has closed by then.
    """
    if not (unraisable.exc_type is RuntimeError and str(unraisable.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.CantOpenFlagFileError as error:
        reason = str(error).removeprefix("ERROR:: Unable to open flagfile: ")
        _fail(InputError(f"--flagfile: cannot be opened ({reason}); expected a text file of flags"))
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        _fail(InputError(f"--flagfile: is no text ({reason}); expected a text file of flags"))
    except (flags.Error, OSError) as error:
        _fail(_explained(error))
    except ValueError as error:  # above all where a boolean flag is negated and has a value
        if match := re.fullmatch("--no(.*)=.* does not take an argument", str(error), re.DOTALL):
            _fail(InputError(f"--no{match[1]}: has a value; expected --{match[1]} or --no{match[1]}"))
        # What --stderrthreshold of absl itself says, or what no flagfile can be called.
        name = next((word for word in str(error).split() if word.startswith("--")), "--flagfile")
        _fail(InputError(f"{name}: cannot be used ({one_line(error)}); expected what --help says of it"))


def _explained(error: Exception) -> Exception:
    """An error of absl's parser in the words of ours: what is wrong, and what was expected."""
    text = str(error)
    if text == "--flagfile with no argument":
        return InputError("--flagfile: has no value; expected a text file of flags")
    if isinstance(error, flags.UnrecognizedFlagError):
        similar = re.search(r"Did you mean: ([\w.]+)", text)
        hint = f", such as --{similar[1]}" if similar else ""
        return InputError(f"--{error.flagname}: is no flag of this command; expected one of --help{hint}")
    if match := re.fullmatch(r"Missing value for flag -+(\w+)", text):
        return InputError(f"--{match[1]}: has no value; expected {_expected(match[1])}")
    if match := re.match(r"flag --(\w+)=", text):
        name, rest = match[1], text[match.end() :]
        return InputError(f"--{name}: is {_refused(name, rest)!r}; expected {_expected(name)}")
    return error


def _refused(name: str, text: str) -> str:
    """The value in "value: reason", either of which may hold colons."""
    for colon in re.finditer(": ", text):
        value, reason = text[: colon.start()], text[colon.end() :]
        try:
            flags.FLAGS[name].parser.parse(value)
        except (TypeError, ValueError) as error:
            if str(error) == reason:
                return value
    return text


def _expected(name: str) -> str:
    parser = flags.FLAGS[name].parser
    if isinstance(parser, flags.EnumParser):
        return "one of " + ", ".join(parser.enum_values)
    if isinstance(parser, flags.BooleanParser):
        return f"--{name} or --no{name}"
    help_text = parser.syntactic_help or "some text"
    return help_text if help_text.startswith(("a ", "an ", "some ")) else f"a {help_text}"


def _fail(error: Exception) -> typing.NoReturn:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def require(name: str, expected: str) -> str:
    """The value of a flag that must be given.

    Raises:
        InputError: if it was not.
    """
    value = flags.FLAGS[name].value
    if not value:
        raise InputError(f"--{name}: is missing; expected {expected}")
    return value


def parse_numbers(name: str, text: str) -> tuple[float, ...]:
    """Numbers from "first:last:step" (both ends included) or "a,b,c".

    Raises:
        InputError: if it is neither; ``name`` is the flag to blame.

    Example:
        >>> parse_numbers("tiou", "0.1:0.3:0.1"), parse_numbers("tiou", "0.5,0.75")
        ((0.1, 0.2, 0.3), (0.5, 0.75))
    """
    expected = 'expected "first:last:step" or "a,b,c", for example 0.1:0.7:0.1'
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            if not (step > 0 and np.isfinite([first, last, step]).all() and first <= last):
                raise ValueError
            count = int((last - first) / step + 1e-6) + 1
            if count > 10_000:
                raise ValueError
            # Rounding makes 0.1 + 2 * 0.1 the number that "0.3" is.
            return tuple(round(first + i * step, 10) for i in range(count))
        return tuple(float(part) for part in text.split(","))
    except (ValueError, OverflowError):
        raise InputError(f"--{name}: is {text!r}; {expected}") from None


def tiou_from_flags() -> tuple[float, ...]:
    """The thresholds of the flag --tiou.

    Raises:
        InputError: if it holds no numbers, or one that is no tIoU.
    """
    text = flags.FLAGS["tiou"].value
    thresholds = parse_numbers("tiou", text)
    if not all(0 < t <= 1 for t in thresholds):
        raise InputError(f"--tiou: is {text!r}; expected thresholds above 0 and up to 1")
    return thresholds


def define_config_flags() -> None:
    """One flag per field of `CaseConfig`, with its default."""
    for field in dataclasses.fields(CaseConfig):
        kind = field.type
        help_text = "see case_jax/config.py"
        if typing.get_origin(kind) is typing.Literal:
            flags.DEFINE_enum(field.name, field.default, list(typing.get_args(kind)), help_text)
        elif isinstance(kind, types.GenericAlias):
            default = ",".join(f"{v:g}" for v in field.default)
            flags.DEFINE_string(field.name, default, help_text + '; "first:last:step" or "a,b,c"')
        else:
            define = {
                int: flags.DEFINE_integer,
                float: flags.DEFINE_float,
                bool: flags.DEFINE_boolean,
            }[kind]
            define(field.name, field.default, help_text)


def config_from_flags() -> CaseConfig:
    """The config that the flags describe.

    Raises:
        InputError: if a value is out of range.
    """
    values = {}
    for field in dataclasses.fields(CaseConfig):
        value = flags.FLAGS[field.name].value
        if isinstance(field.type, types.GenericAlias):
            value = parse_numbers(field.name, value)
        values[field.name] = value
    return CaseConfig(**values)
