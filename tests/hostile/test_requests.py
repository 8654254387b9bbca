"""Every hostile request has the answer that it has without us, and one row that says what happened."""

from __future__ import annotations

import pytest

from .conftest import People
from .sites import Audited, send
from .table import ENTRIES


@pytest.mark.parametrize("name", ENTRIES)
def test_hostile_request_has_its_own_answer_and_one_row(door: Audited, people: People, name: str) -> None:
    entry = ENTRIES[name]
    raw = entry.sent(people)

    before = _processes(door)
    bare = send(door.bare, raw)
    answer = send(door.server, raw)
    rows = door.new_rows()

    assert answer == bare
    if door.name in entry.refused:
        assert rows == []
        assert answer.status >= 400
        return
    assert len(rows) == 1, answer.status_line
    (row,) = rows
    url = (door.name == "asgi" and entry.asgi_url) or entry.url
    said = {"url": url, "method": entry.method, "status_code": answer.status}
    said["outcome"] = "failure" if answer.status >= 400 else "success"
    said.update(entry.row)
    wrong = {
        column: row[column]
        for column, value in said.items()
        if not (value(row[column]) if callable(value) else row[column] == value)
    }
    assert wrong == {}, said
    made = 1 if (entry.url, answer.status) == ("/data/", 200) else 0
    assert _processes(door) == [count + made for count in before]
    assert [line for line in door.site.own_log.splitlines() if line.startswith(("ERROR", "CRITICAL"))] == []
    assert list((door.site.directory / "spool").glob("quarantine*")) == []


def _processes(door: Audited) -> list[int]:
    """Count processes, steps and registrations."""
    tables = ("process", "step", "registration")
    counts = (f"(SELECT COUNT(*) FROM otel_audit_{table}auditevent)" for table in tables)
    ((found),) = door.site.databases.query(door.site.audit_alias, f"SELECT {', '.join(counts)}")
    return list(found)
