"""People, and what is recorded about their sign-ins."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from otel_audit.models import LoginAuditEvent
from otel_audit.testing import AuditRecords, capture

PASSWORD = "correct horse"


@pytest.fixture
def records() -> Iterator[AuditRecords]:
    """What was recorded."""
    with capture() as found:
        yield found


@pytest.fixture
def user(db: None) -> User:
    """Ada, who can sign in."""
    return User.objects.create_user("ada", "ada@example.com", PASSWORD)


@pytest.fixture
def bob(db: None) -> User:
    """Somebody else."""
    return User.objects.create_user("bob", "bob@example.com", PASSWORD)


@pytest.fixture
def client() -> Client:
    """A browser that gets the site's error pages, as real ones do."""
    return Client(raise_request_exception=False)


@pytest.fixture
def api() -> APIClient:
    """An API client that sends JSON."""
    client = APIClient(raise_request_exception=False)
    client.default_format = "json"
    return client


def only(records: AuditRecords) -> LoginAuditEvent:
    """Return the one sign-in event of the one request, and see that it belongs to it."""
    (request,) = records.requests
    (login,) = records.logins
    assert login.request_id == request.pk
    assert (login.trace_id, login.span_id) == (request.trace_id, request.span_id)
    return login


def told(login: LoginAuditEvent) -> tuple[str, str, str, str | None, str]:
    """Return what an event says: status, action, outcome, user, name."""
    return login.status, login.action, login.outcome, login.user, login.username
