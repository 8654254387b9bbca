"""Every error this package raises: each message is a sentence for the user that says what to do.

They all derive from :class:`OTelAuditError`, so that a site can catch them in one place.
"""

from __future__ import annotations

__all__ = ["AppendOnlyError", "CarrierError", "ConfigurationError", "OTelAuditError", "SpoolError"]


class OTelAuditError(Exception):
    """Base class of all errors of this package."""


class ConfigurationError(OTelAuditError):
    """A setting is wrong; the message names the key, the value and what to write instead."""


class AppendOnlyError(OTelAuditError):
    """Somebody tried to change or delete an audit row through the ORM."""

    def __init__(self, model: str, operation: str) -> None:
        super().__init__(
            f"{operation} on {model} was refused: audit rows are append-only. Record what happened as a new "
            "event instead; rows leave only with the retention of the audit database."
        )


class CarrierError(OTelAuditError):
    """A carrier given to ``resume()`` is not one that ``carrier()`` of this site made."""


class SpoolError(OTelAuditError):
    """The spool directory cannot be used; the message says which and why."""
