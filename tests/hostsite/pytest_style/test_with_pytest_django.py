"""The library's tests in pytest's style: pytest-django's marks and fixtures."""

import urllib.request

import pytest
from django.contrib.auth import get_user_model
from library.models import Book, Loan


@pytest.fixture
def book(db):
    return Book.objects.create(title="Rosshalde", copies=1)


@pytest.fixture
def reader(db):
    return get_user_model().objects.create_user("johann", "johann@library.example", "veraguth")


def test_a_page_without_database(client):
    assert client.get("/nowhere/").status_code == 404


def test_the_catalogue_takes_one_query(client, book, django_assert_num_queries):
    with django_assert_num_queries(1):
        response = client.get("/books/")

    assert response.json() == {"titles": ["Rosshalde"]}


def test_a_reader_with_a_session_takes_one_query_too(client, book, reader, django_assert_num_queries):
    client.force_login(reader)

    with django_assert_num_queries(1):
        client.get("/books/")


@pytest.mark.parametrize("times", [1, 2])
def test_the_last_copy_is_lent_once(client, book, reader, times, django_capture_on_commit_callbacks):
    client.force_login(reader)

    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        answers = [client.post(f"/books/{book.pk}/lend/").status_code for _ in range(times)]

    assert answers == [201, 409][:times]
    assert len(callbacks) == 1


@pytest.mark.django_db(transaction=True)
def test_a_loan_is_committed(client):
    book = Book.objects.create(title="Peter Camenzind")
    client.force_login(get_user_model().objects.create_user("boppi", "boppi@library.example"))

    client.post(f"/books/{book.pk}/lend/")

    assert Loan.objects.count() == 1


def test_nothing_of_other_tests_is_there(transactional_db):
    assert not Book.objects.exists()


def test_a_live_server_serves_the_catalogue(live_server, transactional_db):
    Book.objects.create(title="Knulp")

    with urllib.request.urlopen(f"{live_server.url}/books/") as response:
        assert b"Knulp" in response.read()


def test_settings_may_be_changed(client, book, settings):
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "OpeningHours" not in name]

    assert "X-Opening-Hours" not in client.get("/books/").headers


@pytest.mark.django_db
def test_an_async_client(async_client, book):
    from asgiref.sync import async_to_sync

    response = async_to_sync(async_client.get)(f"/books/{book.pk}/availability/")

    assert response.json() == {"available": True}
