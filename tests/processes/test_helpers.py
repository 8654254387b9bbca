"""``process`` and ``step``: as context managers and decorators, sync and async, nested, in threads and elsewhere."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import RequestFactory, override_settings
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import format_span_id

from otel_audit import actor, process, step
from otel_audit.provider import site_tracer
from otel_audit.scope import current_note
from otel_audit.testing import AuditRecords

pytestmark = pytest.mark.usefixtures("provider")


class ShopError(Exception):
    """What the site's own code raises."""


def by_name(rows: list[Any]) -> dict[str, Any]:
    """Return rows by their names."""
    found = {row.name: row for row in rows}
    assert len(found) == len(rows)
    return found


# ── context managers ────────────────────────────────────────────────────────────────────────────────


def test_steps_are_numbered_in_the_order_of_their_start(records: AuditRecords) -> None:
    with process("Bake") as p:
        for name in ("mix", "rise", "bake"):
            with p.step(name):
                pass

    assert [(row.order, row.name) for row in records.steps] == [(1, "mix"), (2, "rise"), (3, "bake")]


def test_given_order_and_expectation_are_kept(records: AuditRecords) -> None:
    with process("Bake") as p:
        with p.step("bake", order=30, expect=5):
            pass
        with p.step("nothing to say", expect=0):
            pass

    steps = by_name(records.steps)
    assert (steps["bake"].order, steps["bake"].total_registrations) == (30, 5)
    assert steps["nothing to say"].total_registrations == 0


def test_step_finds_the_process_around_it(records: AuditRecords) -> None:
    with process("Bake"), step("mix") as s:
        s.register(True, "flour")

    assert records.steps[0].process_id == records.processes[0].id
    assert records.registrations[0].step_id == records.steps[0].id


def test_step_alone_has_no_process(records: AuditRecords) -> None:
    with step("mix"):
        pass

    assert records.steps[0].process_id is None
    assert records.processes == []


def test_nested_step_belongs_to_the_same_process(records: AuditRecords) -> None:
    with process("Bake") as p, p.step("mix") as outer, step("weigh") as inner:
        inner.register(True, "flour")
        outer.register(True, "bowl")

    steps, registrations = by_name(records.steps), by_name(records.registrations)
    assert steps["mix"].process_id == steps["weigh"].process_id == records.processes[0].id
    assert steps["weigh"].parent_span_id == steps["mix"].span_id
    assert registrations["flour"].step_id == steps["weigh"].id
    assert registrations["bowl"].step_id == steps["mix"].id


def test_nested_process_is_a_process_of_its_own(records: AuditRecords) -> None:
    with process("Dinner") as outer, process("Bake") as inner:
        with inner.step("mix"):
            pass
        with outer.step("lay the table"):
            pass

    processes, steps = by_name(records.processes), by_name(records.steps)
    assert steps["mix"].process_id == processes["Bake"].id
    assert steps["lay the table"].process_id == processes["Dinner"].id
    assert (steps["mix"].order, steps["lay the table"].order) == (1, 1)
    assert steps["lay the table"].parent_span_id == processes["Dinner"].span_id


def test_sibling_processes_share_nothing(records: AuditRecords) -> None:
    for name in ("one", "two"):
        with process(name) as p, p.step(f"step of {name}"):
            pass

    processes, steps = by_name(records.processes), by_name(records.steps)
    assert steps["step of two"].process_id == processes["two"].id
    assert processes["one"].trace_id != processes["two"].trace_id
    assert current_note.get() is None


def test_caught_exception_fails_the_step_alone(records: AuditRecords) -> None:
    with process("Bake") as p:
        with pytest.raises(ShopError), p.step("mix"):
            raise ShopError("no flour")
        with p.step("buy flour"):
            pass

    steps = by_name(records.steps)
    assert (steps["mix"].outcome, steps["buy flour"].outcome) == ("failure", "success")
    assert steps["mix"].extra_informations["exception"]["message"] == "no flour"
    assert records.processes[0].outcome == "success"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_interrupt_fails_them_too(records: AuditRecords, kind: type[BaseException]) -> None:
    with pytest.raises(kind), process("Bake") as p, p.step("mix"):
        raise kind

    assert {row.outcome for row in (*records.processes, *records.steps)} == {"failure"}


def test_extra_facts_are_recorded_and_redacted(records: AuditRecords) -> None:
    with process("Bake", sku="A-1", password="hunter2") as p:
        p.set_extra(oven="hot")
        with p.step("mix", bowl=3) as s:
            s.register(True, "flour", grams=500, api_key="hunter2")

    assert records.processes[0].extra_informations["sku"] == "A-1"
    assert records.processes[0].extra_informations["oven"] == "hot"
    assert records.steps[0].extra_informations == {"bowl": 3}
    assert records.registrations[0].extra_informations["grams"] == 500
    assert all("hunter2" not in str(row.extra_informations) for row in records)


