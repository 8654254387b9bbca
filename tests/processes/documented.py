"""The class API as its documentation shows it, with only the root of the imports changed."""
# ruff: noqa
# mypy: ignore-errors

from otel_audit.models import ProcessAuditEvent, RegistrationAuditEvent, StepAuditEvent
from otel_audit.process_audit import ProcessAudit


class CreateProductProcessAudit(ProcessAudit):
    def create_process(self):
        return self.save_model(ProcessAuditEvent(name="Criar produto"))

    def create_steps(self, process):
        self.step_validation = self.save_model(
            StepAuditEvent(name="Validação dos Dados", order=1, process=process, total_registrations=2)
        )

    def register_validation(self, success, name=None, **extra):
        return self.save_model(
            RegistrationAuditEvent(name=name or "ok", step=self.step_validation, success=success, **extra)
        )


def create_product(request):
    process_audit = CreateProductProcessAudit(request)
    process_audit.register_validation(True)
    registration = process_audit.register_validation(False, "preço", description="muito baixo")
    return str(registration.pk)
