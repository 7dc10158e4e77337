"""Variables of the environment that would change what a seed means, or that jax cannot read."""

import enum
import os
import subprocess
import sys

import jax
import pytest
from flax import configurations
from jax._src import config

from case_jax.commands import jax_variables
from case_jax.commands.jax_variables import NUMBERS, overrule, platform_missing, unreadable
from tests.conftest import ROOT
from tests.helpers.commands import refusal, run_here, run_process
from tests.helpers.refusals import assert_parts

# What the tests' session itself sets.
STRICT = {"jax_numpy_rank_promotion", "jax_numpy_dtype_promotion"}


@pytest.fixture
def settings():
    """JAX's options in `NUMBERS`, which are restored afterwards."""
    before = {option: jax.config.values[option] for option in NUMBERS}
    yield before
    for option, value in before.items():
        if option not in STRICT:
            jax.config.update(option, value)


def test_the_values_are_those_of_jax(settings):
    assert {option: value for option, value in settings.items() if option not in STRICT} == {
        option: value for option, value in NUMBERS.items() if option not in STRICT
    }


OTHERS = {
    "jax_enable_x64": ("1", True),
    "jax_default_prng_impl": ("rbg", "rbg"),
    "jax_threefry_partitionable": ("0", False),
    "jax_random_seed_offset": ("7", 7),
    "jax_default_matmul_precision": ("bfloat16", "bfloat16"),
    "jax_debug_nans": ("true", True),
    "jax_disable_most_optimizations": ("1", True),
}


SAME = {"jax_enable_x64": "Off", "jax_threefry_partitionable": "1", "jax_random_seed_offset": "0"}


@pytest.mark.parametrize("option", OTHERS)
def test_a_variable_is_overruled_with_a_word(settings, monkeypatch, option):
    text, value = OTHERS[option]
    monkeypatch.setenv(option.upper(), text)
    jax.config.update(option, value)  # as JAX does where it is imported
    said = []
    overrule(said.append)
    assert jax.config.values[option] == NUMBERS[option]
    assert option.upper() not in os.environ  # so that no worker process reads it
    assert said == [f"{option.upper()}={text}: is not heeded; a seed means the same numbers everywhere"]
    overrule(said.append)
    assert len(said) == 1


def test_what_changes_nothing_is_left_alone_without_a_word(settings, monkeypatch):
    for option, text in SAME.items():
        monkeypatch.setenv(option.upper(), text)
    monkeypatch.setenv("JAX_LOG_COMPILES", "0")
    overrule(lambda line: pytest.fail(line))
    assert "JAX_LOG_COMPILES" in os.environ


BAD = {"JAX_ENABLE_X64": "maybe", "JAX_NUMPY_RANK_PROMOTION": "foo", "JAX_DEFAULT_PRNG_IMPL": "foo"}


