"""One business process, audited in the three ways that give the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry import trace

from otel_audit import process
from otel_audit.models import ProcessAuditEvent, RegistrationAuditEvent, StepAuditEvent
from otel_audit.process_audit import ProcessAudit


class ShopError(Exception):
    """What the site's own code raises."""


Register = Callable[..., None]


def plain(request: Any, count: int, fails: bool) -> None:
    """By OpenTelemetry alone."""
    tracer = trace.get_tracer("shop")
    with tracer.start_as_current_span(
        "Create product",
        attributes={"audit.kind": "process", "audit.process.description": "one tea", "sku": "A-1"},
    ):
        with tracer.start_as_current_span(
            "Validate",
            attributes={
                "audit.kind": "step",
                "audit.step.expected_registrations": count,
                "audit.step.description": "by hand",
            },
        ) as span:
            for number in range(count):
                span.add_event(
                    "audit.registration",
                    {
                        "audit.registration.name": f"check {number}",
                        "audit.registration.success": number != 1,
                        "audit.registration.description": "looked",
                        "n": number,
                    },
                )
        with tracer.start_as_current_span("Save", attributes={"audit.kind": "step"}) as span:
            if fails:
                raise ShopError("the shelf is full")
            span.add_event("audit.registration", {"audit.registration.success": True})


def helpers(request: Any, count: int, fails: bool) -> None:
    """By our context managers."""
    with process("Create product", "one tea", sku="A-1") as p:
        with p.step("Validate", expect=count, description="by hand") as s:
            for number in range(count):
                s.register(number != 1, f"check {number}", "looked", n=number)
        with p.step("Save") as s:
            if fails:
                raise ShopError("the shelf is full")
            s.register(True)


class CreateProduct(ProcessAudit):
    """By the class API."""

    count = 2

    def create_process(self) -> ProcessAuditEvent:
        """Begin."""
        return self.save_model(
            ProcessAuditEvent(name="Create product", description="one tea", extra_informations={"sku": "A-1"})
        )

    def create_steps(self, process: ProcessAuditEvent) -> None:
        """Begin both steps."""
        self.validate = self.save_model(
            StepAuditEvent(
                name="Validate", order=1, process=process, total_registrations=self.count, description="by hand"
            )
        )
        self.save = self.save_model(StepAuditEvent(name="Save", order=2, process=process))


def classes(request: Any, count: int, fails: bool) -> None:
    """By the class API."""
    audit = type("Audit", (CreateProduct,), {"count": count})(request)
    for number in range(count):
        audit.save_model(
            RegistrationAuditEvent(
                name=f"check {number}",
                success=number != 1,
                description="looked",
                step=audit.validate,
                extra_informations={"n": number},
            )
        )
    if fails:
        raise ShopError("the shelf is full")
    audit.save_model(RegistrationAuditEvent(step=audit.save, success=True))


WAYS: dict[str, Callable[[Any, int, bool], None]] = {"plain": plain, "helpers": helpers, "classes": classes}
