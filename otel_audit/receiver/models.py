"""What a sender of spans shows to prove which service it is. Hashed at rest; no audit row, and so no audit model."""

from __future__ import annotations

import secrets
from typing import Final

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from otel_audit.conf import conf
from otel_audit.receiver.hashes import certificate_hash, token_hash

__all__ = ["ReceiverToken"]

#: By which a scanner for leaked secrets knows one.
PREFIX: Final = "otel_audit_"


class ReceiverToken(models.Model):
    """The right to send spans in the name of one service. Revoked ones are kept: rows came by them."""

    service = models.CharField(_("service"), max_length=255)
    hash = models.CharField(_("SHA-256 of the token"), max_length=64, unique=True)
    spans_per_second = models.PositiveIntegerField(_("spans per second"), null=True, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)

    class Meta:
        db_table = "otel_audit_receiver_token"
        verbose_name = _("receiver token")
        verbose_name_plural = _("receiver tokens")
        default_permissions = ()  # the command alone makes and revokes them

    def __str__(self) -> str:
        return f"{self.pk}: {self.service}"

    @classmethod
    def issue(cls, service: str, spans_per_second: int | None = None) -> tuple[ReceiverToken, str]:
        """Make a token for ``service``; return it with its text, which nobody can tell again."""
        text = PREFIX + secrets.token_urlsafe(32)
        made = cls.objects.using(conf.database).create(
            service=service, hash=token_hash(text), spans_per_second=spans_per_second
        )
        return made, text

    @classmethod
    def admit(cls, service: str, certificate: str, spans_per_second: int | None = None) -> ReceiverToken | None:
        """Let who has a certificate send for ``service``; None where somebody is let in by it already.

        Args:
            service: the service that its owner is.
            certificate: its name, as the proxy says it: the subject, or a fingerprint.
            spans_per_second: how many spans may come.
        """
        entries = cls.objects.using(conf.database)
        digest = certificate_hash(certificate)
        if entries.filter(hash=digest, revoked_at=None).exists():
            return None
        changes = {
            "service": service,
            "spans_per_second": spans_per_second,
            "created_at": timezone.now(),
            "revoked_at": None,
        }
        return entries.update_or_create(hash=digest, defaults=changes)[0]
