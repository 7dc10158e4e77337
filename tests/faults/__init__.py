"""Kills, bad inputs and fuzzing."""

import pytest

# Where these two assert, failures show what they compared.
pytest.register_assert_rewrite("tests.faults.readers", "tests.faults.refusals")
