"""The demo shop under real servers, driven over real sockets, killed with real signals."""

import pytest

pytest.register_assert_rewrite("tests.e2e.shop", "tests.e2e.visitors")
