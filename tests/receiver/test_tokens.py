"""Tokens: made, listed and revoked by the command, never stored as they are, and what they allow."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import override_settings

from otel_audit.receiver import tokens
from otel_audit.receiver.models import ReceiverToken
from otel_audit.receiver.tokens import Sender, Senders
from tests.empty_database import no_tables

__all__ = ["no_tables"]

pytestmark = pytest.mark.django_db(databases=["default", "audit"], transaction=True)


def run(*arguments: str) -> list[str]:
    """Run ``token``; return the lines that it prints."""
    out = io.StringIO()
    call_command("otel_audit", "token", *arguments, stdout=out, no_color=True)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("command", [["token", "list"], ["receive"]])
def test_without_its_app_the_command_says_what_to_add(command: list[str]) -> None:
    installed = [app for app in settings.INSTALLED_APPS if app != "otel_audit.receiver"]

    with override_settings(INSTALLED_APPS=installed), pytest.raises(CommandError, match=r"otel_audit\.receiver"):
        call_command("otel_audit", *command)


def test_a_token_is_shown_once_and_only_its_hash_is_stored() -> None:
    text = run("create", "--service", "shop", "--rate", "50")[1]

    (stored,) = ReceiverToken.objects.values()
    assert re.fullmatch(r"otel_audit_[\w-]{43}", text)
    assert text not in str(stored)
    assert text not in "\n".join(run("list"))
    assert (stored["service"], stored["spans_per_second"]) == ("shop", 50)


def test_the_list_says_whose_tokens_there_are_and_whether_they_count() -> None:
    assert run("list") == ["There is none."]
    first, second = (run("create", "--service", name)[0] for name in ("shop", "bank"))
    run("revoke", re.findall(r"\d+", first)[0])

    listed = run("list")

    assert "shop" in first and "bank" in second
    assert re.search(r"shop .* any rate .* revoked \d{4}-", listed[0])
    assert re.search(r"bank .* any rate .* valid", listed[1])


def test_a_token_that_is_not_there_or_revoked_already_cannot_be_revoked() -> None:
    with pytest.raises(CommandError, match="There is no valid token 4711"):
        run("revoke", "4711")


@pytest.mark.parametrize("arguments", [("create", "--service", "till"), ("list",), ("revoke", "1")])
def test_without_its_table_a_command_says_what_to_run(arguments: tuple[str, ...], no_tables: dict[str, Any]) -> None:
    with pytest.raises(CommandError, match=r"run manage\.py migrate --database audit"):
        call_command("otel_audit", "token", *arguments)


@pytest.mark.parametrize(
    "arguments",
    [("create",), ("create", "--service", " "), ("create", "--service", "a\n"), ("revoke", "x"), ()]
    + [("create", "--service", "shop", "--certificate", name) for name in ("", " ", "CN=é", "CN=a\nb", "x" * 5000)]
    + [("create", "--service", "shop", "--rate", rate) for rate in ("0", "-1", "x", "1.5", "9" * 12)],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)

    assert not ReceiverToken.objects.exists()


@pytest.mark.parametrize(
    "bind", ["", "4318", "localhost", "localhost:", "localhost:99999", "::1:4318", "[::1]", "fd://x"]
)
def test_an_address_that_is_none_is_refused(bind: str) -> None:
    with pytest.raises(CommandError, match="is no address"):
        call_command("otel_audit", "receive", "--bind", bind)


def test_a_token_is_found_until_it_is_revoked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REFRESH_S", -1.0)
    senders = Senders()
    made, text = ReceiverToken.issue("shop")

    before = senders.find(text)
    run("revoke", str(made.pk))

    assert before is not None and before.service == "shop"
    assert senders.find("otel_audit_other") is None
    assert senders.find(text) is None


def test_a_certificate_is_admitted_found_and_revoked_like_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REFRESH_S", -1.0)
    senders = Senders()
    said = run("create", "--service", "shop", "--certificate", " CN=shop,O=Example ", "--rate", "5")
    (entry,) = ReceiverToken.objects.all()

    before = senders.find_certificate("CN=shop,O=Example")
    run("revoke", str(entry.pk))
    after = senders.find_certificate("CN=shop,O=Example")
    run("create", "--service", "bank", "--certificate", "CN=shop,O=Example")
    again = senders.find_certificate("CN=shop,O=Example")

    assert before is not None and (before.service, before.rate) == ("shop", 5)
    assert after is None
    assert again is not None and again.service == "bank"
    assert "CN=shop" in said[0]
    assert "RECEIVER_CERTIFICATE_HEADER" in said[1]
    assert "otel_audit_" not in "".join(said)


def test_a_certificate_lets_one_service_in() -> None:
    run("create", "--service", "shop", "--certificate", "CN=shop")

    with pytest.raises(CommandError, match="by the certificate 'CN=shop' already"):
        run("create", "--service", "bank", "--certificate", "CN=shop")


def test_a_new_token_is_found_as_soon_as_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "NEW_S", -1.0)
    senders = Senders()
    senders.find(ReceiverToken.issue("shop")[1])
    text = ReceiverToken.issue("bank")[1]

    found = senders.find(text)

    assert found is not None and found.service == "bank"


def test_unknown_tokens_do_not_have_the_tokens_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(Senders, "_read", lambda self: read.append(1) or {})
    monkeypatch.setattr(tokens, "NEW_S", 60.0)
    senders = Senders()

    assert [senders.find(f"x{number}") for number in range(50)] == [None] * 50
    assert len(read) == 1


def test_tokens_are_not_read_for_each_request() -> None:
    senders = Senders()
    text = ReceiverToken.issue("shop")[1]
    senders.find(text)
    ReceiverToken.objects.all().delete()

    assert senders.find(text) is not None


def test_what_a_sender_has_spent_is_remembered_when_tokens_are_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REFRESH_S", -1.0)
    senders = Senders()
    text = ReceiverToken.issue("shop", 5)[1]
    first = senders.find(text)

    assert first is not None
    assert senders.find(text) is first


def test_the_others_go_on_while_one_thread_reads_the_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REFRESH_S", -1.0)
    senders = Senders()
    text = ReceiverToken.issue("shop")[1]
    senders.find(text)
    begun, go_on = threading.Event(), threading.Event()

    def slow(self: Senders) -> dict[str, Sender]:
        begun.set()
        assert go_on.wait(20)
        return {}

    monkeypatch.setattr(Senders, "_read", slow)
    reader = threading.Thread(target=senders.find, args=["x"])
    reader.start()
    assert begun.wait(20)

    found = senders._known[tokens.token_hash(text)] if senders._lock.locked() else None

    assert found is not None
    assert senders.find(text) is found
    go_on.set()
    reader.join(20)


def test_those_who_come_while_the_tokens_are_read_for_the_first_time_wait_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    senders = Senders()
    text = ReceiverToken.issue("shop")[1]
    begun, go_on = threading.Event(), threading.Event()
    read = senders._read()
    found: list[Sender | None] = []

    def slow(self: Senders) -> dict[str, Sender]:
        begun.set()
        assert go_on.wait(20)
        return read

    monkeypatch.setattr(Senders, "_read", slow)
    first = threading.Thread(target=senders.find, args=["x"])
    first.start()
    assert begun.wait(20)
    second = threading.Thread(target=lambda: found.append(senders.find(text)))
    second.start()
    second.join(0.2)

    assert second.is_alive()
    go_on.set()
    for thread in (first, second):
        thread.join(20)
    assert [sender.service for sender in found if sender is not None] == ["shop"]


def test_a_rate_allows_ten_seconds_at_once_and_then_goes_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(tokens, "time", SimpleNamespace(monotonic=lambda: now[0]))
    sender = Sender("shop", 2)

    sender.spend(19)
    assert sender.wait_s() == 0
    sender.spend(5)
    assert sender.wait_s() == 2
    now[0] += 1.9
    assert sender.wait_s() == 1
    now[0] += 0.2
    assert sender.wait_s() == 0


def test_without_a_rate_nobody_waits() -> None:
    sender = Sender("shop", None)

    sender.spend(10**9)

    assert sender.wait_s() == 0


def test_neither_command_nor_view_need_the_extra_before_they_are_used() -> None:
    code = """
import sys
class Without:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("google", "uvicorn") or name.startswith("opentelemetry.proto"):
            raise ModuleNotFoundError(f"{name} is not installed")
sys.meta_path.insert(0, Without())
import django
django.setup()
from django.core.management import call_command
from otel_audit.receiver import receive_traces
call_command("otel_audit", "status")
try:
    call_command("otel_audit", "receive")
except Exception as error:
    print(error)
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}

    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )

    assert "write pip install 'otel-audit[receiver]'" in done.stdout
