import pytest
from absl import flags

from case_jax.data.synthetic import SyntheticSpec, make_synthetic_dataset
from case_jax.errors import InputError
from experiments.ablations import holdout


@pytest.fixture(scope="module")
def dataset():
    return make_synthetic_dataset(0, SyntheticSpec(num_train=8, num_test=4, num_classes=2, width=2))


def asked(*arguments):
    given = flags.FlagValues()
    holdout.define_flags(given)
    given(["command", *arguments])
    return holdout.from_flags(given)


def test_without_a_flag_the_data_set_stays_as_it_is(dataset):
    assert asked() is None
    assert holdout.apply(None, dataset) is dataset
    assert holdout.described(None) == ""


def test_the_parts_are_disjoint_and_together_the_training_split(dataset):
    names = []
    for part in (1, 2, 3):
        held_out = asked(f"--holdout={part}/3")
        divided = holdout.apply(held_out, dataset)
        test = {video.name for video in divided.test.videos}
        assert not test & {video.name for video in divided.train.videos}
        names += sorted(test)
        assert holdout.described(held_out) == f" (part {part} of 3 of its training split, held out)"
    assert sorted(names) == sorted(video.name for video in dataset.train.videos)


def test_a_group_is_not_divided(dataset):
    divided = holdout.apply(asked("--holdout=1/2", "--holdout_group=[0-3]$|[4-7]$"), dataset)
    assert len(divided.test.videos) in range(1, 8)
    everyone = holdout.apply(asked("--holdout=1/2", r"--holdout_group=\d$"), dataset)
    assert len(everyone.test.videos) == 4


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["--holdout=6/5"], ("--holdout: is '6/5'", '"1/5"')),
        (["--holdout=1/1"], ("--holdout: is '1/1'", '"1/5"')),
        (["--holdout=0/5"], ("--holdout: is '0/5'", '"1/5"')),
        (["--holdout=half"], ("--holdout: is 'half'", '"1/5"')),
        (["--holdout_group=x"], ("--holdout_group: is given without --holdout",)),
        (["--holdout=1/2", "--holdout_group=("], ("--holdout_group: is '('", "regular expression")),
    ],
)
def test_flags_that_name_no_part(arguments, parts):
    with pytest.raises(InputError) as raised:
        asked(*arguments)
    assert all(part in str(raised.value) for part in (*parts, "; expected "))


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (
            ["--holdout=1/2", "--holdout_group=user"],
            ("--holdout_group: 'user'", "'synthetic_train_0000'"),
        ),
        (
            ["--holdout=1/3", "--holdout_group=[0-2]$|train"],
            ("--holdout: is '1/3'", "1 groups of training videos"),
        ),
    ],
)
def test_groups_that_cannot_be_divided(arguments, parts, dataset):
    with pytest.raises(InputError) as raised:
        holdout.apply(asked(*arguments), dataset)
    assert all(part in str(raised.value) for part in (*parts, "; expected "))
