"""One test per way to get a setting wrong: the check names it and says what to write."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import propagate, trace
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBasedTraceIdRatio, TraceIdRatioBased

from otel_audit.checks import CHECKS
from otel_audit.checks.registry import check
from otel_audit.conf import DEFAULTS
from otel_audit.middleware import GUARD_PATH, OTEL_PATH, AuditMiddleware
from otel_audit.models import RequestAuditEvent
from otel_audit.options import LEGACY_OPTIONS
from otel_audit_exporters import AuditSampler, DatabaseSpanExporter, RedactingSpanExporter
from tests.empty_database import no_tables
from tests.test_conf import JSON

__all__ = ["no_tables"]

ENTRY = "otel_audit.middleware.AuditMiddleware"
SECRET = "hunter2"


class OwnMiddleware(AuditMiddleware):
    """A site's own class derived from ours."""


class EverythingOnDefault:
    """A router of a site that knows nothing of an audit database."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


def findings(identity: str | None = None, databases: Any = None) -> list[checks.CheckMessage]:
    """Run the checks as ``manage.py check`` does; return what they found, of one check if it is named."""
    found = checks.run_checks(tags=["otel_audit", "database"] if databases else ["otel_audit"], databases=databases)
    assert all(message.hint for message in found if str(message.id).startswith("otel_audit."))
    return [message for message in found if identity is None or message.id == f"otel_audit.{identity}"]


def finding(identity: str, databases: Any = None) -> checks.CheckMessage:
    """Return the one finding of a check."""
    (message,) = findings(identity, databases)
    return message


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Set the site's tracer provider for the length of a test."""

    def set_provider(found: Any) -> None:
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", found)

    return set_provider


def test_a_sound_site_has_no_finding(provider: Callable[[Any], None], tmp_path: Path) -> None:
    provider(None)

    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "DELIVERY": "spool", "SPOOL_DIR": tmp_path / "spool"}):
        found = [message for message in findings() if message.id != "otel_audit.W010"]  # tests may run in memory

    assert found == []


def test_every_id_is_used_once() -> None:
    with pytest.raises(ValueError, match=r"two checks have the id otel_audit.E001"):
        check("E001")


def test_every_check_has_an_id_and_says_what_it_asks_for() -> None:
    for identity, function in CHECKS.items():
        assert re.fullmatch(r"otel_audit\.[EW]\d{3}", identity)
        assert function.__doc__ or function.__name__ == "value", identity


def test_every_key_has_a_check_of_its_own() -> None:
    numbers = {}
    for key in DEFAULTS:
        with override_settings(OTEL_AUDIT={"DATABASE": "audit", key: object()}):
            (message,) = [found for found in findings() if f"[{key!r}]" in found.msg and found.id != "otel_audit.W009"]
        numbers[key] = message.id

    assert len(set(numbers.values())) == len(DEFAULTS)


@given(key=st.sampled_from([*DEFAULTS, *LEGACY_OPTIONS]) | st.text(), value=JSON)
def test_no_check_raises_whatever_is_written(key: str, value: Any) -> None:
    written = {key: value} if key.startswith("DRF_") else {"OTEL_AUDIT": {key: value}}

    with override_settings(**written):
        found = findings()

    assert all(message.hint and message.hint.endswith((".", "}")) for message in found)
    assert all(message.msg.endswith(".") for message in found)


@given(value=JSON)
def test_no_check_raises_whatever_otel_audit_is(value: Any) -> None:
    with override_settings(OTEL_AUDIT=value):
        found = findings("E001")

    assert bool(found) == (value is not None and not isinstance(value, dict))


def test_another_app_can_be_checked_alone() -> None:
    with override_settings(OTEL_AUDIT={"NOTHING": 1}), pytest.raises(SystemCheckError, match=r"otel_audit.E002"):
        call_command("check", "otel_audit", "--tag", "otel_audit")
    with override_settings(OTEL_AUDIT={"NOTHING": 1}):
        call_command("check", "auth", "--tag", "otel_audit")


# ── keys and values ─────────────────────────────────────────────────────────────────────────────


