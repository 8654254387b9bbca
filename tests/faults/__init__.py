"""Everything that can break under the records, broken for real."""

import pytest

pytest.register_assert_rewrite("tests.faults.mortal")
