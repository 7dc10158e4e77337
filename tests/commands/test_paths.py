"""A leading ~ is the home folder, in every flag that names a path."""

import importlib
import pwd

import pytest
from absl import flags as absl_flags

from case_jax.commands import COMMANDS, paths
from tests.helpers.commands import refuse_here, succeed_here
from tests.helpers.refusals import assert_parts, refusal

# Flags of texts that are no paths.
TEXTS = {
    *("alarm_scores", "coordinator", "exclude", "fps", "holdout", "holdout_group", "proposal_thresholds"),
    *("score_thresholds", "subset", "test_subset", "tiou", "train_subset"),
}


def parsed(*arguments: str) -> absl_flags.FlagValues:
    given = absl_flags.FlagValues()
    for name in ("output", "predictions", "subset"):
        absl_flags.DEFINE_string(name, None, "a text", flag_values=given)
    given(["command", *arguments])
    return given


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "given, expected",
    [
        ("~", "{}"),
        ("~/runs/W", "{}/runs/W"),
        ("~root/W", f"{pwd.getpwnam('root').pw_dir}/W"),
        ("./~", "./~"),
        ("a~", "a~"),
        ("/x/~/y", "/x/~/y"),
        ("~/a,~/b", "{}/a,~/b"),  # one path, with a comma in its name
    ],
)
def test_a_leading_tilde_is_the_home_folder(home, given, expected):
    flags = parsed(f"--output={given}", f"--subset={given}")
    paths.expand(flags)
    assert flags.output == expected.replace("{}", str(home))
    assert (flags.subset, flags.predictions) == (given, None)


def test_each_of_several_paths_is_expanded(home):
    flags = parsed("--predictions=~/a.json,b.json,~/c-*.json")
    paths.expand(flags)
    assert flags.predictions == f"{home}/a.json,b.json,{home}/c-*.json"


def test_an_unknown_user_is_refused():
    flags = parsed("--output=~no-such-user/W")
    assert_parts(refusal(paths.expand, flags), "--output", "'~no-such-user/W' … no user", "./~no-such-user/W")


def test_commands_and_flagfiles_expand_paths(home, tmp_path):
    flagfile = tmp_path / "my.flags"
    flagfile.write_text("--output=~/D\n")
    succeed_here("synthesize", f"--flagfile={flagfile}", "--num_train=1", "--num_test=1")
    assert (home / "D" / "gt.json").exists()
    assert_parts(refuse_here("check", "--data_dir=~/gone"), home / "gone", "no such folder", "data set")


@pytest.mark.parametrize("name", [*COMMANDS, "experiments.ablations.__main__"])
def test_every_text_is_a_path_or_is_not(name):
    command = importlib.import_module(name if "." in name else f"case_jax.commands.{name}")
    given = absl_flags.FlagValues()
    command.define_flags(given)
    texts = {flag for flag in given if given[flag].flag_type() == "string"}
    assert texts - TEXTS - paths.PATHS - paths.LISTS == set()