def test_otel_audit_is_no_dict() -> None:
    with override_settings(OTEL_AUDIT=["audit"]):
        message = finding("E001")

    assert message.msg == "OTEL_AUDIT is a list, no dict; all defaults count."
    assert message.hint == 'Write a dict such as OTEL_AUDIT = {"DATABASE": "audit"}, or remove it.'


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("DELIVERYY", "Write 'DELIVERY' in its place."),
        ("spool_dir", "Write 'SPOOL_DIR' in its place."),
        ("TRUSTED_PROXY", "Write 'TRUSTED_PROXIES' in its place."),
        ("XYZ", f"Remove it. The keys are {', '.join(DEFAULTS)}."),
        (7, f"Remove it. The keys are {', '.join(DEFAULTS)}."),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(key: Any, hint: str) -> None:
    with override_settings(OTEL_AUDIT={key: 1}):
        message = finding("E002")

    assert message.msg == f"OTEL_AUDIT has the unknown key {key!r}; it has no effect."
    assert message.hint == hint


@pytest.mark.parametrize(
    ("identity", "key", "value", "said"),
    [
        ("E010", "ENABLED", "false", "'false' is neither True nor False"),
        ("E011", "DATABASE", None, "None is no name"),
        ("E011", "DATABASE", " ", "' ' is no name"),
        ("E012", "SERVICE_NAME", 3, "3 is no name"),
        ("E013", "DELIVERY", "kafka", "'kafka' is none of 'spool', 'sync', 'memory'"),
        ("E013", "DELIVERY", ["spool"], "a list is none of"),
        ("E014", "SPOOL_DIR", "spool", "'spool' is no absolute path"),
        ("E014", "SPOOL_DIR", "~/spool", "'~/spool' is no absolute path"),
        ("E014", "SPOOL_DIR", "/a\0b", "'/a\\x00b' is no absolute path"),
        ("E014", "SPOOL_DIR", b"/spool", "a bytes is neither a path nor None"),
        ("E015", "SPOOL_MAX_BYTES", "1G", "'1G' is no number of bytes"),
        ("E015", "SPOOL_MAX_BYTES", 0, "0 is no number of bytes"),
        ("E015", "SPOOL_MAX_BYTES", True, "True is no number of bytes"),
        ("E016", "DRAIN", "cron", "'cron' is none of 'thread', 'external'"),
        ("E017", "POLICY", {"level": "none"}, "is no list of rules"),
        ("E017", "POLICY", [{"level": "all"}], "rule 1 has the level 'all', none of none, metadata"),
        ("E017", "POLICY", [{"path": "(", "level": "none"}], "rule 1 has the path '(', no regular expression"),
        ("E017", "POLICY", [{"path": "(a*)*", "level": "none"}], "in too many ways"),
        ("E017", "POLICY", [{"pth": "^/", "level": "none"}], "rule 1 has the unknown key 'pth'"),
        ("E018", "REDACT", ["ssn", 5], "5 is no name of a key"),
        ("E018", "REDACT", {"keys": []}, "it has the unknown key 'keys'"),
        ("E018", "REDACT", {"names": [5]}, "5 is no name of a key"),
        (
            "E018",
            "REDACT",
            {"callable": "redact"},
            "its 'callable' is 'redact', neither a function nor the dotted path",
        ),
        ("E018", "REDACT", {"callable": "os.nothing"}, "'os.nothing' cannot be imported (AttributeError)"),
        ("E018", "REDACT", {"callable": "nowhere.at.all"}, "cannot be imported (ModuleNotFoundError)"),
        ("E018", "REDACT", {"callable": "os.sep"}, "its 'callable' 'os.sep' is no function"),
        ("E018", "REDACT", {"hmac": "x" * 32}, "its 'hmac' is a str, no dict of keys"),
        ("E018", "REDACT", {"hmac": {"token": "x" * 32}}, "its 'hmac' has the key id 'token'"),
        ("E018", "REDACT", {"hmac": {"A": "x" * 32}}, "its 'hmac' has the key id 'A'"),
        ("E018", "REDACT", {"hmac": {"k1": "hunter2"}}, "its 'hmac' key 'k1' is shorter than 16 characters"),
        ("E019", "RESOLVE_ACTOR", 1, "1 is neither True nor False"),
        ("E020", "TRUSTED_PROXIES", ["10.0.0.1/8"], "'10.0.0.1/8' is no address or network without host bits"),
        ("E020", "TRUSTED_PROXIES", 1, "1 is no address or network"),
        ("E021", "AUTH_URLS", ["api/token/"], "'api/token/' is no path"),
        ("E022", "AUTH_FAILED_STATUS_CODES", [4010], "4010 is no HTTP status code"),
        ("E023", "USER_PK_NAME", 5, "5 is no name"),
        ("E024", "OTLP", "http://c:4318", "a str is no dict"),
        ("E024", "OTLP", {"url": "http://c:4318"}, "it has the unknown key 'url'"),
        ("E024", "OTLP", {"endpoint": "collector:4318"}, "its 'endpoint' is no full URL"),
        ("E024", "OTLP", {"endpoint": "http://[::1"}, "its 'endpoint' is no full URL"),
        ("E024", "OTLP", {"endpoint": 4318}, "its 'endpoint' is no full URL"),
        ("E024", "OTLP", {"protocol": "http/json"}, "its 'protocol' is neither 'http/protobuf' nor 'grpc'"),
        ("E024", "OTLP", {"headers": "authorization=x"}, "its 'headers' is no dict of texts"),
        ("E024", "OTLP", {"headers": {"authorization": "x\r\ny"}}, "its 'headers' is no dict of texts"),
        ("E024", "OTLP", {"timeout": "10s"}, "its 'timeout' is no number of seconds"),
        ("E024", "OTLP", {"compression": "deflate"}, "its 'compression' is neither 'gzip' nor 'none'"),
        ("E024", "OTLP", {"compression": ["gzip"]}, "its 'compression' is neither 'gzip' nor 'none'"),
        ("E024", "OTLP", {"certificate": True}, "its 'certificate' is no path"),
        ("E024", "OTLP", {"client_certificate": " "}, "its 'client_certificate' is no path"),
        ("E024", "OTLP", {"client_key": "-----BEGIN\nPRIVATE"}, "its 'client_key' is no path"),
        ("E024", "OTLP", {"durable": "yes"}, "its 'durable' is neither True nor False"),
        ("E024", "OTLP", {"level": "all"}, "its 'level' is none of 'trace', 'audit', 'full'"),
        ("E024", "OTLP", {"level": ["full"]}, "its 'level' is none of 'trace', 'audit', 'full'"),
        ("E025", "TRACE_URL", "jaeger/{trace_id}", "'jaeger/{trace_id}' is no URL"),
        ("E025", "TRACE_URL", "http://j/", "it has no {trace_id}"),
        ("E025", "TRACE_URL", "http://j/{trace_id}/{x}", "it has the unknown field 'x'"),
        ("E025", "TRACE_URL", "http://j/{trace_id", "it is no template"),
        ("E028", "TRUSTED_PEERS", ["10.0.0.0/8", "10.0.0.1/8"], "item 2 is neither an address or network without"),
        ("E028", "TRUSTED_PEERS", {"secret": "hunter2"}, "item 1 is neither an address"),
        ("E028", "TRUSTED_PEERS", [{"secret": "ä" * 16}], "nor a dict with a 'secret' of at least 16 characters"),
        ("E029", "RECEIVER_CERTIFICATE_HEADER", "X_Client", "'X_Client' is no name of a header"),
        ("E029", "RECEIVER_CERTIFICATE_HEADER", ["X-Client"], "a list is no name of a header"),
        ("E028", "TRUSTED_PEERS", [{"header": "x", "secret": "y" * 16}], "item 1 is neither"),
        ("E028", "TRUSTED_PEERS", 7, "item 1 is neither"),
    ],
)
def test_a_wrong_value_is_named_with_what_to_write(identity: str, key: str, value: Any, said: str) -> None:
    with override_settings(OTEL_AUDIT={key: value}):
        message = finding(identity)

    assert isinstance(message, checks.Error)
    assert message.msg.startswith(f"OTEL_AUDIT[{key!r}] is wrong: ")
    assert said in message.msg
    assert message.hint is not None
    assert message.hint.startswith(f"Set OTEL_AUDIT[{key!r}] to ")


