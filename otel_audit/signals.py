"""Signals of this package: a site connects to them to be told at once when its audit trail is in trouble."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

__all__ = ["audit_delivery_failed"]

#: Sent by the delivering thread on the first failure and then at most once a minute per reason, with
#: ``reason`` (str, one word: ``"outage"``, ``"collector"``, ``"conflict"``, ``"poison"``, …), ``count`` (int,
#: records or attempts since the last signal) and ``error`` (str, a sentence). A receiver that raises is logged
#: and disturbs nobody.
audit_delivery_failed: Final = Signal()
