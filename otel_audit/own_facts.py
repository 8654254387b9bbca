"""Facts of ours that have no column: they stand in ``extra_informations``, beside what the site puts there.

Their keys are those of `otel_audit.attributes`, so that they are told from the site's own. Forwarded headers are among
them: the walk over trusted proxies finds one address (`otel_audit.client_ip`), and whoever doubts it needs what came.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.redaction import Redactor

__all__ = ["add_own", "untrusted_headers"]

logger = logging.getLogger("otel_audit")

#: Characters of a forwarded header that are kept, from the right: the end at which proxies append.
MAX_HEADER: Final = 512
#: Characters that are redacted before that: a secret that is cut in half would not be recognised.
_MAX_READ: Final = 2048
_CUT: Final = "…"

_warned: set[str] = set()


def add_own(facts: dict[str, Any], own: Mapping[str, Any]) -> None:
    """Put ``own`` beside what a view has said; ours count where both have a key. The session has a column."""
    rest = dict(own)
    if (session := rest.pop(keys.SESSION_ID, None)) is not None:
        facts["session_id"] = session
    if not rest:
        return
    extra = facts.get("extra")
    if extra is not None and not isinstance(extra, dict):
        extra = {"extra_informations": extra}
    facts["extra"] = {**(extra or {}), **rest}


def untrusted_headers(forwarded_for: str | None, forwarded: str | None, redactor: Redactor) -> dict[str, str]:
    """Return the forwarded headers as they came, redacted and cut, under keys that say what they are worth.

    Where no proxy is trusted the log says, once in a process, that they arrive and are not believed.
    """
    found = {}
    if forwarded_for:
        found[keys.AUDIT_UNTRUSTED_FORWARDED_FOR] = _kept(redactor, forwarded_for[-_MAX_READ:])
    if forwarded:
        found[keys.AUDIT_UNTRUSTED_FORWARDED] = _kept(redactor, forwarded[-_MAX_READ:])
    if found and not conf.trusted_proxies:
        _warn("X-Forwarded-For" if forwarded_for else "Forwarded")
    return found


@lru_cache(maxsize=256)
def _kept(redactor: Redactor, header: str) -> str:
    text = redactor.text(header)
    return text if len(text) <= MAX_HEADER else _CUT + text[-MAX_HEADER:]


def _warn(header: str) -> None:
    if not _warned:
        _warned.add(header)
        logger.warning(
            "Requests arrive with %s, and OTEL_AUDIT has no TRUSTED_PROXIES: the peer's address is recorded as the "
            "client's. Behind a proxy, set TRUSTED_PROXIES to its network; otherwise ignore this.",
            header,
        )
