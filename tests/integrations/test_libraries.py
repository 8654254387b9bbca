"""What libraries that sign people in leave in the ledger, by their own URLs: a site and a process each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SITE = Path(__file__).parent / "libraries" / "site.py"

ROOT, ADA = ("1", "root"), ("2", "ada")
INVALID = "invalid credentials"
ROOT_ACTS = {"audit.impersonator.id": "1"}
ROOT_BEGINS = {**ROOT_ACTS, "audit.impersonator.name": "root"}


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> Any:
    """What was recorded at the site of one library; fingerprints of sessions are numbered as they appear."""
    command = [sys.executable, SITE, request.param]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert found.returncode == 0, found.stderr
    known: dict[str, str] = {}
    return json.loads(found.stdout, object_hook=lambda item: _numbered(item, known))


def _numbered(item: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    for key in ("session.id", "audit.refresh.id"):
        if (fingerprint := item.get(key)) is not None:
            assert len(fingerprint) == 32
            item[key] = known.setdefault(fingerprint, str(len(known) + 1))
    return item


def signed_in(who: tuple[str, str], method: str = "session", actor: str = "") -> list[Any]:
    """Return the row of a sign-in."""
    return ["Sign in", "LOGIN", "success", *who, method, "", actor or who[1]]


def signed_out(who: tuple[str, str], method: str = "session", actor: str = "") -> list[Any]:
    """Return the row of a sign-out."""
    return ["Sign out", "LOGOUT", "success", *who, method, "", actor or who[1]]


def failed(name: str, method: str, reason: str = INVALID, actor: str = "anonymous", action: str = "LOGIN") -> list[Any]:
    """Return the row of a failure."""
    return ["Failed", action, "failure", None, name, method, reason, actor]


@pytest.mark.parametrize("recorded", ["hijack"], indirect=True)
def test_hijacked_session_names_who_really_acts(recorded: Any) -> None:
    assert recorded["statuses"] == [302, 200, 302, 200]
    assert recorded["logins"] == [
        signed_in(ROOT),
        signed_in(ADA, actor="root"),
        signed_in(ROOT),
        signed_out(ADA, "hijack", actor="root"),
    ]
    assert recorded["login_extras"] == [None, {**ROOT_BEGINS, "session.id": "1"}, {"session.id": "2"}, ROOT_BEGINS]
    assert recorded["requests"] == [
        ["/hijack/acquire/", *ADA, {**ROOT_BEGINS, "session.id": "1"}],
        ["/hello/", *ADA, {**ROOT_ACTS, "session.id": "1"}],
        ["/hijack/release/", *ROOT, {"session.id": "2"}],
        ["/hello/", *ROOT, {"session.id": "2"}],
    ]


@pytest.mark.parametrize("recorded", ["loginas"], indirect=True)
def test_session_of_loginas_names_who_really_acts(recorded: Any) -> None:
    assert recorded["statuses"] == [302, 200, 302, 200]
    assert recorded["logins"] == [signed_in(ROOT), signed_in(ADA, actor="root"), signed_out(ADA), signed_in(ROOT)]
    assert recorded["login_extras"] == [
        None,
        {**ROOT_BEGINS, "session.id": "1"},
        {**ROOT_ACTS, "session.id": "1"},
        {"session.id": "2"},
    ]
    assert recorded["requests"] == [
        ["/admin/login/user/2/", *ADA, {**ROOT_BEGINS, "session.id": "1"}],
        ["/hello/", *ADA, {**ROOT_ACTS, "session.id": "1"}],
        ["/admin/logout/", *ROOT, {**ROOT_ACTS, "session.id": "2"}],
        ["/hello/", *ROOT, {"session.id": "2"}],
    ]


@pytest.mark.parametrize("recorded", ["axes"], indirect=True)
def test_lockout_of_axes_is_an_event_and_later_attempts_say_why_they_failed(recorded: Any) -> None:
    lockout = ["Lockout", "LOCKOUT", "success", None, "root", "axes", "too many attempts", "anonymous"]
    assert recorded["statuses"] == [200, 429, 429]
    assert sorted(map(str, recorded["logins"])) == sorted(
        map(
            str,
            [failed("root", "session"), failed("root", "session"), lockout, failed("root", "session", "locked out")],
        )
    )


@pytest.mark.parametrize("recorded", ["allauth"], indirect=True)
def test_sign_ins_of_allauth_are_recorded_and_share_the_session_with_what_follows(recorded: Any) -> None:
    assert recorded["statuses"] == [302, 200, 200, 302, 200, 200]
    assert recorded["logins"] == [
        signed_in(ADA),
        failed("ada", "password", actor="ada", action="REAUTHENTICATE"),
        signed_out(ADA),
        failed("ada", "password"),
        failed("ada", "password", "too many attempts"),
    ]
    assert recorded["login_extras"] == [{"session.id": "1"}] * 3 + [None] * 2
    assert [extra for *_, extra in recorded["requests"]] == [{"session.id": "1"}] * 4 + [None] * 2


@pytest.mark.parametrize("recorded", ["dj_rest_auth"], indirect=True)
def test_sign_ins_of_dj_rest_auth_are_one_event_each_although_two_hooks_see_them(recorded: Any) -> None:
    assert recorded["statuses"] == [200, 400, 200, 200, 200, 401]
    assert recorded["logins"] == [
        signed_in(ADA),
        failed("ada", "password"),
        ["Refresh", "REFRESH", "success", "2", "", "simplejwt", "", ""],
        ["Password change", "PASSWORD_CHANGE", "success", *ADA, "password", "", "ada"],
        signed_out(ADA),
        failed("", "simplejwt", "Token is blacklisted", action="REFRESH"),
    ]
    refresh = {"audit.refresh.id": recorded["login_extras"][0]["audit.refresh.id"]}
    shown = {"session.id": recorded["login_extras"][0]["session.id"]}
    assert refresh["audit.refresh.id"] != shown["session.id"]
    assert recorded["login_extras"][2].keys() == {"session.id", "audit.refresh.id"}
    assert recorded["login_extras"][2].items() >= refresh.items()
    assert recorded["login_extras"][3:] == [
        shown,
        {"revoked": True, **refresh, **shown},
        {"subject": "2", **refresh},
    ]
    assert [extra for *_, extra in recorded["requests"]][3:5] == [shown] * 2


@pytest.mark.parametrize("recorded", ["djoser"], indirect=True)
def test_sign_ins_of_djoser_are_recorded(recorded: Any) -> None:
    assert recorded["statuses"] == [200, 400, 200, 204, 204]
    assert recorded["logins"] == [
        signed_in(ADA),
        failed("ada", "password"),
        signed_in(ADA, "simplejwt"),
        ["Password change", "PASSWORD_CHANGE", "success", *ADA, "password", "", "ada"],
        signed_out(ADA),
    ]
    assert [user for _, user, *_ in recorded["requests"]] == ["2", None, "2", "2", "2"]
    first, _, second, *later = recorded["login_extras"]
    assert later == [first] * 2
    assert second.keys() == {"session.id", "audit.refresh.id"}
    assert second["session.id"] != first["session.id"]


@pytest.mark.parametrize("recorded", ["dj_rest_auth_tokens"], indirect=True)
def test_tokens_of_dj_rest_auth_are_recorded_although_no_signal_tells(recorded: Any) -> None:
    assert recorded["statuses"] == [200, 400, 200, 400]
    assert recorded["logins"] == [
        signed_in(ADA, "drf-token"),
        failed("ada", "password"),
        signed_out(ADA, "drf-token"),
    ]
    assert [user for _, user, *_ in recorded["requests"]] == ["2", None, "2", None]
    assert recorded["login_extras"] == [{"session.id": "1"}, None, {"session.id": "1"}]
    assert [extra for *_, extra in recorded["requests"]] == [{"session.id": "1"}, None, {"session.id": "1"}, None]
