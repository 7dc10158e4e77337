import dataclasses

import pytest

from case_jax.refinement.settings import RefinementConfig
from tests.helpers.refusals import assert_parts, bad, refusal


@pytest.mark.parametrize(
    "name, value, expected",
    [
        bad("no steps", "num_steps", 0, "1 or more"),
        bad("part of a step", "num_steps", 2.5, "whole number"),
        bad("true", "hidden_dim", True, "whole number"),
        bad("negative", "learning_rate", -0.1, "0 or more"),
        bad("not a number", "flank", float("nan"), "finite"),
        bad("text", "weight_decay", "x", "finite"),
        bad("nothing left", "dropout", 1.0, "less than 1"),
        bad("no average", "average", 1.5, "less than 1"),
    ],
)
def test_values_out_of_range(name, value, expected):
    message = refusal(lambda: dataclasses.replace(RefinementConfig(), **{name: value}))
    assert_parts(message, f"--{name}", repr(value), expected)
