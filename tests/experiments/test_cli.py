import dataclasses
import json
import math
import subprocess
import sys
import typing

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from case_jax.config import CaseConfig
from case_jax.errors import InputError
from experiments import cli
from tests.conftest import ROOT

RANGE = st.lists(st.floats() | st.integers(), min_size=1, max_size=5).flatmap(
    lambda values: st.sampled_from([separator.join(map(str, values)) for separator in ":,"])
)


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
def test_parse_numbers_reads_ranges_and_lists(text, numbers):
    assert cli.parse_numbers("tiou", text) == numbers


@pytest.mark.parametrize(
    "text",
    ["", ",", "a", "0.1:0.7", "0.1:0.7:0", "0.1:0.7:-0.1", "0.7:0.1:0.1", "0:1:0.1:2", "0:inf:1", "0:1:1e-9"],
)
def test_parse_numbers_says_what_it_expected(text):
    with pytest.raises(InputError) as raised:
        cli.parse_numbers("tiou", text)
    assert str(raised.value) == (
        f'--tiou: is {text!r}; expected "first:last:step" or "a,b,c", for example 0.1:0.7:0.1'
    )


@settings(deadline=None)
@given(st.text() | st.text(alphabet="0123456789.:,-+e nifa_") | RANGE)
@example("-1e308:1e308:1")
@example("0:1:5e-324")
def test_parse_numbers_gives_floats_or_an_input_error(text):
    try:
        numbers = cli.parse_numbers("tiou", text)
    except InputError:
        return
    assert numbers
    assert all(type(number) is float for number in numbers)


def test_every_field_of_the_config_is_a_flag():
    changed = {field.name: _another_value(field) for field in dataclasses.fields(CaseConfig)}
    changed |= {"scc": True, "ccc": True}  # other values of other fields need these
    flags = [_as_flag(name, value) for name, value in changed.items()]
    result = _script(
        "cli.define_config_flags()",
        "cli.run(lambda: print(json.dumps(dataclasses.asdict(cli.config_from_flags()))))",
        flags=flags,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == json.loads(json.dumps(changed))
    assert CaseConfig(**changed) != CaseConfig()


def test_flags_have_the_defaults_of_the_config():
    result = _script(
        "cli.define_config_flags()", "cli.run(lambda: print(cli.config_from_flags() == CaseConfig()))"
    )
    assert result.stdout == "True\n", result.stderr


@pytest.mark.parametrize(
    "statement, status, stderr",
    [
        ("raise InputError('a.npy: is\\n  broken')", 2, "error: a.npy: is\\n broken\n"),
        (
            "raise KeyboardInterrupt",
            130,
            "interrupted\n",
        ),
        (
            "raise Interrupted(15, 'interrupted at step 7: saved')",
            143,
            "interrupted at step 7: saved\n",
        ),
        ("os.kill(os.getpid(), 2); time.sleep(600)", 130, "interrupted\n"),
        ("os.kill(os.getpid(), 15); time.sleep(600)", 143, "interrupted\n"),
        ("raise BrokenPipeError", 1, ""),
    ],
)
def test_run_turns_what_users_cause_into_a_line_and_a_status(statement, status, stderr):
    result = _script(f"def main():\n    {statement}", "cli.run(main)")
    assert (result.returncode, result.stdout, result.stderr) == (status, "", stderr)


def test_run_does_not_hide_bugs():
    result = _script("cli.run(lambda: 1 / 0)")
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr


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


def _script(*statements, flags=()):
    imports = [
        "import dataclasses, json, os, time",
        "from case_jax.config import CaseConfig",
        "from case_jax.errors import InputError",
        "from experiments import cli",
        "from case_jax.runs.signals import Interrupted",
    ]
    program = "\n".join([*imports, *statements])
    return subprocess.run(
        [sys.executable, "-c", program, *flags], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def test_an_interruption_does_not_get_lost_nor_lose_what_was_printed():
    """An exception in a callback of the garbage collector would be ignored; a worker goes, too."""
    result = _script(
        "import gc, multiprocessing",
        "def interrupt(*_):\n    os.kill(os.getpid(), 2)",
        "def main():\n"
        "    multiprocessing.get_context('spawn').Process(target=time.sleep, args=(600,)).start()\n"
        "    print('printed')\n"
        "    gc.callbacks.append(interrupt)\n"
        "    gc.collect()\n"
        "    time.sleep(600)",
        "cli.run(main)",
    )
    assert (result.returncode, result.stdout, result.stderr) == (130, "printed\n", "interrupted\n")
