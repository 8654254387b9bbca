"""What a site asserts about its own audit trail, with the fixture ``audit_records``."""

import pytest

pytestmark = pytest.mark.django_db


def test_a_page_is_recorded(client, audit_records):
    client.get("/books/", {"author": "hesse"})

    (request,) = audit_records.requests
    assert (request.url, request.query_params, request.status_code) == ("/books/", "author=hesse", 200)


def test_an_error_is_recorded_with_its_type(client, audit_records):
    with pytest.raises(RuntimeError):
        client.get("/reading-room/")

    assert audit_records.requests[0].error_type == "RuntimeError"


def test_each_test_begins_with_no_records(client, audit_records):
    assert len(audit_records) == 0


def test_records_can_be_cleared(client, audit_records):
    client.get("/books/")

    audit_records.clear()

    assert list(audit_records) == []


async def _read(async_client):
    return await async_client.get("/books/")


def test_an_async_client_is_recorded(async_client, audit_records):
    from asgiref.sync import async_to_sync

    async_to_sync(_read)(async_client)

    assert len(audit_records.requests) == 1
