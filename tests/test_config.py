"""Settings: what each field may be, when it takes effect, and which settings exclude each other."""

import dataclasses
import math
import subprocess
import sys
import typing

import pytest

from case_jax.config import CaseConfig, Role, choices_of, fields_of_role, help_of
from case_jax.errors import InputError
from tests.conftest import ROOT

FIELDS = {field.name: field for field in dataclasses.fields(CaseConfig)}

# For every number: values that it may be, values just outside, and a word of what is expected.
ABOVE_0 = (1, [0, -1], "greater than 0")
FROM_0 = (0, [-1e-9], "0 or more")
SHARE = (1.0, [-0.1, 1.1], "between 0 and 1")
BELOW_1 = (0.0, [-0.1, 1.0], "up to but not including 1")
RANGES = {
    **dict.fromkeys(
        "num_snippets batch_size hidden_dim num_clusters cluster_temperature top_k_divisor epsilon "
        "sinkhorn_iters sigma rho learning_rate num_steps upsampling nms_alpha".split(),
        ABOVE_0,
    ),
    **dict.fromkeys("lambda_s lambda_c weight_decay flank".split(), FROM_0),
    **dict.fromkeys("class_threshold action_threshold nms_threshold refined_weight".split(), SHARE),
    **dict.fromkeys("settling agreement_from".split(), BELOW_1),
    "gamma": (0.5, [0.0, 1.0], "both excluded"),
    "video_score_weight": (-1.0, [], ""),
    "proposal_thresholds": ((0.5,), [()], "one value or more"),
}


def refusal(**fields) -> str:
    with pytest.raises(InputError) as raised:
        CaseConfig(**fields)
    return str(raised.value)


def test_every_setting_is_a_number_a_choice_or_a_switch():
    choices = {name for name in FIELDS if choices_of(name)}
    switches = {name for name, field in FIELDS.items() if field.type is bool}
    assert set(RANGES) | choices | switches == set(FIELDS)
    assert len(RANGES) + len(choices) + len(switches) == len(FIELDS)


@pytest.mark.parametrize("name", RANGES)
def test_a_number_has_its_range(name):
    allowed, outside, words = RANGES[name]
    assert getattr(CaseConfig(**{name: allowed}), name) == allowed
    for value in outside:
        message = refusal(**{name: value})
        assert message.startswith(f"--{name}: is {value!r}; expected ")
        assert words in message


@pytest.mark.parametrize("name", [n for n, f in FIELDS.items() if isinstance(f.default, float)])
def test_a_number_is_finite(name):
    for value in (math.nan, math.inf):
        assert refusal(**{name: value}) == f"--{name}: is {value!r}; expected finite"


def test_every_threshold_is_finite():
    assert "expected finite" in refusal(proposal_thresholds=(0.5, math.nan))


@pytest.mark.parametrize("name", [name for name in FIELDS if choices_of(name)])
def test_a_text_is_one_of_its_choices(name):
    choices = choices_of(name)
    assert choices == typing.get_args(FIELDS[name].type)
    for choice in choices:
        assert getattr(CaseConfig(**{name: choice}), name) == choice
    assert refusal(**{name: "other"}) == f"--{name}: is 'other'; expected one of {', '.join(choices)}"


@pytest.mark.parametrize(
    "fields, blamed, needed",
    [
        ({"scc": False}, "ccc", "--noccc"),
        ({"ccc": False}, "clustering_assisted_testing", "--noclustering_assisted_testing"),
        (
            {"ccc": False, "clustering_assisted_testing": False, "attention_labels": "agreed"},
            "attention_labels",
            "--attention_labels=top_k",
        ),
    ],
)
def test_a_setting_may_need_a_component(fields, blamed, needed):
    message = refusal(**fields)
    assert message.startswith(f"--{blamed}: ")
    assert message.endswith(f"or {needed}")


def test_every_setting_takes_effect_at_one_time():
    of_roles = [fields_of_role(role) for role in typing.get_args(Role)]
    assert sorted(sum(of_roles, ())) == sorted(FIELDS)
    assert set(fields_of_role("model")) == {
        "scc", "ccc", "hidden_dim", "num_clusters", "num_snippets", "top_k_divisor",
    }  # fmt: skip
    assert set(fields_of_role("test")) == {
        "clustering_assisted_testing", "class_threshold", "upsampling", "proposal_thresholds", "flank",
        "video_score_weight", "video_score", "nms", "nms_threshold", "nms_alpha", "always_localize",
        "action_threshold",
        "refined_weight",
    }  # fmt: skip


def test_every_setting_has_help_of_one_line():
    for name in FIELDS:
        assert help_of(name).strip()
        assert help_of(name).isprintable()
        assert RANGES.get(name, ("", [], ""))[2] in help_of(name)


def test_defaults_are_those_of_the_published_run():
    config = CaseConfig()
    assert (config.num_snippets, config.batch_size, config.num_steps) == (750, 16, 3600)
    assert (config.epsilon, config.sinkhorn_iters, config.sigma, config.rho) == (0.5, 3, 10.0, 10.0)
    assert (config.gamma, config.lambda_s, config.lambda_c, config.learning_rate) == (0.7, 1.0, 0.3, 1e-4)
    assert (config.settling_steps, config.attention_labels, config.ccc_foreground) == (0, "top_k", "labels")
    assert {name: getattr(CaseConfig, name) for name in FIELDS} == dataclasses.asdict(config)


def test_a_config_can_be_a_static_argument():
    assert hash(CaseConfig(sigma=0.2)) == hash(CaseConfig(sigma=0.2)) != hash(CaseConfig())
    with pytest.raises(dataclasses.FrozenInstanceError):
        CaseConfig().sigma = 0.2


def test_numbers_of_steps_follow_from_shares():
    assert CaseConfig(settling=0.1, num_steps=1500).settling_steps == 150
    assert CaseConfig(num_steps=400).agreement_step == 80
    assert (CaseConfig(num_snippets=750).top_k, CaseConfig(num_snippets=3).top_k) == (93, 1)


def test_some_settings_make_the_first_steps_depend_on_the_length():
    assert not CaseConfig(agreement_from=0.5, num_steps=10).depends_on_length
    assert CaseConfig(settling=0.1).depends_on_length
    assert CaseConfig(attention_labels="mixed").depends_on_length


def test_settings_need_no_jax():
    program = "import sys, case_jax.config, case_jax.errors; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
