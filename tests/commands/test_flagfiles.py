"""Every file in experiments/flags resolves, and its header says how to run it and what to expect."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from absl import flags

from case_jax.commands import cli, inputs
from case_jax.config import CaseConfig, fields_of_role
from tests.conftest import ROOT

FLAGFILES = sorted((ROOT / "experiments" / "flags").glob("*.flags"))


def header_of(path: Path) -> list[str]:
    """The comments before the first flag."""
    lines = path.read_text().splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("--"))
    return [line.removeprefix("#").removeprefix(" ") for line in lines[:first]]


def command_of(path: Path) -> tuple[str, list[str]]:
    """The module that the header runs, and its arguments."""
    text = "\n".join(header_of(path)).replace("\\\n", " ")
    (command,) = re.findall(r"^ +python -m (\S+ .*)$", text, re.MULTILINE)
    module, *arguments = shlex.split(command)
    return module, arguments


def resolved(path: Path) -> flags.FlagValues:
    """The flags of the header's command."""
    module, arguments = command_of(path)
    command = importlib.import_module(module)
    command = getattr(command, "train", command)  # most modules of experiments/ only run a command
    if not hasattr(command, "define_flags"):
        command = importlib.import_module(f"{module}.__main__")
    given = flags.FlagValues()
    command.define_flags(given)
    (program,) = given([module, *arguments])  # everything is a flag that the command has
    assert program == module
    return given


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_the_command_in_the_header_resolves(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    _, arguments = command_of(path)
    assert f"--flagfile=experiments/flags/{path.name}" in arguments
    given = resolved(path)
    config = cli.config_from_flags(given)
    assert isinstance(config, CaseConfig)
    assert cli.tiou_from_flags(given)
    assert inputs.source(given) in ("synthetic", str(ROOT / "D"))  # one data set is named
    assert given.workdir == "W"


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_no_flag_is_given_twice(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"--\w+(=\S+)?", line) for line in lines)
    names = [line.removeprefix("--").removeprefix("no").partition("=")[0] for line in lines]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_the_header_says_what_it_makes_what_to_expect_and_what_it_takes(path):
    first, *lines = header_of(path)
    assert len(first) > 40
    for word in ("Expected", "Takes"):
        (line,) = [line for line in lines if line.startswith(f"{word}: ")]
        assert len(line) > len(f"{word}: ") + 10


@pytest.mark.parametrize("version", [12, 13])
def test_activitynets_flagfiles_say_whose_settings_they_are(version):
    """The paper does not publish its settings for ActivityNet."""
    path = ROOT / "experiments" / "flags" / f"activitynet{version}.flags"
    assert "SETTINGS OF SIBLING CODE: the paper's are not published" in header_of(path)[0]
    for flag in (
        "--top_k_divisor=4",
        "--class_threshold=0.1",
        "--tiou=0.5:0.95:0.05",
        "--feature_store=disk",
    ):
        assert flag in path.read_text().splitlines()


def test_every_class_is_a_choice_at_test_time_and_own_videos_take_it():
    given = {
        name: [
            line
            for line in (ROOT / "experiments" / "flags" / f"{name}.flags").read_text().splitlines()
            if line.startswith("--")
        ]
        for name in ("every_class", "own")
    }
    names = {line.removeprefix("--").partition("=")[0] for line in given["every_class"]}
    assert names <= set(fields_of_role("test"))
    assert set(given["every_class"]) <= set(given["own"])
