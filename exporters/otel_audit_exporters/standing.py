"""What became of every record, put together from the books on disk and from what this process knows alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from otel_audit.conf import conf
from otel_audit_exporters.accounts import excluded_by, oldest_pending, pending
from otel_audit_exporters.directory import directory_problem
from otel_audit_exporters.losses import REFUSED, excluded
from otel_audit_exporters.room import size_problem
from otel_audit_exporters.sinks import sinks_status
from otel_audit_exporters.spool import SpoolWriter

__all__ = ["standing", "uses_spool"]

_COUNTED = ("captured", "stored", "pending", "quarantined", "lost", "refused")
#: What a pipeline counts of records that no file on disk knows of.
_BESIDE = (("stored", "written"), ("lost", "lost"))


def uses_spool() -> bool:
    """Whether the spool is in use: by every record, or under synchronous delivery by the intents."""
    return conf.delivery == "spool" or (conf.delivery == "sync" and conf.intents != "off")


def standing(
    held: int, counts: Mapping[str, int], left_out: Mapping[str, int], spool: SpoolWriter | None
) -> dict[str, Any]:
    """Return what `otel_audit.status` says.

    Args:
        held: records in the memory of this process, as neither spool nor database takes them.
        counts: records that went past the spool, by what became of them: ``written``, ``lost``.
        left_out: requests that the policy left out and no file counts, by what of it says so.
        spool: this process's writer, where it has one.
    """
    found: dict[str, Any] = {"delivery": conf.delivery, "enabled": conf.enabled, "held": held}
    found["oldest_pending_s"] = None
    counted = dict.fromkeys(_COUNTED, 0)
    excluded_here = Counter(left_out)
    if uses_spool():
        found["spool_dir"] = str(conf.spool_dir)
        found["spool_problem"] = directory_problem(conf.spool_dir)
        if found["spool_problem"] is None:
            counted |= pending(conf.spool_dir, conf.fingerprint)
            excluded_here += excluded_by(conf.spool_dir, conf.fingerprint)
            found["oldest_pending_s"] = _waits_longest()
            found["spool_problem"] = size_problem(conf.spool_dir, conf.spool_max_bytes)
    elif _fell_back():
        counted |= pending(conf.spool_dir, conf.fingerprint)
        excluded_here += excluded_by(conf.spool_dir, conf.fingerprint)
        found["oldest_pending_s"] = _waits_longest()
    for name, beside in _BESIDE:
        counted[name] += counts[beside]
        counted["captured"] += counts[beside]
    counted["pending"] += held
    counted["captured"] += held
    if spool is not None:
        unnoted = spool.unnoted()
        counted["refused"] += unnoted.get(REFUSED, 0)
        excluded_here += excluded(unnoted)
    found |= {"excluded": excluded_here.total(), "excluded_by": dict(excluded_here.most_common())}
    return {**found, **counted, **sinks_status(found.get("spool_problem"))}


def _fell_back() -> bool:
    """Whether there is a spool that took, or may have taken, what the database did not under synchronous delivery."""
    return conf.delivery == "sync" and os.path.lexists(conf.spool_dir) and directory_problem(conf.spool_dir) is None


def _waits_longest() -> float | None:
    oldest = oldest_pending(conf.spool_dir, conf.fingerprint)
    return None if oldest is None else max(0.0, round((datetime.now(UTC) - oldest).total_seconds(), 3))
