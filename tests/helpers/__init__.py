"""What several tests share."""

import pytest

# So that failures of assertions in this module show what they compared.
pytest.register_assert_rewrite("tests.helpers.refusals")
