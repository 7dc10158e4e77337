"""What all commands share: the parsing of flags, the one line of an error, and settings from flags."""

import contextlib
import dataclasses
import io
import re
import signal
import sys
import types
import typing
from collections.abc import Sequence

import numpy as np
from absl import flags, logging

from case_jax.commands import jax_variables, paths, surroundings
from case_jax.config import CaseConfig, choices_of, fields_of_role, help_of
from case_jax.data.files import one_line
from case_jax.errors import InputError
from case_jax.runs.signals import ENDING, end_on_signals, end_program

__all__ = [
    "Command",
    "config_from_flags",
    "define_config_flags",
    "define_test_time_flags",
    "parse_numbers",
    "require",
    "run",
    "tiou_from_flags",
    "with_test_time_flags",
]


class Command(typing.Protocol):
    """A module of a command. Its docstring is what --help prints first."""

    def define_flags(self, given: flags.FlagValues) -> None:
        """Defines the command's flags on ``given``."""

    def main(self, given: flags.FlagValues) -> None:
        """Runs the command with the flags that were given."""


def run(command: Command, argv: Sequence[str] | None = None) -> None:
    """Parses flags and runs a command; returns only if it succeeds.

    Bad input prints one line on standard error and exits with status 2, and so does what the surroundings
    lack, such as memory. Ctrl-C prints one line and exits with 130, SIGTERM with 143, SIGHUP with 129.

    A ~ at the beginning of a path is the home folder, and variables of the environment that would change what
    a seed means are overruled.

    Args:
        command: the module of the command.
        argv: the program's name and its arguments; default ``sys.argv``.

    Raises:
        SystemExit: in all other cases.
    """
    _quieten()
    end_on_signals()
    given = None
    try:
        given = _parse(command, sys.argv if argv is None else argv)
        paths.expand(given)
        jax_variables.overrule(lambda line: print(line, file=sys.stderr))
        if not ("coordinator" in given and given.coordinator):  # the processes have to meet first
            jax_variables.start_devices()
        command.main(given)
        _flush()
    except InputError as error:
        _fail(surroundings.with_limit(error))
    except KeyboardInterrupt as interrupt:
        for number in ENDING:
            signal.signal(number, signal.SIG_DFL)  # a second signal does not wait for what is left to do
        with contextlib.suppress(OSError):  # after SIGHUP there may be no terminal
            print(str(interrupt) or "interrupted", file=sys.stderr)
        sys.exit(128 + getattr(interrupt, "signal", signal.SIGINT))
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head`
        sys.stderr.close()
        _close_output()
        sys.exit(1)
    except Exception as error:
        line = surroundings.explained(error, given)
        if line is None:
            raise
        _fail(line)


def _quieten() -> None:
    """Silences reports that would repeat what a command says in its one line, and lets it print all names."""
    logging.use_absl_handler()
    logging.set_verbosity(logging.FATAL)  # Orbax narrates every file that it writes, and every one it cannot
    sys.unraisablehook = _report_unraisable
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may have what it cannot print
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # grain's workers read flags of their own from absl's global ones


def _report_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Reports as Python does, except what follows from a failed save.

    TensorStore's threads tell each write that failed to an event loop that Orbax has closed by then. The
    failed save itself is reported once, as bad input.
    """
    if not (unraisable.exc_type is RuntimeError and str(unraisable.exc_value) == "Event loop is closed"):
        sys.__unraisablehook__(unraisable)


def _parse(command: Command, argv: Sequence[str]) -> flags.FlagValues:
    """The flags of a command line; prints the command's help and exits where --help is among them."""
    given = flags.FlagValues()
    command.define_flags(given)
    flags.DEFINE_boolean("help", False, "print this help", short_name="?", flag_values=given)
    flags.DEFINE_boolean("helpfull", False, "the same as --help", flag_values=given)
    try:
        program, *rest = given(argv)
    except flags.CantOpenFlagFileError as error:
        reason = str(error).removeprefix("ERROR:: Unable to open flagfile: ")
        _fail(InputError(f"--flagfile: cannot be opened ({reason}); expected a text file of flags"))
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        _fail(InputError(f"--flagfile: is not text ({reason}); expected a text file of flags"))
    except (flags.Error, OSError) as error:
        _fail(_explained(error, given))
    except ValueError as error:  # above all where a boolean flag is negated and has a value
        if match := re.fullmatch("--no(.*)=.* does not take an argument", str(error), re.DOTALL):
            _fail(InputError(f"--no{match[1]}: has a value; expected --{match[1]} or --no{match[1]}"))
        # What no flagfile can be called.
        name = next((word for word in str(error).split() if word.startswith("--")), "--flagfile")
        _fail(InputError(f"{name}: cannot be used ({one_line(error)}); expected what --help says of it"))
    if given.help or given.helpfull:
        print(_help(command, given, program), flush=True)
        sys.exit(0)
    if rest:
        _fail(InputError(f"{rest[0]}: is not a flag; expected only --flag=value arguments"))
    return given


def _help(command: Command, given: flags.FlagValues, program: str) -> str:
    """The command's docstring, and its flags in the order in which they are defined."""
    lines = []
    for flag in sorted({given[name] for name in given}, key=lambda flag: list(given).index(flag.name)):
        value = "" if isinstance(flag.parser, flags.BooleanParser) else f"={_default(flag)}"
        sign = "[no]" if isinstance(flag.parser, flags.BooleanParser) else ""
        lines.append(f"  --{sign}{flag.name}{value}\n      {flag.help}")
    return "\n".join([(command.__doc__ or "").strip(), "", f"Flags of {program}:", "", *lines])


def _default(flag: flags.Flag) -> str:
    if isinstance(flag.parser, flags.EnumParser):
        return "|".join(flag.parser.enum_values)
    return "..." if flag.default is None else str(flag.default_as_str).strip("'")


def _explained(error: Exception, given: flags.FlagValues) -> Exception:
    """An error of absl's parser in the words of ours: what is wrong, and what was expected."""
    text = str(error)
    if text == "--flagfile with no argument":
        return InputError("--flagfile: has no value; expected a text file of flags")
    if isinstance(error, flags.UnrecognizedFlagError):
        similar = re.search(r"Did you mean: ([\w.]+)", text)
        hint = f", such as --{similar[1]}" if similar else ""
        return InputError(f"--{error.flagname}: is not a flag of this command; expected one of --help{hint}")
    if match := re.fullmatch(r"Missing value for flag -+(\w+)", text):
        return InputError(f"--{match[1]}: has no value; expected {_expected(match[1], given)}")
    if match := re.match(r"flag --(\w+)=", text):
        name, rest = match[1], text[match.end() :]
        return InputError(f"--{name}: is {_refused(name, rest, given)!r}; expected {_expected(name, given)}")
    return error


def _refused(name: str, text: str, given: flags.FlagValues) -> str:
    """The value in "value: reason", either of which may hold colons."""
    for colon in re.finditer(": ", text):
        value, reason = text[: colon.start()], text[colon.end() :]
        try:
            given[name].parser.parse(value)
        except (TypeError, ValueError) as error:
            if str(error) == reason:
                return value
    return text


def _expected(name: str, given: flags.FlagValues) -> str:
    parser = given[name].parser
    if isinstance(parser, flags.EnumParser):
        return "one of " + ", ".join(parser.enum_values)
    if isinstance(parser, flags.BooleanParser):
        return f"--{name} or --no{name}"
    help_text = parser.syntactic_help or "some text"
    return help_text if help_text.startswith(("a ", "an ", "some ")) else f"a {help_text}"


def _flush() -> None:
    """Writes what is printed while an error can still be reported as others are."""
    if sys.stdout is not None:  # as with >&- in a shell
        sys.stdout.flush()


def _close_output() -> None:
    """Gives up standard output where it cannot be written. Python would try again at its end."""
    try:
        _flush()
    except OSError:
        with contextlib.suppress(OSError):
            sys.stdout.close()


def _fail(error: Exception) -> typing.NoReturn:
    line = f"error: {' '.join(str(error).split())}"
    if isinstance(error, surroundings.LimitReached):
        end_program(2, line)
    _close_output()
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr)
    sys.exit(2)


def require(given: flags.FlagValues, name: str, expected: str) -> str:
    """The value of a flag that must be given.

    Args:
        given: the flags of the command.
        name: of the flag.
        expected: what the flag should hold, for the message.

    Raises:
        InputError: if the flag is missing or empty.
    """
    value = given[name].value
    if not value:
        raise InputError(f"--{name}: is missing; expected {expected}")
    return value


def parse_numbers(name: str, text: str) -> tuple[float, ...]:
    """Numbers from "first:last:step" (both ends included) or "a,b,c".

    Args:
        name: of the flag that a message names.
        text: its value.

    Raises:
        InputError: if ``text`` has neither form.

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


def tiou_from_flags(given: flags.FlagValues) -> tuple[float, ...]:
    """The tIoU thresholds of the flag --tiou.

    Raises:
        InputError: if the flag holds no numbers, or a number that is not a tIoU.
    """
    thresholds = parse_numbers("tiou", given.tiou)
    if not all(0 < t <= 1 for t in thresholds):
        raise InputError(f"--tiou: is {given.tiou!r}; expected thresholds above 0 and up to 1")
    return thresholds


def define_config_flags(given: flags.FlagValues) -> None:
    """Defines one flag for each field of `CaseConfig`, with the field's default."""
    for field in dataclasses.fields(CaseConfig):
        _define_config_flag(given, field, field.default, help_of(field.name))


def define_test_time_flags(given: flags.FlagValues) -> None:
    """Defines a flag for each field of `CaseConfig` that may be tried on a trained run, without a default."""
    at_test_time = fields_of_role("test")
    for field in dataclasses.fields(CaseConfig):
        if field.name in at_test_time:
            help_text = f"{help_of(field.name)}; default as the run's settings say"
            _define_config_flag(given, field, None, help_text)


def with_test_time_flags(config: CaseConfig, given: flags.FlagValues) -> CaseConfig:
    """A trained run's config with the test-time settings that the flags of `define_test_time_flags` name.

    Raises:
        InputError: if a value is out of range, or does not suit the run.
    """
    asked: dict[str, typing.Any] = {}
    for name in fields_of_role("test"):
        if (value := getattr(given, name)) is not None:
            numbers = isinstance(getattr(config, name), tuple)
            asked[name] = parse_numbers(name, value) if numbers else value
    return dataclasses.replace(config, **asked)


def _define_config_flag(
    given: flags.FlagValues, field: dataclasses.Field, default: typing.Any, help_text: str
) -> None:
    kind: typing.Any = field.type
    if choices := choices_of(field.name):
        flags.DEFINE_enum(field.name, default, choices, help_text, flag_values=given)
    elif isinstance(kind, types.GenericAlias):
        numbers = None if default is None else ",".join(f"{v:g}" for v in default)
        help_text += '; "first:last:step" or "a,b,c"'
        flags.DEFINE_string(field.name, numbers, help_text, flag_values=given)
    else:
        define: typing.Any = {
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            bool: flags.DEFINE_boolean,
        }[kind]
        define(field.name, default, help_text, flag_values=given)


def config_from_flags(given: flags.FlagValues) -> CaseConfig:
    """The config that the flags describe.

    Raises:
        InputError: if a value is out of range, or two values contradict each other.
    """
    values: dict[str, typing.Any] = {}
    for field in dataclasses.fields(CaseConfig):
        value = getattr(given, field.name)
        if isinstance(field.type, types.GenericAlias):
            value = parse_numbers(field.name, value)
        values[field.name] = value
    return CaseConfig(**values)