@pytest.mark.parametrize("written", ["hunter2 in the wrong place", {"secret": "hunter2"}, ["x", {"hunter2": "y" * 16}]])
def test_no_secret_of_a_peer_is_shown(written: Any) -> None:
    with override_settings(OTEL_AUDIT={"TRUSTED_PEERS": written}):
        message = finding("E028") if not isinstance(written, list) else findings("E028")[1]

    assert "hunter2" not in str(message)


def test_every_item_of_a_list_that_is_wrong_is_named() -> None:
    with override_settings(OTEL_AUDIT={"TRUSTED_PROXIES": ["a", "::1", "b"]}):
        said = [message.msg for message in findings("E020")]

    assert [text.split("'")[3] for text in said] == ["a", "b"]


def test_a_wrong_value_under_the_ancestors_name_is_named_so() -> None:
    with override_settings(DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FALIED="four"):
        message = finding("E022")

    assert message.msg == "DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FALIED is wrong: 'four' is no HTTP status code."


@pytest.mark.parametrize("name", LEGACY_OPTIONS)
def test_a_pattern_of_the_ancestors_that_is_wrong_is_named(name: str) -> None:
    with override_settings(**{name: ["^/a/", "("]}):
        message = finding("E050")

    assert message.msg.startswith(f"{name} is wrong: entry 2 has the path '(', no regular expression")