def test_variables_that_jax_cannot_read_are_taken_away_before_it_is_imported(environment):
    """In a process of its own: jax would end the import in a stack trace. A worker would, too."""
    program = (
        "import os, case_jax.commands, case_jax.commands.localize\n"
        "import jax, matplotlib\n"
        "from case_jax.commands.jax_variables import NUMBERS, overrule\n"
        "assert not [option for option in NUMBERS if option.upper() in os.environ]\n"
        "assert jax.config.jax_enable_x64 is False\n"
        "overrule(print)"
    )
    arguments = [sys.executable, "-c", program]
    ended = subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment | BAD | {"MPLBACKEND": "foo", "JAX_HLO_SOURCE_FILE_CANONICALIZATION_REGEX": "("},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    heeded = {line.partition(": is not heeded")[0] for line in ended.stdout.splitlines()}
    assert heeded == {f"{name}={text}" for name, text in BAD.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_command_refuses_as_ever_where_such_a_variable_is_set(name, environment):
    ended = run_process("localize", environment={**environment, name: BAD[name]})
    assert ended.returncode == 2
    said, refused = ended.stderr.splitlines()
    assert said == f"{name}={BAD[name]}: is not heeded; a seed means the same numbers everywhere"
    assert refused.startswith("error: --")


class Mode(enum.Enum):
    FAST = "fast"
    EXACT = "exact"


# What reads a variable that is "foo" -> what is expected of it.
READERS = {
    "bool_env": (lambda: config.bool_env("JAX_FOO", True), "true or false"),
    "int_env": (lambda: config.int_env("JAX_FOO", 1), "a whole number"),
    "bool": (lambda: config.bool_state("jax_foo", True, ""), "true or false"),
    "int": (lambda: config.int_state("jax_foo", 1, ""), "a whole number"),
    "float": (lambda: config.float_state("jax_foo", 1.0, ""), "a number"),
    "enum": (lambda: config.enum_state("jax_foo", ["a", "b"], "a", ""), "one of a, b"),
    "optional enum": (lambda: config.optional_enum_state("jax_foo", ["a", "b"], None, ""), "one of a, b"),
    "enum of a class": (
        lambda: config.enum_class_state("jax_foo", Mode, Mode.FAST, ""),
        "one of fast, exact",
    ),
    "a hook": (
        lambda: config.string_state("jax_foo", "a", "", update_global_hook=int),
        "a value that jax takes",
    ),
    "flax bool": (lambda: configurations.static_bool_env("JAX_FOO", True), "true or false"),
    "flax int": (lambda: configurations.static_int_env("JAX_FOO", 1), "a whole number"),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_variable_that_cannot_be_read_is_named(reader, monkeypatch):
    read, expected = READERS[reader]
    monkeypatch.setenv("JAX_FOO", "foo")
    with pytest.raises(ValueError) as raised:
        read()
    assert_parts(str(unreadable(raised.value)), "JAX_FOO", "is 'foo'", f"{expected}, or no such variable")


def test_the_values_that_are_named_are_those_that_jax_takes():
    classes = [facts["enum_class"] for kind, _, facts in jax.config.meta.values() if kind == "enum_class"]
    assert classes
    for members in classes:
        words = jax_variables._expected("", {"enum_class": members}).removeprefix("one of ").split(", ")
        assert [members(word) for word in words] == list(members)


def test_other_errors_are_reported_as_ever(monkeypatch):
    reported = []
    monkeypatch.setattr(jax_variables, "_report_as_before", lambda *error: reported.append(error))
    with pytest.raises(ValueError) as raised:  # of jax, but not about a variable
        jax.config.update("jax_numpy_rank_promotion", "foo")
    error = (ValueError, raised.value, raised.tb)
    jax_variables._report(*error)
    assert reported == [error]


HELP = "from case_jax.commands import main; main(['case-jax', 'train', '--help'])"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["-m", "benchmarks.sinkhorn"], id="a benchmark"),
        pytest.param(["-m", "experiments.thumos", "--synthetic"], id="a command", marks=pytest.mark.slow),
        pytest.param(["-c", HELP], id="help", marks=pytest.mark.slow),
    ],
)
def test_a_program_says_so_in_one_line(arguments, environment):
    """In a process of its own, which ends while it imports jax."""
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment | {"JAX_LOG_COMPILES": "foo"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert_parts(refusal(ended), "JAX_LOG_COMPILES", "is 'foo'", "true or false")


def test_commands_say_so_on_standard_error(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_RANDOM_SEED_OFFSET", "7")
    jax.config.update("jax_random_seed_offset", 7)
    ended = run_here("synthesize", f"--output={tmp_path}", "--num_train=1", "--num_test=1")
    assert ended.returncode == 0
    assert ended.stderr.startswith("JAX_RANDOM_SEED_OFFSET=7: is not heeded")


def test_other_errors_are_not_about_platforms():
    assert platform_missing(ValueError("Unable to initialize backend 'cuda'")) is None
    assert platform_missing(RuntimeError("something else")) is None
    with pytest.raises(AssertionError) as raised:
        raise AssertionError
    assert platform_missing(raised.value) is None


def test_the_older_variable_of_platforms_is_named():
    before = jax.config.values["jax_platform_name"]
    jax.config.update("jax_platform_name", "foo")
    try:
        message = str(platform_missing(RuntimeError("Unknown backend foo. Available backends are ['cpu']")))
    finally:
        jax.config.update("jax_platform_name", before)
    assert_parts(message, "JAX_PLATFORM_NAME", "is 'foo' … ['cpu']", "no such variable")


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["cuda", "tpu"])
def test_a_platform_that_is_not_there_is_named_before_any_work(asked, environment):
    """In a process of its own, because this one has started its devices."""
    ended = run_process("thumos", "--synthetic", environment={**environment, "JAX_PLATFORMS": asked})
    message = refusal(ended)
    if asked == "cuda" and "no such device" not in message:
        pytest.skip("an NVIDIA GPU, or its software, is here")
    assert_parts(message, "JAX_PLATFORMS", f"is {asked!r} … not start", "cpu")


def test_a_platform_is_asked_for_only_where_it_is_named(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda: pytest.fail("started"))
    for asked in ("", "cpu"):
        monkeypatch.setenv("JAX_PLATFORMS", asked)
        jax_variables.start_devices()
