"""Envelope → unsaved rows of the five models. Pure: no database, no clock, no settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from otel_audit import attributes as keys
from otel_audit.exceptions import OTelAuditError
from otel_audit.models import (
    AuditEvent,
    LoginAuditEvent,
    ProcessAuditEvent,
    RegistrationAuditEvent,
    RequestAuditEvent,
    StepAuditEvent,
)
from otel_audit_exporters.columns import fitted, number

__all__ = ["MappingError", "request_action", "request_outcome", "rows"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OUTCOMES: Final = frozenset(AuditEvent.Outcome.values)
_READ_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_ACTIONS: Final = {"POST": "CREATE", "PUT": "UPDATE", "PATCH": "UPDATE", "DELETE": "DELETE"}
_LOGIN_STATUS: Final = {
    "LOGIN": LoginAuditEvent.SIGNIN,
    "LOGOUT": LoginAuditEvent.SIGNOUT,
    "REFRESH": LoginAuditEvent.REFRESH,
    "PASSWORD_CHANGE": LoginAuditEvent.PASSWORD_CHANGE,
    "PASSWORD_RESET": LoginAuditEvent.PASSWORD_RESET,
    "PASSWORD_RESET_REQUEST": LoginAuditEvent.PASSWORD_RESET_REQUEST,
    "LOCKOUT": LoginAuditEvent.LOCKOUT,
}


class MappingError(OTelAuditError):
    """An envelope cannot become a row; it goes to quarantine, never away."""


def rows(envelope: Mapping[str, Any]) -> list[AuditEvent]:
    """Return the unsaved rows of ``envelope``: one for a record, none for the spool's own frames.

    Raises:
        MappingError: the envelope lacks what a row needs, or has a kind that is not known here.
    """
    if envelope.get("type") not in ("span", "event", "intent"):
        return []
    kind = envelope.get("kind")
    build = _BUILDERS.get(str(kind))
    if build is None:
        raise MappingError(f"an envelope has the kind {kind!r}; known are {', '.join(_BUILDERS)}.")
    try:
        return [build(_Row(envelope))]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MappingError(
            f"the envelope {envelope.get('id')!r} of kind {kind!r} is not complete: {error!r}."
        ) from error


class _Row:
    """Collects the columns of one row and what had to be changed to store them."""

    def __init__(self, envelope: Mapping[str, Any]) -> None:
        self.envelope = envelope
        self.facts: Mapping[str, Any] = envelope.get("facts") or {}
        self.span: Mapping[str, Any] = envelope.get("span") or {}
        self.attributes: Mapping[str, Any] = self.facts.get("attributes") or {}
        self.changed: list[str] = list(self.facts.get("changed") or ())
        if self.span.get("dropped"):
            self.changed.append("span.dropped")

    def attribute(self, *names: str) -> Any:
        """Return the first attribute that is there: the stable name, then the older ones."""
        for name in names:
            if (value := self.attributes.get(name)) is not None:
                return value
        return None

    def id_of(self, kind: str) -> UUID | None:
        """Return the id of the enclosing request, process or step."""
        value = (self.envelope.get("ids") or {}).get(kind)
        return UUID(value) if value else None

    def actor(self) -> tuple[str | None, str, str]:
        """Return key (None: anonymous), name and type of the actor."""
        found = self.facts.get("actor")
        if not found:
            return None, keys.ACTOR_UNKNOWN, keys.ACTOR_SYSTEM if self.id_of("request") is None else keys.ACTOR_USER
        key, name, kind = found
        return key, name, kind

    def build(self, model: type[AuditEvent], began_ns: int, **columns: Any) -> AuditEvent:
        """Return an unsaved ``model`` with the common columns, each value made to fit its field."""
        _, actor_name, actor_type = self.actor()
        observed = self.envelope.get("observed")
        columns = {
            "datetime": _time(began_ns),
            "observed_at": datetime.fromisoformat(observed) if observed else _time(began_ns),
            "trace_id": self.span.get("trace_id", ""),
            "span_id": self.span.get("span_id", ""),
            "parent_span_id": self.span.get("parent_span_id", ""),
            "service_name": self.envelope.get("service", ""),
            "actor_name": actor_name,
            "actor_type": actor_type,
            "schema_version": str(self.envelope["v"]),
            "extra_informations": self.facts.get("extra"),
            "stream_id": self.envelope.get("stream", ""),
            "stream_seq": self.envelope.get("seq"),
            "record_hash": self.envelope.get("hash", ""),
            **columns,
        }
        if columns["outcome"] not in _OUTCOMES:
            columns["outcome"] = keys.OUTCOME_UNKNOWN
            self.changed.append("outcome")
        columns["id"] = UUID(self.envelope["id"])
        make: Callable[..., AuditEvent] = model  # by position, as rows are made that come from the database
        row = make(*fitted(model, columns, self.changed))
        row.changed_fields = self.changed
        return row


def _request(row: _Row) -> AuditEvent:
    facts, attribute = row.facts, row.attribute
    status = (
        facts["status"] if "status" in facts else attribute(keys.HTTP_RESPONSE_STATUS_CODE, keys.OLD_HTTP_STATUS_CODE)
    )
    method = str(facts.get("method") or attribute(keys.HTTP_REQUEST_METHOD, keys.OLD_HTTP_METHOD) or "")
    url, query = _url(row)
    error = facts.get("error") or {}
    return row.build(
        RequestAuditEvent,
        _span_times(row)[0],
        user=row.actor()[0],
        ip_addresses=facts.get("address")
        or attribute(keys.CLIENT_ADDRESS, keys.OLD_HTTP_CLIENT_IP, keys.NETWORK_PEER_ADDRESS, keys.OLD_NET_PEER_IP),
        method=method,
        url=url,
        route=facts.get("route") or attribute(keys.HTTP_ROUTE) or "",
        query_params=query,
        request_type=facts.get("scheme") or attribute(keys.URL_SCHEME, keys.OLD_HTTP_SCHEME),
        session_id=facts.get("session_id") or "",
        user_agent=facts.get("user_agent") or attribute(keys.USER_AGENT_ORIGINAL, keys.OLD_HTTP_USER_AGENT) or "",
        request_body=facts.get("request_body"),
        request_size=facts.get("request_size"),
        response_body=facts.get("response_body"),
        response_size=facts.get("response_size"),
        status_code=status,
        response_time=_duration_ms(row),
        error_type=error.get("type"),
        error_message=error.get("message"),
        error_stacktrace=error.get("stacktrace"),
        action=facts.get("action") or request_action(method),
        outcome=facts.get("outcome") or request_outcome(status),
    )


def _url(row: _Row) -> tuple[str, str | None]:
    """Return path and query; the stock route knows them only from the span's attributes, which are redacted."""
    if "url" in row.facts:
        return row.facts["url"], row.facts.get("query")
    found = [
        (row.attribute(keys.URL_PATH) or "", row.attribute(keys.URL_QUERY) or ""),
        *(_split(row.attribute(name)) for name in (keys.OLD_HTTP_TARGET, keys.URL_FULL, keys.OLD_HTTP_URL)),
    ]
    return next((path for path, _ in found if path), ""), next((query for _, query in found if query), "")