def test_odd_names_are_recorded_as_text(records: AuditRecords) -> None:
    with process(7) as p, p.step(None, expect="two") as s:  # type: ignore[arg-type]
        s.register(1, object)  # type: ignore[arg-type]

    assert records.processes[0].name == "7"
    assert records.steps[0].total_registrations == 1
    assert records.registrations[0].success is True
    assert "object" in records.registrations[0].name


def test_registration_says_its_record_id(records: AuditRecords) -> None:
    with step("mix") as s:
        found = s.register(False, "flour", "none left")

    (row,) = records.registrations
    assert found == str(row.id)
    assert (row.success, row.outcome, row.description) == (False, "failure", "none left")


def test_ids_of_the_rows_are_known_before_they_are_written(records: AuditRecords) -> None:
    with process("Bake") as p, p.step("mix") as s:
        ids = (p.id, s.id)

    assert ids == (str(records.processes[0].id), str(records.steps[0].id))


def test_registration_after_the_step_is_recorded_without_a_warning(
    records: AuditRecords, caplog: pytest.LogCaptureFixture
) -> None:
    with step("mix") as s:
        pass

    with caplog.at_level(logging.WARNING):
        s.register(True, "late")

    assert records.registrations[0].step_id == records.steps[0].id
    assert caplog.records == []


def test_span_that_was_ended_by_hand_leaves_nothing_behind(records: AuditRecords) -> None:
    before = trace.get_current_span()

    with process("Bake") as p:
        p.span.end()

    assert len(records.processes) == 1
    assert current_note.get() is None
    assert trace.get_current_span() is before


def test_begin_and_end_by_hand(records: AuditRecords) -> None:
    p = process("Bake")
    p.begin()
    s = p.step("mix")
    s.begin()
    s.end()
    s.end()
    p.end(ShopError("burnt"))

    assert len(records.steps) == 1
    assert records.processes[0].outcome == "failure"
    assert current_note.get() is None


def test_begun_and_dropped_process_is_no_leak(records: AuditRecords) -> None:
    p = process("Forgotten")
    p.begin(make_current=False)
    span = weakref.ref(p.span)

    del p
    gc.collect()

    assert span() is None
    assert records.processes == []


# ── decorators ──────────────────────────────────────────────────────────────────────────────────────


def test_each_call_of_a_decorated_function_is_a_process(records: AuditRecords) -> None:
    @process("Bake", sku="A-1")
    def bake(number: int) -> int:
        """Bake one."""
        with step("mix"):
            return number * 2

    assert [bake(1), bake(2)] == [2, 4]

    assert bake.__name__ == "bake"
    assert len({row.id for row in records.processes}) == 2
    assert {row.process_id for row in records.steps} == {row.id for row in records.processes}
    assert [row.extra_informations for row in records.processes] == [{"sku": "A-1"}] * 2


def test_decorated_function_may_call_itself(records: AuditRecords) -> None:
    @step("fold")
    def fold(times: int) -> None:
        if times:
            fold(times - 1)

    with process("Bake"):
        fold(2)

    assert [row.order for row in sorted(records.steps, key=lambda row: row.order or 0)] == [1, 2, 3]
    assert {row.process_id for row in records.steps} == {records.processes[0].id}


async def test_decorated_coroutine_is_a_process(records: AuditRecords) -> None:
    @process("Bake")
    async def bake() -> str:
        async with step("rise") as s:
            await asyncio.sleep(0)
            s.register(True, "risen")
        return "bread"

    assert await bake() == "bread"

    assert records.steps[0].process_id == records.processes[0].id
    assert records.registrations[0].step_id == records.steps[0].id


async def test_exception_of_a_decorated_coroutine_is_recorded(records: AuditRecords) -> None:
    @process("Bake")
    async def bake() -> None:
        await asyncio.sleep(0)
        raise ShopError("burnt")

    with pytest.raises(ShopError):
        await bake()

    assert records.processes[0].outcome == "failure"


# ── elsewhere ───────────────────────────────────────────────────────────────────────────────────────


async def test_tasks_of_a_process_belong_to_it(records: AuditRecords) -> None:
    async def work(number: int) -> None:
        async with step(f"number {number}") as s:
            await asyncio.sleep(0)
            s.register(True, f"done {number}")

    async with process("Batch"):
        await asyncio.gather(*(work(number) for number in range(5)))

    steps = by_name(records.steps)
    assert {row.process_id for row in records.steps} == {records.processes[0].id}
    assert sorted(row.order or 0 for row in records.steps) == [1, 2, 3, 4, 5]
    assert all(row.step_id == steps[f"number {row.name[5:]}"].id for row in records.registrations)


