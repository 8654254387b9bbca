"""The catalogue, with `TestCase`."""

from unittest import mock

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpResponse
from django.test import RequestFactory, SimpleTestCase, TestCase, modify_settings, override_settings

from library import views
from library.models import Book


class ShortCircuitMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        return HttpResponse("closed for today", status=503)


class CatalogueTests(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.book = Book.objects.create(title="The Glass Bead Game", copies=2)
        cls.reader = get_user_model().objects.create_user("josef", "josef@library.example", "castalia")

    def test_lists_titles_in_one_query(self):
        with self.assertNumQueries(1):
            response = self.client.get("/books/")

        self.assertEqual(response.json(), {"titles": ["The Glass Bead Game"]})
        self.assertEqual(response["X-Opening-Hours"], "9-17")

    def test_lists_titles_in_one_query_for_a_reader_with_a_session(self):
        self.client.force_login(self.reader)

        with self.assertNumQueries(1):
            response = self.client.get("/books/")

        self.assertFalse(response.has_header("Vary"))

    def test_shows_one_book(self):
        response = self.client.get(f"/books/{self.book.pk}/")

        self.assertEqual(response.json()["copies"], 2)
        self.assertEqual(response.resolver_match.route, "books/<int:pk>/")

    def test_knows_no_other_book(self):
        self.assertEqual(self.client.get("/books/0/").status_code, 404)

    def test_appends_the_slash(self):
        self.assertRedirects(self.client.get("/books"), "/books/", status_code=301, fetch_redirect_response=False)

    def test_streams_the_export(self):
        response = self.client.get("/books/export/")

        self.assertEqual(b"".join(response.streaming_content), b"The Glass Bead Game\n")
        self.assertNotIn("Content-Length", response.headers)

    def test_refuses_a_foreign_host(self):
        self.assertEqual(self.client.get("/books/", headers={"host": "evil.example"}).status_code, 400)

    def test_a_view_is_called_without_middleware(self):
        response = views.catalogue(RequestFactory().get("/books/"))

        self.assertEqual(response.status_code, 200)

    def test_the_client_raises_what_the_view_raises(self):
        with self.assertRaisesMessage(RuntimeError, "The reading room is closed."):
            self.client.get("/reading-room/")

    def test_a_client_that_does_not_raise_sees_the_error_page(self):
        self.client.raise_request_exception = False

        with self.assertLogs("django.request", "ERROR"):
            response = self.client.get("/reading-room/")

        self.assertEqual(response.status_code, 500)

    def test_nothing_is_logged_for_a_page_that_works(self):
        with self.assertNoLogs():
            self.client.get("/books/")

    @mock.patch("time.time", return_value=946684800.0)
    def test_the_clock_may_be_stopped(self, clock):
        self.assertEqual(self.client.get("/books/").status_code, 200)


class SettingsTests(TestCase):
    def test_middleware_may_be_replaced(self):
        with override_settings(MIDDLEWARE=["library.tests.test_catalogue.ShortCircuitMiddleware"]):
            self.assertEqual(len(settings.MIDDLEWARE), 1)
            self.assertEqual(self.client.get("/books/").status_code, 503)

        self.assertEqual(self.client_class().get("/books/").status_code, 200)

    def test_middleware_may_be_added(self):
        added = [*settings.MIDDLEWARE, "library.tests.test_catalogue.ShortCircuitMiddleware"]

        with override_settings(MIDDLEWARE=added):
            response = self.client_class().get("/books/")

        self.assertContains(response, "closed for today", status_code=503)
        self.assertEqual(response["X-Opening-Hours"], "9-17")

    @modify_settings(MIDDLEWARE={"remove": "library.middleware.OpeningHoursMiddleware"})
    def test_middleware_may_be_removed(self):
        self.assertNotIn("X-Opening-Hours", self.client.get("/books/").headers)

    @override_settings(ROOT_URLCONF="library.tests.other_urls")
    def test_addresses_may_be_replaced(self):
        self.assertEqual(self.client.get("/other/").status_code, 200)


class PagesWithoutDatabaseTests(SimpleTestCase):
    def test_a_page_that_needs_no_database_is_served_without_one(self):
        self.assertEqual(self.client.get("/nowhere/").status_code, 404)