def _split(url: Any) -> tuple[str, str]:
    text = str(url or "")
    try:
        parts = urlsplit(text)
    except ValueError:  # "http://[": stored as it is
        path, _, query = text.partition("?")
        return path, query
    return parts.path, parts.query


def _login(row: _Row) -> AuditEvent:
    facts = row.facts
    action = str(facts.get("action", "LOGIN"))
    outcome = str(facts.get("outcome", keys.OUTCOME_SUCCESS))
    status = facts.get("status")
    if not status:
        failed = outcome == keys.OUTCOME_FAILURE
        status = LoginAuditEvent.FAILED if failed else _LOGIN_STATUS.get(action, action.capitalize())
    return row.build(
        LoginAuditEvent,
        int(facts["at"]),
        status=status,
        user=facts.get("user"),
        username=facts.get("username") or "",
        method=facts.get("method") or "",
        reason=facts.get("reason") or "",
        session_id=facts.get("session_id") or "",
        request_id=row.id_of("request"),
        action=action,
        outcome=outcome,
    )


def _process(row: _Row) -> AuditEvent:
    return row.build(
        ProcessAuditEvent,
        _span_times(row)[0],
        name=row.facts.get("name") or row.span["name"],
        description=row.facts.get("description") or row.attribute(keys.AUDIT_PROCESS_DESCRIPTION),
        created_by=row.actor()[0],
        duration_ms=_duration_ms(row),
        request_id=row.id_of("request"),
        action=row.attribute(keys.AUDIT_ACTION) or "EXECUTE",
        outcome=_span_outcome(row),
        extra_informations=_with_error(row),
    )


