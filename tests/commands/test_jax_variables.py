"""Variables of the environment that would change what a seed means."""

import os
import subprocess
import sys

import jax
import pytest

from case_jax.commands import jax_variables
from case_jax.commands.jax_variables import NUMBERS, overrule, platform_missing
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
        "import jax\n"
        "from case_jax.commands.jax_variables import NUMBERS, overrule\n"
        "assert not [option for option in NUMBERS if option.upper() in os.environ]\n"
        "assert jax.config.jax_enable_x64 is False\n"
        "overrule(print)"
    )
    arguments = [sys.executable, "-c", program]
    ended = subprocess.run(
        arguments, cwd=ROOT, env=environment | BAD, capture_output=True, text=True, timeout=60
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
