"""Settings are read when used, wrong ones fall back, and what was read is kept only as long as it stands there."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.db import connections
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from otel_audit.conf import DEFAULTS, LEGACY_NAMES, AuditSettings, conf, database_fingerprint
from otel_audit.options import Redaction

PROPERTIES = {key: "redaction" if key == "REDACT" else key.lower() for key in DEFAULTS}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("enabled", True),
        ("database", "default"),
        ("service_name", None),
        ("spool_max_bytes", 1024**3),
        ("drain", "thread"),
        ("redaction", Redaction()),
        ("resolve_actor", True),
        ("trusted_proxies", ()),
        ("auth_urls", ()),
        ("auth_failed_status_codes", (401,)),
        ("user_pk_name", "pk"),
        ("otlp", None),
        ("trace_url", None),
    ],
)
def test_a_site_that_writes_nothing_gets_the_defaults(name: str, default: Any) -> None:
    with override_settings():
        del settings.OTEL_AUDIT

        found = getattr(conf, name)

    assert found == default


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        ({"ENABLED": False}, "enabled", False),
        ({"DATABASE": "audit"}, "database", "audit"),
        ({"SERVICE_NAME": "shop"}, "service_name", "shop"),
        ({"DELIVERY": "sync"}, "delivery", "sync"),
        ({"SPOOL_DIR": "/srv/audit"}, "spool_dir", Path("/srv/audit")),
        ({"SPOOL_DIR": Path("/srv/audit")}, "spool_dir", Path("/srv/audit")),
        ({"SPOOL_MAX_BYTES": 5}, "spool_max_bytes", 5),
        ({"DRAIN": "external"}, "drain", "external"),
        ({"REDACT": ["ssn"]}, "redaction", Redaction(("ssn",))),
        ({"REDACT": "ssn"}, "redaction", Redaction(("ssn",))),
        ({"RESOLVE_ACTOR": False}, "resolve_actor", False),
        ({"TRUSTED_PROXIES": ["10.0.0.0/8", "unix:"]}, "trusted_proxies", ("10.0.0.0/8", "unix:")),
        ({"TRUSTED_PEERS": "10.1.0.0/16"}, "trusted_peers", ("10.1.0.0/16",)),
        ({"TRUSTED_PEERS": [{"secret": "x" * 16}, "::1"]}, "trusted_peers", ({"secret": "x" * 16}, "::1")),
        ({"AUTH_URLS": "/in/"}, "auth_urls", ("/in/",)),
        ({"AUTH_FAILED_STATUS_CODES": [400, 401]}, "auth_failed_status_codes", (400, 401)),
        ({"AUTH_FAILED_STATUS_CODES": 403}, "auth_failed_status_codes", (403,)),
        ({"USER_PK_NAME": "email"}, "user_pk_name", "email"),
        ({"OTLP": {"endpoint": "http://c:4318/v1/traces"}}, "otlp", {"endpoint": "http://c:4318/v1/traces"}),
        ({"TRACE_URL": "http://j/{trace_id}"}, "trace_url", "http://j/{trace_id}"),
    ],
)
def test_what_the_site_writes_counts(written: dict[str, Any], name: str, expected: Any) -> None:
    with override_settings(OTEL_AUDIT=written):
        found = getattr(conf, name)

    assert found == expected


@pytest.mark.parametrize(
    ("old", "value", "name", "expected"),
    [
        ("DRF_AUDIT_TRAIL_DATABASE_ALIAS", "audit", "database", "audit"),
        ("DRF_AUDIT_TRAIL_AUTH_URL", "/api/token/", "auth_urls", ("/api/token/",)),
        ("DRF_AUDIT_TRAIL_AUTH_URL", ["/a/", "/b/"], "auth_urls", ("/a/", "/b/")),
        ("DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FAILED", 400, "auth_failed_status_codes", (400,)),
        ("DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FALIED", 400, "auth_failed_status_codes", (400,)),
        ("DRF_AUDIT_TRAIL_USER_PK_NAME", "email", "user_pk_name", "email"),
    ],
)
def test_an_ancestors_name_counts_where_the_new_key_is_absent(old: str, value: Any, name: str, expected: Any) -> None:
    with override_settings(OTEL_AUDIT={}, **{old: value}):
        found = getattr(conf, name)

    assert found == expected


def test_the_new_key_wins_over_the_ancestors_name() -> None:
    with override_settings(OTEL_AUDIT={"USER_PK_NAME": "username"}, DRF_AUDIT_TRAIL_USER_PK_NAME="email"):
        found = conf.user_pk_name

    assert found == "username"


def test_the_documented_spelling_wins_over_the_one_in_the_ancestors_code() -> None:
    with override_settings(DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FAILED=400, DRF_AUDIT_TRAIL_AUTH_STATUS_CODE_FALIED=403):
        found = conf.auth_failed_status_codes

    assert found == (400,)


def test_every_name_of_the_ancestor_belongs_to_one_key() -> None:
    names = [name for names in LEGACY_NAMES.values() for name in names]

    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        ({"ENABLED": "no"}, "enabled", True),
        ({"DATABASE": "nowhere"}, "database", "default"),
        ({"DATABASE": 3}, "database", "default"),
        ({"SERVICE_NAME": 3}, "service_name", None),
        ({"SPOOL_MAX_BYTES": "1 GB"}, "spool_max_bytes", 1024**3),
        ({"DRAIN": "never"}, "drain", "thread"),
        ({"RESOLVE_ACTOR": None}, "resolve_actor", True),
        ({"AUTH_FAILED_STATUS_CODES": ["four"]}, "auth_failed_status_codes", (401,)),
        ({"USER_PK_NAME": ""}, "user_pk_name", "pk"),
        ({"OTLP": {"endpoint": "collector"}}, "otlp", None),
        ({"TRACE_URL": "http://j/{trace}"}, "trace_url", None),
        (["DATABASE"], "database", "default"),
    ],
)
def test_a_wrong_value_falls_back_to_the_default(written: Any, name: str, expected: Any) -> None:
    with override_settings(OTEL_AUDIT=written):
        found = getattr(conf, name)

    assert found == expected


@pytest.mark.parametrize(
    ("written", "name", "expected"),
    [
        ({"REDACT": ["ssn", 3]}, "redaction", Redaction(("ssn",))),
        ({"TRUSTED_PROXIES": ["10.0.0.0/8", "proxy", 7]}, "trusted_proxies", ("10.0.0.0/8",)),
        ({"TRUSTED_PEERS": ["::1", "peer", 7, {"secret": "short"}, {}]}, "trusted_peers", ("::1",)),
        ({"AUTH_URLS": ["/in/", None]}, "auth_urls", ("/in/",)),
        ({"AUTH_FAILED_STATUS_CODES": [400, "401"]}, "auth_failed_status_codes", (400,)),
    ],
)
def test_a_list_keeps_the_items_that_can_be_read(written: dict[str, Any], name: str, expected: Any) -> None:
    with override_settings(OTEL_AUDIT=written):
        found = getattr(conf, name)

    assert found == expected


@given(key=st.sampled_from(sorted(DEFAULTS)), value=JSON)
def test_no_property_raises_whatever_is_written(key: str, value: Any) -> None:
    with override_settings(OTEL_AUDIT={key: value}):
        getattr(conf, PROPERTIES[key])
        conf.policy.decide("/a/", "GET")
        assert conf.spool_dir.is_absolute()


def test_a_wrong_value_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    fresh = AuditSettings()
    caplog.set_level(logging.ERROR, "otel_audit.conf")

    for _ in range(2):
        with override_settings(OTEL_AUDIT={"DRAIN": "hourly"}):
            assert (fresh.drain, fresh.drain) == ("thread", "thread")

    assert [record.getMessage() for record in caplog.records] == [
        "OTEL_AUDIT['DRAIN']: 'hourly' is none of 'thread', 'external'; otel_audit goes on without it. "
        "'manage.py check' says what to write."
    ]


def test_no_credential_of_a_wrong_value_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    fresh = AuditSettings()
    secrets = {
        "DATABASE": "postgres://audit:hunter2@db/audit",
        "OTLP": {"endpoint": "collector:hunter2", "headers": {"authorization": b"hunter2"}},
        "TRACE_URL": "user:hunter2@jaeger/{trace_id}",
    }

    with override_settings(OTEL_AUDIT=secrets):
        assert (fresh.database, fresh.otlp, fresh.trace_url) == ("default", None, None)

    assert len(caplog.records) == 4
    assert "hunter2" not in caplog.text


def test_override_settings_is_seen_at_once_and_undone() -> None:
    before = conf.user_pk_name

    with override_settings(OTEL_AUDIT={"USER_PK_NAME": "email"}):
        inside = conf.user_pk_name

    assert (before, inside, conf.user_pk_name) == ("pk", "email", "pk")


def test_a_plain_assignment_is_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = conf.user_pk_name
    monkeypatch.setattr(settings, "OTEL_AUDIT", {"USER_PK_NAME": "email"})

    after = conf.user_pk_name

    assert (before, after) == ("pk", "email")


def test_a_change_inside_the_dict_is_seen_at_once() -> None:
    with override_settings(OTEL_AUDIT={"USER_PK_NAME": "email"}):
        before = conf.user_pk_name
        settings.OTEL_AUDIT["USER_PK_NAME"] = "username"
        after = conf.user_pk_name

    assert (before, after) == ("email", "username")


def test_an_unchanged_value_is_read_once() -> None:
    with override_settings(OTEL_AUDIT={"POLICY": [{"path": "^/a/", "level": "none"}], "REDACT": ["ssn"]}):
        first = (conf.policy, conf.redactor)
        second = (conf.policy, conf.redactor)

    assert first[0] is second[0]
    assert first[1] is second[1]


def test_the_policy_follows_each_of_its_settings() -> None:
    with override_settings(OTEL_AUDIT={}, STATIC_URL="/s/"):
        assert not conf.policy.decide("/s/a.css", "GET").record
        with override_settings(STATIC_URL="https://cdn.example/s/"):
            assert conf.policy.decide("/s/a.css", "GET").record
        with override_settings(OTEL_AUDIT={"POLICY": [{"path": "^/s/", "level": "metadata"}]}):
            assert conf.policy.decide("/s/a.css", "GET").record
        with override_settings(DRF_AUDIT_TRAIL_REQUEST_AUDIT_URLS=[r"^/api/"]):
            assert not conf.policy.decide("/shop/", "GET").record
        assert conf.policy.decide("/shop/", "GET").record


@pytest.mark.parametrize("static_url", ["/", "", None, "https://cdn.example/", "//"])
def test_a_static_url_that_is_no_path_of_its_own_excludes_nothing(static_url: Any) -> None:
    with override_settings(STATIC_URL=static_url):
        decision = conf.policy.decide("/shop/", "GET")

    assert decision.record


def test_tests_keep_records_in_memory_unless_the_site_says_otherwise() -> None:
    with override_settings(OTEL_AUDIT={}):
        default = conf.delivery
    with override_settings(OTEL_AUDIT={"DELIVERY": "spool"}):
        said = conf.delivery

    assert (default, said) == ("memory", "spool")


def test_a_thread_that_meets_django_test_half_imported_delivers_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "django.test.utils", ModuleType("django.test.utils"))

    with override_settings(OTEL_AUDIT={}):
        delivery = conf.delivery

    assert delivery == "spool"


def test_importing_django_test_makes_no_test_environment() -> None:
    code = "import django, django.test; django.setup(); from otel_audit.conf import conf; print(conf.delivery)"

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "spool"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OTEL_AUDIT_SPOOL_DIR": "/srv/spool", "STATE_DIRECTORY": "/var/lib/shop"}, "/srv/spool"),
        ({"STATE_DIRECTORY": "/var/lib/shop:/var/lib/other", "XDG_STATE_HOME": "/x"}, "/var/lib/shop/{fingerprint}"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/home/a"}, "/x/otel-audit/{fingerprint}"),
        ({"HOME": "/home/a"}, "/home/a/.local/state/otel-audit/{fingerprint}"),
        ({"OTEL_AUDIT_SPOOL_DIR": "relative", "XDG_STATE_HOME": "/x"}, "/x/otel-audit/{fingerprint}"),
    ],
)
def test_the_spool_directory_comes_from_the_environment(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OTEL_AUDIT_SPOOL_DIR", "STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with override_settings(OTEL_AUDIT={}):
        found = conf.spool_dir

    assert str(found) == expected.format(fingerprint=database_fingerprint("default"))


def test_a_user_without_a_home_gets_a_spool_directory_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_AUDIT_SPOOL_DIR", "STATE_DIRECTORY", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)

    with override_settings(OTEL_AUDIT={}):
        found = conf.spool_dir

    assert found == Path("/var/lib/otel-audit") / database_fingerprint("default")


def test_the_fingerprint_names_the_database_and_no_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    target = connections.settings["audit"]
    before = database_fingerprint("audit")

    monkeypatch.setitem(target, "PASSWORD", "hunter2")
    with_password = database_fingerprint("audit")
    monkeypatch.setitem(target, "NAME", "another")
    another = database_fingerprint("audit")

    assert before == with_password != another
    assert len(before) == 16
    assert before != database_fingerprint("default")
