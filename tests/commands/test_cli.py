import contextlib
import dataclasses
import importlib
import math
import os
import runpy
import signal
import subprocess
import sys
import typing

import pytest
from absl import flags as absl_flags
from hypothesis import example, given, settings
from hypothesis import strategies as st

from case_jax import __version__
from case_jax import commands as case_jax_commands
from case_jax.commands import COMMANDS, cli
from case_jax.config import CaseConfig, help_of
from case_jax.errors import InputError
from case_jax.runs.signals import ENDING, Interrupted
from tests.conftest import ROOT
from tests.helpers.commands import Ended, interruptible, refusal, run_here, run_process, succeed_here
from tests.helpers.refusals import assert_parts

RANGE = st.builds(
    lambda separator, values: separator.join(map(str, values)),
    st.sampled_from(":,"),
    st.lists(st.floats() | st.integers(), min_size=1, max_size=5),
)


# Numbers


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("0.1:0.7:0.1", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)),
        ("0.5:0.95:0.05", (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)),
        ("0.1:0.35:0.1", (0.1, 0.2, 0.3)),
        ("0.5:0.5:1", (0.5,)),
        ("0.5", (0.5,)),
        ("0.75, 0.5", (0.75, 0.5)),
    ],
)
def test_ranges_and_lists_are_numbers(text, numbers):
    assert cli.parse_numbers("tiou", text) == numbers


@pytest.mark.parametrize(
    "text",
    ["", ",", "a", "0.1:0.7", "0.1:0.7:0", "0.1:0.7:-0.1", "0.7:0.1:0.1", "0:1:0.1:2", "0:inf:1", "0:1:1e-9"],
)
def test_other_texts_are_not_numbers(text):
    with pytest.raises(InputError) as raised:
        cli.parse_numbers("tiou", text)
    assert_parts(str(raised.value), "--tiou", repr(text), '"first:last:step" … "a,b,c" … 0.1:0.7:0.1')


@settings(deadline=None, max_examples=50)
@given(st.text() | st.text(alphabet="0123456789.:,-+e nifa_") | RANGE)
@example("-1e308:1e308:1")
@example("0:1:5e-324")
def test_any_text_gives_floats_or_an_input_error(text):
    try:
        numbers = cli.parse_numbers("tiou", text)
    except InputError:
        return
    assert numbers
    assert all(type(number) is float for number in numbers)


# The config's flags


def config_of(*arguments: str) -> CaseConfig:
    given = absl_flags.FlagValues()
    cli.define_config_flags(given)
    given(["program", *arguments])
    return cli.config_from_flags(given)


def test_every_field_of_the_config_is_a_flag():
    changed = {field.name: _another_value(field) for field in dataclasses.fields(CaseConfig)}
    changed |= {"scc": True, "ccc": True}  # values of other fields need these two
    config = config_of(*(_as_flag(name, value) for name, value in changed.items()))
    assert config == CaseConfig(**changed)
    assert config != CaseConfig()


def test_flags_have_the_defaults_of_the_config():
    assert config_of() == CaseConfig()


def _another_value(field):
    """A valid value that is not the default."""
    kind, default = field.type, field.default
    if typing.get_origin(kind) is typing.Literal:
        return next(choice for choice in reversed(typing.get_args(kind)) if choice != default)
    if kind is bool:
        return not default
    if kind in (int, float):
        return default + 1 if kind is int else math.ldexp(default, -1) or 0.5
    return default[:2]


def _as_flag(name, value):
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}=" + (",".join(map(str, value)) if isinstance(value, tuple) else str(value))


# What `run` makes of the way a command ends


class Made(typing.NamedTuple):
    """A command without flags."""

    main: typing.Callable
    define_flags: typing.Callable = lambda given: None


def ended(monkeypatch, main, *arguments: str) -> Ended:
    """What a command that is only a function leaves."""
    monkeypatch.setitem(sys.modules, "made.command", Made(lambda given: main()))
    return run_here("made.command", *arguments)


def _raise(error):
    raise error


@pytest.mark.parametrize(
    "main, status, stderr",
    [
        (lambda: _raise(InputError("a.npy: is\n  broken")), 2, "error: a.npy: is\\n broken\n"),
        (lambda: _raise(KeyboardInterrupt), 130, "interrupted\n"),
        (
            lambda: _raise(Interrupted(15, "interrupted at step 7: saved")),
            143,
            "interrupted at step 7: saved\n",
        ),
    ],
)
def test_run_turns_what_users_cause_into_a_line_and_a_status(monkeypatch, main, status, stderr):
    assert ended(monkeypatch, main) == (status, "", stderr)


