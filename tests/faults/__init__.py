"""Kills, damaged workdirs and fuzzing."""

import pytest

# So that failures of assertions in this module show what they compared.
pytest.register_assert_rewrite("tests.faults.readers")
