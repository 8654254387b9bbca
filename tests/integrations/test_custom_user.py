"""A site whose users have no ``username``: a process of its own, as the user model is chosen once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SITE = Path(__file__).parent / "custom_user" / "site.py"


def test_users_without_a_username_are_recorded_by_their_own_name_and_key() -> None:
    found = subprocess.run([sys.executable, "-W", "error", SITE], capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stderr
    key = "ada-1"
    recorded = json.loads(found.stdout)
    same = recorded[0][-1]
    assert len(same) == 32
    assert recorded == [
        ["Sign in", "LOGIN", key, "ada@example.com", "session", None, same],
        ["Failed", "LOGIN", None, "ada@example.com", "session", None, same],
        ["Sign in", "LOGIN", key, "ada@example.com", "simplejwt", None, ""],
        ["Failed", "LOGIN", None, "ada@example.com", "simplejwt", None, ""],
        ["Failed", "LOGIN", key, "ada@example.com", "simplejwt", None, ""],
        ["Refresh", "REFRESH", key, "", "simplejwt", None, ""],
        ["Sign out", "LOGOUT", key, "", "simplejwt", {"revoked": False}, ""],  # there is no blacklist app
        ["Sign out", "LOGOUT", key, "ada@example.com", "session", None, same],
    ]
