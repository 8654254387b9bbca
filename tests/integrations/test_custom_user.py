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
    same, token, refresh = recorded[0][-1], recorded[2][-1], recorded[2][-2]
    assert len({same, token, recorded[5][-1]}) == 3
    assert refresh.keys() == {"audit.refresh.id"}
    assert recorded == [
        ["Sign in", "LOGIN", key, "ada@example.com", "session", None, same],
        ["Failed", "LOGIN", None, "ada@example.com", "session", None, same],
        ["Sign in", "LOGIN", key, "ada@example.com", "simplejwt", refresh, token],
        ["Failed", "LOGIN", None, "ada@example.com", "simplejwt", None, ""],
        ["Failed", "LOGIN", key, "ada@example.com", "simplejwt", None, ""],
        ["Refresh", "REFRESH", key, "", "simplejwt", refresh, recorded[5][-1]],
        ["Sign out", "LOGOUT", key, "", "simplejwt", {"revoked": False, **refresh}, ""],  # there is no blacklist app
        ["Sign out", "LOGOUT", key, "ada@example.com", "session", None, same],
    ]
