"""Stocktaking, audited with our helpers and with OpenTelemetry alone."""

import multiprocessing

from opentelemetry import trace

from otel_audit import actor, process

tracer = trace.get_tracer("backoffice")


def take_stock(name):
    """Record one process of one step and one registration."""
    with actor("system", "backoffice"), process(name) as p, p.step("Count") as s:
        s.register(True, "counted")


def take_stock_in_plain_opentelemetry(name):
    """Record the same without our helpers."""
    with (
        tracer.start_as_current_span(name, attributes={"audit.kind": "process"}),
        tracer.start_as_current_span("Count", attributes={"audit.kind": "step"}) as step,
    ):
        step.add_event("audit.registration", {"audit.registration.name": "counted", "audit.registration.success": True})


def take_stock_in_a_spawned_process(name):
    """Do it in a process that has to set up Django itself."""
    import django

    django.setup()
    take_stock(name)


def take_stock_in_children(method, names):
    """Take stock here and in one child process for each further name."""
    context = multiprocessing.get_context(method)
    target = take_stock if method == "fork" else take_stock_in_a_spawned_process
    here, *elsewhere = names
    take_stock(here)
    children = [context.Process(target=target, args=[name]) for name in elsewhere]
    for child in children:
        child.start()
    for child in children:
        child.join()
        if child.exitcode:
            raise SystemExit(f"A child process ended with status {child.exitcode}.")
