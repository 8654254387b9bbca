"""The receiver, mounted."""

from django.urls import path

from otel_audit.receiver import receive_traces

urlpatterns = [path("v1/traces", receive_traces)]