async def test_concurrent_processes_are_kept_apart(records: AuditRecords) -> None:
    async def work(number: int) -> None:
        async with process(f"batch {number}") as p:
            await asyncio.sleep(0)
            async with p.step(f"step of batch {number}"):
                await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(5)))

    processes = by_name(records.processes)
    assert all(row.process_id == processes[row.name[8:]].id for row in records.steps)


def test_step_asked_of_a_process_belongs_to_it_in_any_thread(records: AuditRecords) -> None:
    def work(number: int) -> None:
        with p.step(f"number {number}") as s, step(f"inside {number}"):
            s.register(True, f"done {number}")

    with process("Batch") as p, ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(6)))

    (row,) = records.processes
    steps = by_name(records.steps)
    assert {found.process_id for found in records.steps} == {row.id}
    assert {found.trace_id for found in records.steps} == {row.trace_id}
    assert all(steps[f"number {n}"].parent_span_id == row.span_id for n in range(6))
    assert all(steps[f"inside {n}"].parent_span_id == steps[f"number {n}"].span_id for n in range(6))
    assert all(found.step_id == steps[f"number {found.name[5:]}"].id for found in records.registrations)


def test_process_of_a_thread_is_its_own(records: AuditRecords) -> None:
    def work() -> None:
        with process("In a thread"), step("work"):
            pass

    with process("Outside"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    processes = by_name(records.processes)
    assert records.steps[0].process_id == processes["In a thread"].id


def test_ordinary_spans_hide_nothing(records: AuditRecords) -> None:
    with process("Bake") as p:
        tracer = trace.get_tracer("shop")
        span = tracer.start_as_current_span
        with span("SELECT"), span("inner"), step("mix") as s, span("INSERT"):
            s.register(True, "flour")
        with p.step("bake"):
            pass

    steps = by_name(records.steps)
    assert steps["mix"].process_id == steps["bake"].process_id == records.processes[0].id
    assert records.registrations[0].step_id == steps["mix"].id


def test_process_inside_a_generator_that_is_never_finished_is_recorded(records: AuditRecords) -> None:
    def bake() -> Iterator[int]:
        with process("Bake"), step("mix"):
            yield 1

    baking = bake()
    next(baking)
    del baking
    gc.collect()

    assert len(records.processes) == len(records.steps) == 1


# ── who acts ────────────────────────────────────────────────────────────────────────────────────────


def test_actor_of_a_script_is_named(records: AuditRecords) -> None:
    with actor("system", "nightly-import") as who, process("Import") as p, p.step("read") as s:
        s.register(True, "file")

    assert who.name == "nightly-import"
    assert {(row.created_by, row.actor_name, row.actor_type) for row in records} == {
        ("nightly-import", "nightly-import", "system")
    }


def test_actor_ends_with_its_block(records: AuditRecords) -> None:
    with actor("service", "outer"):
        with actor("user", "inner"), process("one"):
            pass
        with process("two"):
            pass
    with process("three"):
        pass

    assert {name: row.actor_name for name, row in by_name(records.processes).items()} == {
        "one": "inner",
        "two": "outer",
        "three": "unknown",
    }


# ── nothing breaks ──────────────────────────────────────────────────────────────────────────────────


@override_settings(OTEL_AUDIT={"DATABASE": "audit", "ENABLED": False})
def test_switched_off_everything_runs(records: AuditRecords) -> None:
    @process("Bake")
    def bake() -> int:
        with step("mix") as s:
            assert s.register(True, "flour") is None
            assert s.id is None
        return 1

    with actor("system", "x"), process("y") as p:
        p.set_extra(a=1)

    assert bake() == 1
    assert list(records) == []


def test_foreign_sampler_of_another_tracer_provider_is_left_alone(records: AuditRecords) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)

    with process("Bake"), provider.get_tracer("other").start_as_current_span("dropped") as span, step("mix"):
        assert not span.is_recording()

    assert len(records.steps) == 1


def test_step_of_a_request_object_without_a_guard_is_outside_a_request(records: AuditRecords) -> None:
    RequestFactory().get("/")

    with process("Bake"):
        pass

    assert records.processes[0].request_id is None


def test_row_is_the_span(records: AuditRecords) -> None:
    with process("Bake") as p:
        span_id = format_span_id(p.span_context.span_id)

    assert records.processes[0].span_id == span_id
    assert site_tracer() is not None
