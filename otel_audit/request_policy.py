"""Decides what is recorded of a request whose response is there, where the rules of the policy depend on that."""

from __future__ import annotations

from typing import Any

from otel_audit import attributes as keys
from otel_audit.conf import conf
from otel_audit.delivery import delivery
from otel_audit.edges import edge
from otel_audit.request_scope import RequestScope
from otel_audit.rules import Facts

__all__ = ["HEALTH", "RECEIVER", "ask_for_groups", "excluded_by", "settle", "wants_groups"]

#: What requests for views of ours are counted under.
HEALTH = "health view"
RECEIVER = "receiver"


def wants_groups(scope: RequestScope) -> bool:
    """Whether a rule asks for the groups of who acts; looking at them costs the guard a query."""
    with edge("guard.wants_groups"):
        return (
            not scope.decision.is_final
            and delivery().listening()  # a site's tests may count its queries
            and any(conf.policy.asks_for_groups(path, scope.method) for path in scope.paths())
        )
    return False


def ask_for_groups(scope: RequestScope) -> None:
    """Look up the names of the groups of who acts, while they can still be asked for."""
    user = scope.known_user()
    with edge("guard.groups"):
        if user is not None:
            scope.groups = _groups(user)
        elif scope.actor() is not None:
            scope.groups = frozenset()


def settle(scope: RequestScope, status: int | None) -> None:
    """Fix what is recorded of a request. Where that fails, its bodies are not."""
    decision = scope.decision
    if decision.is_final:
        return
    with edge("guard.policy") as settling:
        facts = Facts(scope.route, _name(scope), scope.groups, status)
        for path in scope.paths():
            scope.decision = conf.policy.settle(path, scope.method, facts)
            if scope.decision.record:
                break
    if settling.failed:
        scope.decision = decision.without_bodies()


def excluded_by(scope: RequestScope) -> str:
    """Return what a request without a record is counted under."""
    return scope.left_out if scope.left_out and scope.decision.rule is None else scope.decision.by


def _name(scope: RequestScope) -> str | None:
    """Return the name of who acts, empty for nobody, None where it is not known."""
    actor = scope.actor()
    if actor is None:
        return None
    return "" if actor.id is None and actor.name == keys.ACTOR_ANONYMOUS else actor.name


def _groups(user: Any) -> frozenset[str]:
    groups = getattr(user, "groups", None)
    return frozenset() if groups is None else frozenset(groups.values_list("name", flat=True))