def test_a_relative_path_in_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_AUDIT_SPOOL_DIR", "spool")

    message = finding("E051")

    assert "OTEL_AUDIT_SPOOL_DIR is wrong: 'spool' is no absolute path" in message.msg
    assert message.hint == "Set OTEL_AUDIT_SPOOL_DIR to an absolute path such as '/var/lib/shop/audit'."


def test_no_credential_is_in_a_finding() -> None:
    wrong = {
        "DATABASE": f"postgres://audit:{SECRET}@db/audit",
        "SERVICE_NAME": [f"https://a:{SECRET}@b"],
        "OTLP": {
            "endpoint": f"collector:{SECRET}",
            "headers": {"authorization": [SECRET]},
            "protocol": SECRET,
            "timeout": SECRET,
        },
        "TRACE_URL": f"user:{SECRET}@jaeger/{{trace_id}}",
        f"https://u:{SECRET}@h": 1,
    }

    with override_settings(OTEL_AUDIT=wrong):
        found = findings()

    assert len(found) >= 8
    assert SECRET not in str(found)


def test_switched_off_is_said() -> None:
    with override_settings(OTEL_AUDIT={"ENABLED": False}):
        message = finding("W001")

    assert message.msg == 'OTEL_AUDIT["ENABLED"] is False: nothing is recorded.'


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("DRF_AUDIT_TRAIL_DATABASE_ALIAS", "audit", 'Write OTEL_AUDIT = {"DATABASE": …} instead.'),
        ("DRF_AUDIT_TRAIL_AUTH_URL", "/a/", 'Write OTEL_AUDIT = {"AUTH_URLS": …} instead.'),
        (
            "DRF_AUDIT_TRAIL_REQUEST_AUDIT_URLS",
            ["^/api/"],
            'Write OTEL_AUDIT = {"POLICY": [{"path": r"^(?!/api/)", "level": "none"}]} instead, with your own paths.',
        ),
        ("DJANO_DEFAULT_DATABASE_ALIAS", "default", "Remove DJANO_DEFAULT_DATABASE_ALIAS."),
        ("DJANGO_DEFAULT_DATABASE_ALIAS", "default", "Remove DJANGO_DEFAULT_DATABASE_ALIAS."),
        ("DRF_AUDIT_TRAIL_USER_PK_NAMES", "pk", 'Write OTEL_AUDIT = {"USER_PK_NAME": …} instead.'),
        ("DRF_AUDIT_TRAIL_X", 1, "Remove DRF_AUDIT_TRAIL_X."),
    ],
)
def test_the_ancestors_names_are_named_with_the_new_ones(name: str, value: Any, hint: str) -> None:
    with override_settings(OTEL_AUDIT={}, **{name: value}):
        message = finding("W002")

    assert name in message.msg
    assert message.hint == hint


def test_an_ancestors_name_beside_the_new_key_has_no_effect() -> None:
    with override_settings(OTEL_AUDIT={"USER_PK_NAME": "pk"}, DRF_AUDIT_TRAIL_USER_PK_NAME="email"):
        message = finding("W002")

    assert message.msg == "DRF_AUDIT_TRAIL_USER_PK_NAME has no effect: another setting counts for 'USER_PK_NAME'."


# ── the site ────────────────────────────────────────────────────────────────────────────────────


def test_the_audit_database_is_not_in_databases() -> None:
    with override_settings(OTEL_AUDIT={"DATABASE": "adit"}):
        message = finding("E003")

    assert message.msg == (
        "OTEL_AUDIT['DATABASE'] names the database 'adit', which is not in DATABASES; 'default' is used."
    )
    assert message.hint == "Add it to DATABASES, or write one of 'default', 'audit'."