def test_run_does_not_hide_bugs(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        ended(monkeypatch, lambda: 1 / 0)


def test_a_run_after_the_first_has_flags_of_its_own(monkeypatch):
    """No flag is global: each run parses its own."""
    seen = []

    class Command:
        __doc__ = "Counts."

        @staticmethod
        def define_flags(given):
            absl_flags.DEFINE_integer("n", 1, "a number", flag_values=given)

        @staticmethod
        def main(given):
            seen.append(given.n)

    for arguments in (["--n=2"], []):
        cli.run(Command, ["counts", *arguments])
    assert seen == [2, 1]


def _script(program: str) -> Ended:
    imports = "import os, time\nfrom case_jax.commands import cli\n"
    command = "class Command:\n    define_flags = lambda given: None\n    main = lambda given: main()\n"
    result = subprocess.run(
        interruptible("-c", f"{imports}{command}{program}\ncli.run(Command)"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ended(result.returncode, result.stdout, result.stderr)


@pytest.mark.parametrize(
    "statement, expected",
    [
        ("os.kill(os.getpid(), 2); time.sleep(600)", (130, "", "interrupted\n")),
        ("os.kill(os.getpid(), 15); time.sleep(600)", (143, "", "interrupted\n")),
        ("os.kill(os.getpid(), 1); time.sleep(600)", (129, "", "interrupted\n")),
        ("raise BrokenPipeError", (1, "", "")),
    ],
)
def test_a_signal_ends_a_process_in_one_line_and_a_closed_pipe_in_none(statement, expected):
    assert _script(f"def main():\n    {statement}") == expected


def test_an_interruption_does_not_get_lost_nor_lose_what_was_printed():
    """Python ignores exceptions in callbacks of the garbage collector. A worker process ends, too."""
    result = _script(
        "import gc, multiprocessing\n"
        "def interrupt(*_):\n    os.kill(os.getpid(), 2)\n"
        "def main():\n"
        "    multiprocessing.get_context('spawn').Process(target=time.sleep, args=(600,)).start()\n"
        "    print('printed')\n"
        "    gc.callbacks.append(interrupt)\n"
        "    gc.collect()\n"
        "    time.sleep(600)"
    )
    assert result == (130, "printed\n", "interrupted\n")


# Help, and the two ways to run a command


@pytest.mark.parametrize("name", COMMANDS)
def test_help_prints_the_docstring_and_every_flag(name):
    printed = succeed_here(name, "--help")
    command = cli_module(name)
    assert printed.startswith(command.__doc__.strip())
    given = absl_flags.FlagValues()
    command.define_flags(given)
    for flag in {given[name] for name in given}:
        assert f"  --{flag.name}=" in printed or f"  --[no]{flag.name}\n" in printed
        assert flag.help in printed
    if "hidden_dim" in given:
        assert help_of("hidden_dim") in printed


def cli_module(name: str):
    return importlib.import_module(f"case_jax.commands.{name}")


@contextlib.contextmanager
def handlers_kept():
    """Signals are handled as before afterwards."""
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def case_jax(capsys, *arguments: str) -> Ended:
    """What `case-jax ARGUMENTS` leaves, run in this process."""
    status = 0
    with handlers_kept():
        try:
            case_jax_commands.main(["case-jax", *arguments])
        except SystemExit as end:
            status = end.code
    return Ended(status, *capsys.readouterr())


def test_case_jax_lists_its_commands(capsys):
    for word in ("--help", "-h", "help"):
        status, printed, errors = case_jax(capsys, word)
        assert (status, errors) == (0, "")
        lines = [line.split() for line in printed.splitlines() if line.startswith("  ")]
        assert [line[0] for line in lines] == list(COMMANDS)
        assert all(len(line) > 3 for line in lines)
    assert case_jax(capsys, "--version") == (0, f"case_jax {__version__}\n", "")


@pytest.mark.parametrize("arguments, named", [((), "case-jax"), (("trane",), "trane"), (("cli",), "cli")])
def test_case_jax_refuses_other_commands(capsys, arguments, named):
    assert_parts(refusal(case_jax(capsys, *arguments)), named, "command", ", ".join(COMMANDS))


MODULES = [*COMMANDS.items(), ("train", "activitynet")]


def assert_helps(ended: Ended, name: str, module: str) -> None:
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(cli_module(name).__doc__.strip())
    assert f"experiments/{module}.py:" in ended.stdout


@pytest.mark.parametrize("name, module", MODULES)
def test_every_command_runs_from_a_checkout(name, module, capsys, monkeypatch):
    """In this process, as the main module."""
    monkeypatch.setattr(sys, "argv", ["-m", "--help"])
    monkeypatch.delitem(sys.modules, f"experiments.{module}", raising=False)
    with handlers_kept(), pytest.raises(SystemExit) as end:
        runpy.run_module(f"experiments.{module}", run_name="__main__", alter_sys=True)
    assert_helps(Ended(end.value.code, *capsys.readouterr()), name, module)


def test_a_command_runs_in_a_process_from_a_checkout(environment):
    ended = run_process("evaluate", "--help", environment=environment)
    assert_helps(Ended(ended.returncode, ended.stdout, ended.stderr), "evaluate", "evaluate")


def test_the_console_script_runs_commands(environment):
    program = os.path.join(os.path.dirname(sys.executable), "case-jax")
    if not os.path.exists(program):
        pytest.skip("case-jax is not installed")
    result = subprocess.run(
        [program, "evaluate", "--tiou=2"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert_parts(refusal(result), "--ground_truth", "missing", "path")
