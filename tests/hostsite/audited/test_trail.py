"""What a site asserts about its own audit trail, in Django's style."""

from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import LiveServerTestCase, TestCase, override_settings
from library.models import Book
from opentelemetry import trace

from otel_audit import process
from otel_audit.models import RequestAuditEvent
from otel_audit.testing import capture


class TrailTests(TestCase):
    def setUp(self):
        self.book = Book.objects.create(title="Klingsor's Last Summer")
        self.reader = get_user_model().objects.create_user("klingsor", password="yellow")

    def test_a_loan_is_recorded_with_who_took_it(self):
        self.client.force_login(self.reader)

        with capture() as records:
            self.client.post(f"/books/{self.book.pk}/lend/")

        (request,) = records.requests
        self.assertEqual((request.method, request.status_code, request.route), ("POST", 201, "books/<int:pk>/lend/"))
        self.assertEqual((request.user, request.actor_name), (str(self.reader.pk), "klingsor"))

    def test_a_page_that_does_not_ask_who_reads_is_recorded_with_the_reader(self):
        self.client.force_login(self.reader)

        with capture() as records:
            self.client.get("/books/")

        self.assertEqual(records.requests[0].actor_name, "klingsor")

    def test_a_failed_sign_in_is_recorded_and_its_password_is_not(self):
        given = {"username": "klingsor", "password": "blue-is-wrong"}

        with capture() as records:
            self.client.post("/sign-in/", given, content_type="application/json")

        self.assertEqual([(login.status, login.username) for login in records.logins], [("Failed", "klingsor")])
        self.assertNotIn("blue-is-wrong", repr([vars(row) for row in records]))

    def test_processes_are_recorded_however_they_are_written(self):
        tracer = trace.get_tracer("library")

        with capture() as records:
            with process("Buy a book") as p, p.step("Choose") as s:
                s.register(True, "it has colours")
            with tracer.start_as_current_span("Bind a book", attributes={"audit.kind": "process"}):
                pass

        self.assertEqual([row.name for row in records.processes], ["Buy a book", "Bind a book"])
        self.assertEqual([row.process_id for row in records.steps], [records.processes[0].pk])
        self.assertEqual([row.name for row in records.registrations], ["it has colours"])

    def test_nothing_from_outside_the_block_is_recorded(self):
        self.client.get("/books/")

        with capture() as records:
            pass
        self.client.get("/books/")

        self.assertEqual(list(records), [])

    def test_a_block_inside_a_block_sees_its_own(self):
        with capture() as outer:
            self.client.get("/books/")
            with capture() as inner:
                self.client.get("/books/export/").getvalue()

        self.assertEqual([row.url for row in outer.requests], ["/books/", "/books/export/"])
        self.assertEqual([row.url for row in inner.requests], ["/books/export/"])

    def test_captured_rows_can_be_saved(self):
        with capture() as records:
            self.client.get("/books/")

        (request,) = records.requests
        self.assertTrue(request._state.adding)
        self.assertTrue(request.pk)


@override_settings(OTEL_AUDIT={**getattr(settings, "OTEL_AUDIT", {}), "DELIVERY": "sync"})
class StoredTrailTests(TestCase):
    databases = "__all__"

    def test_rows_can_be_stored_and_read_inside_a_test(self):
        with self.captureOnCommitCallbacks(execute=True):
            self.client.get("/books/")

        self.assertEqual(RequestAuditEvent.objects.get().url, "/books/")

    def test_they_are_gone_with_their_test(self):
        self.client.get("/books/export/").getvalue()

        self.assertEqual(RequestAuditEvent.objects.get().url, "/books/export/")


class LiveTrailTests(LiveServerTestCase):
    def test_requests_of_the_live_server_are_recorded(self):
        import urllib.request

        with capture() as records:
            urllib.request.urlopen(f"{self.live_server_url}/books/").close()

        self.assertEqual([row.status_code for row in records.requests], [200])