@pytest.mark.parametrize("routers", [[], ["tests.test_checks.EverythingOnDefault", "otel_audit.routers.AuditRouter"]])
def test_no_router_sends_the_audit_models_to_the_audit_database(routers: list[str]) -> None:
    with override_settings(OTEL_AUDIT={"DATABASE": "audit"}, DATABASE_ROUTERS=routers):
        message = finding("E004")

    assert message.msg == (
        "The audit tables belong into the database 'audit', but DATABASE_ROUTERS sends them to 'default'."
    )
    assert message.hint == 'Write DATABASE_ROUTERS = ["otel_audit.routers.AuditRouter", …], in front of all others.'


@pytest.mark.parametrize(
    ("alias", "routers"),
    [
        ("default", []),
        ("audit", ["otel_audit.routers.AuditRouter"]),
        ("audit", ["otel_audit.database_router.DRFAuditTrail"]),
        ("audit", ["otel_audit.routers.AuditRouter", "tests.test_checks.EverythingOnDefault"]),
    ],
)
def test_a_right_router_is_no_finding(alias: str, routers: list[str]) -> None:
    with override_settings(OTEL_AUDIT={"DATABASE": alias}, DATABASE_ROUTERS=routers):
        found = findings("E004")

    assert found == []


def middleware(*paths: str) -> list[str]:
    """Return the suite's ``MIDDLEWARE`` without ours and with ``paths`` in front."""
    return [*paths, *(path for path in settings.MIDDLEWARE if not path.startswith(("otel_audit.", "opentelemetry.")))]


@pytest.mark.parametrize("others", [(), (GUARD_PATH,), ("nowhere.Middleware",)])
def test_the_middleware_entry_is_missing(others: tuple[str, ...]) -> None:
    with override_settings(MIDDLEWARE=middleware(*others)):
        message = finding("W003")

    assert message.hint == f'Add "{ENTRY}" as the last entry of MIDDLEWARE.'


@pytest.mark.parametrize(
    "entry", [ENTRY, "otel_audit.middleware.RequestLoginAuditEventMiddleware", "tests.test_checks.OwnMiddleware"]
)
def test_the_entry_an_alias_or_a_class_of_the_sites_own_is_enough(entry: str) -> None:
    with override_settings(MIDDLEWARE=middleware(entry)):
        found = [*findings("W003"), *findings("W004")]

    assert found == []


def test_two_entries_are_named() -> None:
    entries = [ENTRY, "tests.test_checks.OwnMiddleware"]

    with override_settings(MIDDLEWARE=middleware(*entries)):
        message = finding("W004")

    assert message.msg == f"MIDDLEWARE has 2 entries of otel_audit: {', '.join(entries)}; the second does nothing."
    assert message.hint == f"Remove {ENTRY!r}, the first of them."


def test_opentelemetry_in_front_of_the_guard_is_said() -> None:
    with override_settings(MIDDLEWARE=middleware(OTEL_PATH, GUARD_PATH, ENTRY)):
        message = finding("W005")

    assert "a bad Host header" in message.msg
    assert message.hint is not None
    assert "before django.setup()" in message.hint


@pytest.mark.parametrize("paths", [(GUARD_PATH, OTEL_PATH, ENTRY), (GUARD_PATH, ENTRY), (OTEL_PATH,)])
def test_opentelemetry_elsewhere_is_no_finding(paths: tuple[str, ...]) -> None:
    with override_settings(MIDDLEWARE=middleware(*paths)):
        found = findings("W005")

    assert found == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("USE_X_FORWARDED_HOST", True),
        ("USE_X_FORWARDED_PORT", True),
        ("SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https")),
    ],
)
def test_a_site_behind_a_proxy_says_which_it_trusts(name: str, value: Any) -> None:
    with override_settings(OTEL_AUDIT={}, **{name: value}):
        message = finding("W006")
    with override_settings(OTEL_AUDIT={"TRUSTED_PROXIES": ["10.0.0.0/8"]}, **{name: value}):
        trusted = findings("W006")

    assert f"behind a proxy ({name})" in message.msg
    assert "OTEL_AUDIT['TRUSTED_PROXIES'] to a list of networks such as ['10.0.0.0/8'" in str(message.hint)
    assert trusted == []


def test_the_user_model_does_not_have_the_key() -> None:
    with override_settings(OTEL_AUDIT={"USER_PK_NAME": "uuid"}):
        message = finding("W007")

    assert message.msg == (
        "OTEL_AUDIT['USER_PK_NAME'] is 'uuid', which User does not have; its primary key is recorded."
    )


def test_without_a_user_model_there_is_no_finding() -> None:
    with override_settings(AUTH_USER_MODEL="nowhere.User"):
        found = findings("W007")

    assert found == []