def _step(row: _Row) -> AuditEvent:
    expected = row.attribute(keys.AUDIT_STEP_EXPECTED)
    return row.build(
        StepAuditEvent,
        _span_times(row)[0],
        process_id=row.id_of("process"),
        name=row.facts.get("name") or row.span["name"],
        description=row.facts.get("description") or row.attribute(keys.AUDIT_STEP_DESCRIPTION),
        order=_int(row.attribute(keys.AUDIT_STEP_ORDER), row.facts.get("order")),
        total_registrations=_int(expected, 1),
        created_by=row.actor()[0],
        duration_ms=_duration_ms(row),
        action=row.attribute(keys.AUDIT_ACTION) or "EXECUTE",
        outcome=_span_outcome(row),
        extra_informations=_with_error(row),
    )


def _registration(row: _Row) -> AuditEvent:
    facts = row.facts
    success = facts.get("success") is True
    return row.build(
        RegistrationAuditEvent,
        int(facts["at"]),
        step_id=row.id_of("step"),
        success=success,
        name=facts.get("name") or "",
        description=facts.get("description") or None,
        created_by=row.actor()[0],
        action="EXECUTE",
        outcome=keys.OUTCOME_SUCCESS if success else keys.OUTCOME_FAILURE,
    )


_BUILDERS: Final[dict[str, Callable[[_Row], AuditEvent]]] = {
    "request": _request,
    "login": _login,
    "process": _process,
    "step": _step,
    "registration": _registration,
}


def _span_times(row: _Row) -> tuple[int, int]:
    return int(row.span["start"]), int(row.span["end"])


def _time(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def request_action(method: str) -> str:
    """Return the action of a request by its method."""
    return "READ" if method in _READ_METHODS else _ACTIONS.get(method, "EXECUTE")


def request_outcome(status: Any) -> str:
    """Return the outcome of a request by the status of its response."""
    code = number(status)
    if code is None:
        return keys.OUTCOME_UNKNOWN
    return keys.OUTCOME_FAILURE if code >= 400 else keys.OUTCOME_SUCCESS


def _span_outcome(row: _Row) -> str:
    if outcome := row.facts.get("outcome") or row.attribute(keys.AUDIT_OUTCOME):
        return str(outcome)
    return keys.OUTCOME_FAILURE if row.span.get("status") == "ERROR" else keys.OUTCOME_SUCCESS


def _with_error(row: _Row) -> Any:
    extra = row.facts.get("extra")
    error = row.facts.get("error")
    if not error:
        return extra
    return (
        {**extra, "exception": error}
        if isinstance(extra, dict)
        else {"value": extra, "exception": error}
        if (extra)
        else {"exception": error}
    )


def _duration_ms(row: _Row) -> Any:
    """Return the duration by the monotonic clock, else by the span's times, which a clock set back makes useless."""
    start, end = _span_times(row)
    return row.facts["duration_ms"] if "duration_ms" in row.facts else max(0.0, (end - start) / 1e6)


def _int(value: Any, default: Any) -> Any:
    return default if not isinstance(value, int) or isinstance(value, bool) else value
