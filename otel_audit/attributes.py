"""Every span name, event name and attribute key this package writes or reads, a constant each.

Keys come from the OpenTelemetry semantic conventions where one exists
(https://opentelemetry.io/docs/specs/semconv/), the ``audit.*`` ones from the OpenTelemetry Audit Logging draft
(https://github.com/open-telemetry/opentelemetry-specification/pull/5059).
"""

from __future__ import annotations

from typing import Final

# ── audit records (strings unless said otherwise) ───────────────────────────────────────────────
AUDIT_KIND: Final = "audit.kind"  # "process" | "step", given when the span starts
AUDIT_RECORD_ID: Final = "audit.record.id"  # UUIDv7, the idempotency key and primary key
AUDIT_ACTION: Final = "audit.action"  # upper-case verb: LOGIN, READ, CREATE, …
AUDIT_OUTCOME: Final = "audit.outcome"  # "success" | "failure" | "unknown"
AUDIT_ACTOR_ID: Final = "audit.actor.id"
AUDIT_ACTOR_TYPE: Final = "audit.actor.type"  # "user" | "service" | "system"
AUDIT_PROCESS_DESCRIPTION: Final = "audit.process.description"
AUDIT_STEP_DESCRIPTION: Final = "audit.step.description"
AUDIT_STEP_ORDER: Final = "audit.step.order"  # int, from 1
AUDIT_STEP_EXPECTED: Final = "audit.step.expected_registrations"  # int
AUDIT_REGISTRATION_NAME: Final = "audit.registration.name"
AUDIT_REGISTRATION_SUCCESS: Final = "audit.registration.success"  # bool
AUDIT_REGISTRATION_DESCRIPTION: Final = "audit.registration.description"
AUDIT_LOGIN_METHOD: Final = "audit.login.method"  # "session", "simplejwt", "drf-token", …

# ── what is forwarded beside them ───────────────────────────────────────────────────────────────
AUDIT_SCHEMA_VERSION: Final = "audit.schema.version"  # of the envelope
AUDIT_TARGET_ID: Final = "audit.target.id"  # what was acted on: a path
AUDIT_TARGET_TYPE: Final = "audit.target.type"  # "http.endpoint"
AUDIT_REQUEST_ID: Final = "audit.request.id"  # record id of the enclosing request
AUDIT_PROCESS_ID: Final = "audit.process.id"
AUDIT_STEP_ID: Final = "audit.step.id"
AUDIT_LOGIN_REASON: Final = "audit.login.reason"
AUDIT_REQUEST_BODY: Final = "audit.request.body"  # redacted and cut
AUDIT_RESPONSE_BODY: Final = "audit.response.body"
AUDIT_CHANGED: Final = "audit.changed"  # list: what was cut, escaped or redacted
AUDIT_RECEIVER: Final = "audit.receiver"  # bool: the request brought spans to our receiver, and makes no record

# ── metrics of the audit trail itself ───────────────────────────────────────────────────────────
AUDIT_SINK: Final = "audit.sink"  # "database" | "otlp"

# ── facts beside the span, keys of ``extra_informations``; the session has a column and is on the span, too ──
SESSION_ID: Final = "session.id"  # a keyed hash, the same for a sign-in and what follows it; never a session's key
AUDIT_IMPERSONATOR_ID: Final = "audit.impersonator.id"  # primary key of who really acts, in another user's session
AUDIT_IMPERSONATOR_NAME: Final = "audit.impersonator.name"  # where it is known without a query
AUDIT_REFRESH_ID: Final = "audit.refresh.id"  # a keyed hash of the refresh token that was given out or shown
AUDIT_REFRESH_NEXT_ID: Final = "audit.refresh.next_id"  # the same of the one that replaces it
AUDIT_UNTRUSTED_FORWARDED_FOR: Final = "audit.untrusted.x-forwarded-for"  # the header as it came, redacted and cut
AUDIT_UNTRUSTED_FORWARDED: Final = "audit.untrusted.forwarded"  # the same for RFC 7239's header

# ── span events ─────────────────────────────────────────────────────────────────────────────────
EVENT_REGISTRATION: Final = "audit.registration"
EVENT_LOGIN: Final = "audit.login"
EVENT_EXCEPTION: Final = "exception"

# ── values ──────────────────────────────────────────────────────────────────────────────────────
KIND_PROCESS: Final = "process"
KIND_STEP: Final = "step"
OUTCOME_SUCCESS: Final = "success"
OUTCOME_FAILURE: Final = "failure"
OUTCOME_UNKNOWN: Final = "unknown"
#: How OpenTelemetry's name begins for a service that nobody named: ``unknown_service:python``.
SERVICE_UNKNOWN: Final = "unknown_service"
ACTOR_USER: Final = "user"
ACTOR_SERVICE: Final = "service"
ACTOR_SYSTEM: Final = "system"
ACTOR_ANONYMOUS: Final = "anonymous"  # a request that nobody signed in for
ACTOR_UNKNOWN: Final = "unknown"  # nobody said who acts, or nobody was asked

# ── HTTP, stable semantic conventions ───────────────────────────────────────────────────────────
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"  # int
HTTP_REQUEST_BODY_SIZE: Final = "http.request.body.size"  # int, bytes
HTTP_RESPONSE_BODY_SIZE: Final = "http.response.body.size"  # int, bytes
HTTP_ROUTE: Final = "http.route"
URL_PATH: Final = "url.path"
URL_QUERY: Final = "url.query"
URL_FULL: Final = "url.full"
URL_SCHEME: Final = "url.scheme"
CLIENT_ADDRESS: Final = "client.address"
NETWORK_PEER_ADDRESS: Final = "network.peer.address"
USER_AGENT_ORIGINAL: Final = "user_agent.original"
USER_ID: Final = "user.id"  # read only, of services that send to our receiver
USER_HASH: Final = "user.hash"  # a keyed hash of the actor's key
CODE_FUNCTION_NAME: Final = "code.function.name"  # of the view
USER_NAME: Final = "user.name"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
SERVICE_NAME: Final = "service.name"

# ── HTTP, the generation before (read only) ─────────────────────────────────────────────────────
OLD_HTTP_METHOD: Final = "http.method"
OLD_HTTP_STATUS_CODE: Final = "http.status_code"  # int
OLD_HTTP_URL: Final = "http.url"
OLD_HTTP_TARGET: Final = "http.target"
OLD_HTTP_SCHEME: Final = "http.scheme"
OLD_HTTP_USER_AGENT: Final = "http.user_agent"
OLD_HTTP_CLIENT_IP: Final = "http.client_ip"
OLD_NET_PEER_IP: Final = "net.peer.ip"