def spool(directory: Path) -> Any:
    return override_settings(OTEL_AUDIT={"DATABASE": "audit", "DELIVERY": "spool", "SPOOL_DIR": directory})


def test_a_spool_directory_that_is_missing_is_not_made_by_the_check(tmp_path: Path) -> None:
    with spool(tmp_path / "a" / "b"):
        found = findings("W008")

    assert found == []
    assert list(tmp_path.iterdir()) == []


def test_a_spool_directory_open_to_others_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    with spool(tmp_path):
        message = finding("W008")

    assert "is open to others (mode 0755)" in message.msg
    assert "mode 0700" in str(message.hint)


def test_a_spool_directory_that_is_a_symbolic_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")

    with spool(tmp_path / "link"):
        message = finding("W008")

    assert "is a symbolic link" in message.msg


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_spool_directory_of_another_user_is_named(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(0o700)
    os.chown(tmp_path / "spool", 12345, 12345)

    with spool(tmp_path / "spool"):
        message = finding("W008")

    assert "belongs to user 12345" in message.msg


def test_a_spool_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o600)

    with spool(tmp_path / "file" / "spool"):
        message = finding("W008")

    assert f"cannot be made in {tmp_path / 'file'}" in message.msg


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a file system in memory")
def test_a_spool_directory_in_memory_is_named() -> None:
    with spool(Path("/dev/shm/otel-audit-tests")):
        message = finding("W010")

    assert "is in memory (tmpfs) and gone after a restart" in message.msg
    assert not Path("/dev/shm/otel-audit-tests").exists()


def test_memory_outside_of_tests_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(OTEL_AUDIT={"DELIVERY": "memory"}):
        inside = findings("W009")
        monkeypatch.delattr("django.test.utils._TestState.saved_data")
        message = finding("W009")

    assert inside == []
    assert message.msg == 'OTEL_AUDIT["DELIVERY"] is "memory" outside of tests: nothing is stored.'


# ── OpenTelemetry ───────────────────────────────────────────────────────────────────────────────


def test_a_disabled_sdk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")

    message = finding("W020")

    assert (
        "OTEL_SDK_DISABLED is true: process and step spans of plain OpenTelemetry code are not recorded" in message.msg
    )


@pytest.mark.parametrize(
    ("name", "ratio", "is_said"),
    [
        ("always_off", "", True),
        ("parentbased_always_off", "", True),
        ("traceidratio", "0.1", True),
        ("parentbased_traceidratio", "0.999", True),
        ("parentbased_traceidratio", "1.0", False),
        ("traceidratio", "many", False),
        ("traceidratio", "", False),
        ("always_on", "", False),
        ("parentbased_always_on", "", False),
        ("otel_audit", "0.1", False),
    ],
)
def test_a_sampler_of_the_environment_that_drops_is_said(
    name: str, ratio: str, is_said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)

    found = findings("W021")

    assert bool(found) == is_said
    assert all("OTEL_TRACES_SAMPLER=otel_audit" in str(message.hint) for message in found)


@pytest.mark.parametrize(
    ("sampler", "is_said"),
    [
        (ALWAYS_OFF, True),
        (TraceIdRatioBased(0.999), True),
        (ParentBasedTraceIdRatio(0.1), True),
        (TraceIdRatioBased(1.0), False),
        (ALWAYS_ON, False),
        (AuditSampler(ALWAYS_OFF), False),
    ],
    ids=lambda value: value if isinstance(value, bool) else value.get_description(),
)
def test_a_sampler_of_the_sites_provider_that_drops_is_said(
    sampler: Any, is_said: bool, provider: Callable[[Any], None]
) -> None:
    provider(TracerProvider(sampler=sampler, shutdown_on_exit=False))

    found = findings("W022")

    assert bool(found) == is_said
    assert all(sampler.get_description() in message.msg for message in found)


def test_a_provider_that_is_not_the_sdks_is_said(provider: Callable[[Any], None]) -> None:
    provider(trace.NoOpTracerProvider())

    message = finding("W022")

    assert "The tracer provider is a NoOpTracerProvider, not the OpenTelemetry SDK's" in message.msg


def test_looking_at_the_provider_claims_none(provider: Callable[[Any], None]) -> None:
    provider(None)

    findings()

    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@pytest.fixture
