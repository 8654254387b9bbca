"""The shop's business processes, each audited in one of the three ways that give the same rows.

`ProductCreation` uses the classes, `CheckoutView` context managers, `RestockView` OpenTelemetry alone.
"""

from typing import Any

from django.db import transaction
from django.db.models import F
from opentelemetry import trace
from rest_framework.exceptions import ValidationError
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from otel_audit import annotate, process
from otel_audit.models import ProcessAuditEvent, RegistrationAuditEvent, StepAuditEvent
from otel_audit.process_audit import ProcessAudit
from shop.models import Product
from shop.serializers import OrderSerializer
from shop.views import ProductViewSet

tracer = trace.get_tracer("shop")


class CreateProductProcessAudit(ProcessAudit):
    """The process "Create product": its data is validated, then it is saved."""

    def create_process(self) -> ProcessAuditEvent:
        """Begin the process."""
        return self.save_model(ProcessAuditEvent(name="Create product"))

    def create_steps(self, process: ProcessAuditEvent) -> None:
        """Begin both steps; the validation is expected to register two results, the saving one."""
        self.step_validation = self.save_model(
            StepAuditEvent(name="Validate", order=1, process=process, total_registrations=2)
        )
        self.step_saving = self.save_model(StepAuditEvent(name="Save", order=2, process=process))

    def register_validation(self, success: bool, name: str | None = None, **extra: Any) -> RegistrationAuditEvent:
        """Register one result of the validation."""
        return self.save_model(
            RegistrationAuditEvent(name=name or "ok", step=self.step_validation, success=success, **extra)
        )

    def register_saving(self, success: bool, name: str | None = None, **extra: Any) -> RegistrationAuditEvent:
        """Register that the product was saved."""
        return self.save_model(
            RegistrationAuditEvent(name=name or "ok", step=self.step_saving, success=success, **extra)
        )


class ProductCreation(ProductViewSet):
    """The catalogue, whose products are created through an audited process."""

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Validate and save a product, and register each result."""
        process_audit = CreateProductProcessAudit(request)
        serializer = self.get_serializer(data=request.data)
        complete = serializer.is_valid()
        process_audit.register_validation(complete, "The data is complete", description=str(serializer.errors or ""))
        serializer.is_valid(raise_exception=True)

        price = serializer.validated_data["price"]
        process_audit.register_validation(price > 0, "The price is positive", description=f"price {price}")
        if price <= 0:
            raise ValidationError({"price": ["A price has to be positive."]})

        product = serializer.save()
        process_audit.register_saving(True, f"Product {product.pk} was saved")
        return Response(serializer.data, status=201)


class CheckoutView(APIView):
    """Buys one product, audited with context managers."""

    permission_classes = [IsAuthenticated]

    def post(self, request: Request) -> Response:
        """Reserve the stock and confirm the order."""
        order = OrderSerializer(data=request.data)
        order.is_valid(raise_exception=True)
        quantity = order.validated_data["quantity"]
        product = get_object_or_404(Product, sku=order.validated_data["sku"])
        annotate(request, basket={product.sku: quantity})
        with process("Checkout") as p:
            with p.step("Reserve stock", expect=2) as s:
                s.register(True, "The product is on sale")
                reserved = _reserve(product, quantity)
                s.register(reserved, "The stock suffices", f"{product.stock} left, {quantity} wanted")
            if not reserved:
                return Response({"detail": "We have fewer than that."}, status=409)
            with p.step("Confirm order") as s:
                s.register(True, "The order is confirmed", total=str(product.price * quantity))
        return Response(order.data, status=201)


class RestockView(APIView):
    """Puts ten more of a product on the shelf, audited with OpenTelemetry's own interface alone."""

    permission_classes = [IsAuthenticated]

    def post(self, request: Request, sku: str) -> Response:
        """Count and restock."""
        with tracer.start_as_current_span("Restock", attributes={"audit.kind": "process"}):
            with tracer.start_as_current_span("Count the shelf", attributes={"audit.kind": "step"}) as step:
                product = get_object_or_404(Product, sku=sku)
                step.add_event(
                    "audit.registration",
                    {
                        "audit.registration.name": "The shelf is counted",
                        "audit.registration.success": True,
                        "pieces": product.stock,
                    },
                )
            with tracer.start_as_current_span("Fill the shelf", attributes={"audit.kind": "step"}) as step:
                Product.objects.filter(pk=product.pk).update(stock=F("stock") + 10)
                step.add_event(
                    "audit.registration",
                    {"audit.registration.name": "Ten pieces are added", "audit.registration.success": True},
                )
        return Response({"sku": sku, "stock": product.stock + 10})


def _reserve(product: Product, quantity: int) -> bool:
    """Take ``quantity`` pieces off the stock, unless fewer are left."""
    with transaction.atomic():
        left = Product.objects.filter(pk=product.pk, stock__gte=quantity)
        return left.update(stock=F("stock") - quantity) == 1
