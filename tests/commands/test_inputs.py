import pytest
from absl import flags as absl_flags
from rich.console import Console

from case_jax.commands import hardware, inputs
from case_jax.commands.progress import ConsoleNarrator
from case_jax.config import CaseConfig
from case_jax.errors import InputError
from case_jax.runs.settings import TIOU
from tests.helpers.refusals import assert_parts


def parsed(*arguments: str, num_seeds: int = 1) -> absl_flags.FlagValues:
    given = absl_flags.FlagValues()
    inputs.define_flags(given, num_seeds=num_seeds)
    hardware.define_flags(given)
    given(["program", *arguments])
    return given


def test_seeds_follow_each_other():
    assert list(inputs.seeds(parsed())) == [0]
    assert list(inputs.seeds(parsed("--seed=3", num_seeds=2))) == [3, 4]
    assert list(inputs.seeds(parsed("--seed=3", "--num_seeds=1", num_seeds=2))) == [3]


def test_the_thresholds_of_tiou_are_those_of_a_run():
    first, last, step = map(float, parsed().tiou.split(":"))
    assert (first, last) == (TIOU[0], TIOU[-1])
    assert first + step == pytest.approx(TIOU[1])


def test_a_data_set_is_remembered_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert inputs.source(parsed("--data_dir=D")) == str(tmp_path / "D")
    assert inputs.source(parsed("--synthetic")) == "synthetic"
    assert inputs.data_name(parsed("--data_dir=D/")) == "D"
    assert inputs.data_name(parsed("--synthetic")) == "synthetic data"


@pytest.mark.parametrize(
    "arguments, wrong, expected",
    [([], "missing", "--synthetic"), (["--data_dir=D", "--synthetic"], "--synthetic", "one of the two")],
)
def test_one_data_set_is_named(arguments, wrong, expected):
    with pytest.raises(InputError) as raised:
        inputs.source(parsed(*arguments))
    assert_parts(str(raised.value), "--data_dir", wrong, expected)


def test_the_data_set_is_read_and_synthetic_data_are_called_so(small_dataset, capsys):
    narrator = ConsoleNarrator(Console(soft_wrap=True, markup=False))
    dataset = inputs.load(parsed(f"--data_dir={small_dataset}"), CaseConfig(), narrator)
    assert len(dataset.train.videos) == 8
    assert capsys.readouterr().out == ""
    inputs.load(parsed("--synthetic"), CaseConfig(), narrator)
    assert "no real video" in capsys.readouterr().out


def test_messages_name_the_folder_as_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^gone: no such folder; "):
        inputs.load(parsed("--data_dir=gone"), CaseConfig(), ConsoleNarrator(Console(quiet=True)))