def no_propagator() -> Iterator[None]:
    """OpenTelemetry as ``OTEL_PROPAGATORS=none`` leaves it."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([]))
    yield
    propagate.set_global_textmap(before)


@pytest.mark.usefixtures("no_propagator")
def test_no_propagator_is_said() -> None:
    message = finding("W023")

    assert "answers every request with 500" in message.msg


def test_a_variable_that_takes_the_propagators_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PROPAGATORS", "tracecontext, none")

    message = finding("W023")

    assert message.hint == "Set OTEL_PROPAGATORS=tracecontext,baggage, or unset it."


@pytest.mark.parametrize(
    ("text", "is_said"),
    [("tracer_provider: {}\n", True), ("propagator:\n  composite: []\n", False), ('{\n  "propagator": {}\n}', False)],
)
def test_a_configuration_file_without_a_propagator_is_said(
    text: str, is_said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "otel.yaml"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("OTEL_CONFIG_FILE", str(path))

    found = findings("W024")

    assert bool(found) == is_said


def test_a_configuration_file_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_CONFIG_FILE", str(tmp_path / "nothing.yaml"))

    message = finding("W024")

    assert "cannot be read" in message.msg


def test_under_asgi_opentelemetrys_middleware_lacks_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with override_settings(ASGI_APPLICATION="tests.asgi.application", MIDDLEWARE=middleware(OTEL_PATH, ENTRY)):
        installed = findings("W025")
        monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.asgi", None)
        message = finding("W025")

    assert installed == []
    assert message.hint == 'Run pip install "otel-audit[asgi]".'


@pytest.mark.parametrize(
    ("written", "environment", "package", "extra"),
    [
        ({"endpoint": "http://c:4318/v1/traces"}, {}, "http", "otlp"),
        ({"protocol": "grpc"}, {}, "grpc", "otlp-grpc"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http", "otlp"),
        (
            None,
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "grpc",
            "otlp-grpc",
        ),
    ],
)
def test_the_package_of_forwarding_is_missing(
    written: Any, environment: dict[str, str], package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with override_settings(OTEL_AUDIT={"OTLP": written}):
        installed = findings("W026")
        monkeypatch.setitem(sys.modules, f"opentelemetry.exporter.otlp.proto.{package}", None)
        message = finding("W026")

    assert installed == []
    assert message.hint == f'Run pip install "otel-audit[{extra}]".'


@pytest.mark.parametrize(
    ("options", "delivery", "ids"),
    [
        ({"durable": True}, "spool", []),
        ({"durable": False}, "sync", []),
        ({"durable": True}, "sync", ["otel_audit.W027"]),
        ({"durable": True, "level": "full"}, "spool", []),
        ({"level": "full"}, "spool", ["otel_audit.W028"]),
        ({"level": "audit"}, "spool", []),
    ],
)
def test_forwarding_that_cannot_do_what_is_written_is_said(
    options: dict[str, Any], delivery: str, ids: list[str], tmp_path: Path
) -> None:
    with override_settings(OTEL_AUDIT={"OTLP": options, "DELIVERY": delivery, "SPOOL_DIR": tmp_path / "spool"}):
        found = [message.id for message in findings() if message.id in ("otel_audit.W027", "otel_audit.W028")]

    assert found == ids


@pytest.mark.parametrize(("proxies", "expected"), [([], 1), (["127.0.0.1"], 0)])
def test_a_header_of_certificates_that_nobody_is_believed_to_send_is_said(proxies: list[str], expected: int) -> None:
    audit = {"RECEIVER_CERTIFICATE_HEADER": "X-Client-Certificate", "TRUSTED_PROXIES": proxies}
    with override_settings(OTEL_AUDIT=audit):
        assert len(findings("W033")) == expected


def test_a_package_whose_parent_is_missing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto", None)
    monkeypatch.delitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", raising=False)

    with override_settings(OTEL_AUDIT={"OTLP": {}}):
        message = finding("W026")

    assert message.hint == 'Run pip install "otel-audit[otlp]".'


def test_a_protocol_of_the_environment_that_is_not_spoken_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")

    message = finding("W026")

    assert "'http/json', which is not spoken here" in message.msg


# ── the audit database ──────────────────────────────────────────────────────────────────────────


def test_no_check_asks_a_database_unless_told_to() -> None:
    # pytest-django lets no test use a database that does not ask for one.
    findings()
    findings(databases=["default"])


@pytest.mark.django_db(databases=["default", "audit"])
def test_a_migrated_audit_database_is_no_finding() -> None:
    assert findings("W030", databases=["default", "audit"]) == []


@pytest.mark.usefixtures("no_tables")
def test_an_audit_database_without_tables_is_said() -> None:
    message = finding("W030", databases=["audit"])

    assert "lacks the migrations 0001_" in message.msg
    assert message.hint == "Run manage.py migrate --database audit."


def test_an_audit_database_that_does_not_answer_is_said(no_tables: dict[str, Any], tmp_path: Path) -> None:
    no_tables["NAME"] = str(tmp_path / "nowhere" / "a.sqlite3")

    message = finding("W030", databases=["audit"])

    assert message.msg == "The audit database 'audit' does not answer (OperationalError): records wait in the spool."


@pytest.mark.usefixtures("no_tables")
def test_migrate_itself_is_not_told_to_migrate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["manage.py", "migrate", "--database", "audit"])

    assert findings("W030", databases=["audit"]) == []


@pytest.fixture
def forwarded() -> None:
    """Two of three requests came through a proxy."""
    for extra in ({"audit.untrusted.x-forwarded-for": "203.0.113.9"}, "text", {"audit.untrusted.forwarded": "for=_x"}):
        RequestAuditEvent(method="GET", url="/", extra_informations=extra).save(using="audit")


@pytest.mark.django_db(databases=["default", "audit"])
@pytest.mark.usefixtures("forwarded")
def test_forwarded_headers_that_nobody_believes_are_said() -> None:
    message = finding("W031", databases=["audit"])

    assert message.msg.startswith("2 of the latest 200 requests came with X-Forwarded-For or Forwarded")
    assert "['10.0.0.0/8', '::1']" in message.hint


@pytest.mark.django_db(databases=["default", "audit"])
@pytest.mark.usefixtures("forwarded")
@override_settings(OTEL_AUDIT={"DATABASE": "audit", "TRUSTED_PROXIES": ["10.0.0.0/8"]})
def test_forwarded_headers_of_a_site_that_says_whom_it_believes_are_no_finding() -> None:
    assert findings("W031", databases=["audit"]) == []


@pytest.mark.django_db(databases=["default", "audit"])
def test_requests_without_forwarded_headers_are_no_finding() -> None:
    RequestAuditEvent(method="GET", url="/").save(using="audit")

    assert findings("W031", databases=["audit"]) == []


@pytest.mark.usefixtures("no_tables")
def test_a_database_without_tables_tells_nothing_of_forwarded_headers() -> None:
    assert findings("W031", databases=["audit"]) == []


def test_a_rule_that_leaves_out_more_than_it_may_by_itself_is_pointed_out() -> None:
    rules = [{"path": "^/a/", "level": "none"}, {"path": "^/b/", "level": "none", "also_excludes": ["errors"]}]

    with override_settings(OTEL_AUDIT={"DATABASE": "audit", "POLICY": rules}):
        message = finding("W011")

    assert "Rule 2 of OTEL_AUDIT['POLICY'] leaves out even errors" in message.msg
    assert message.hint is not None
    assert "also_excludes" in message.hint


class Wrapping:
    """An exporter of the site's own around another one."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner


@pytest.mark.parametrize(
    ("exporter", "named"),
    [
        (ConsoleSpanExporter(), "ConsoleSpanExporter"),
        (Wrapping(ConsoleSpanExporter()), "Wrapping"),
        (RedactingSpanExporter(ConsoleSpanExporter()), None),
        (Wrapping(RedactingSpanExporter(ConsoleSpanExporter())), None),
        (DatabaseSpanExporter(), None),
    ],
)
def test_an_exporter_that_sends_secrets_in_clear_is_named(
    provider: Callable[[Any], None], exporter: Any, named: str | None
) -> None:
    site = TracerProvider(shutdown_on_exit=False, sampler=AuditSampler(ALWAYS_ON))
    site.add_span_processor(SimpleSpanProcessor(exporter))
    provider(site)

    found = findings("W029")

    assert [f"The span exporter {named} sends" in message.msg for message in found] == [True] * (named is not None)
    assert [f"RedactingSpanExporter({named}(…))" in str(one.hint) for one in found] == [True] * (named is not None)


def test_a_provider_without_exporters_has_none_that_sends_in_clear(provider: Callable[[Any], None]) -> None:
    provider(TracerProvider(shutdown_on_exit=False))
    with_processors = findings("W029")
    provider(trace.NoOpTracerProvider())

    assert with_processors == findings("W029") == []
