"""Lending: transactions, sessions, signals, tracing."""

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in
from django.test import TestCase, TransactionTestCase
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from library.models import Book, Loan
from library.views import book_lent


def listen(test):
    """Return a list to which every loan is added that is announced while ``test`` runs."""
    lent = []

    def receive(loan, **kwargs):
        lent.append(loan)

    book_lent.connect(receive, weak=False)
    test.addCleanup(book_lent.disconnect, receive)
    return lent


class LendingTests(TestCase):
    def setUp(self):
        self.book = Book.objects.create(title="Steppenwolf", copies=1)
        self.reader = get_user_model().objects.create_user("harry", "harry@library.example", "magic-theatre")

    def test_a_stranger_is_sent_to_the_sign_in(self):
        response = self.client.post(f"/books/{self.book.pk}/lend/")

        self.assertEqual(response.status_code, 302)

    def test_a_reader_signs_in_and_out(self):
        given = {"username": "harry", "password": "magic-theatre"}

        response = self.client.post("/sign-in/", given, content_type="application/json")

        self.assertEqual(response.json(), {"reader": "harry"})
        self.assertIn("sessionid", self.client.cookies)
        self.assertEqual(self.client.post("/sign-out/").status_code, 205)

    def test_a_wrong_password_is_refused(self):
        given = {"username": "harry", "password": "for-everybody"}

        self.assertEqual(self.client.post("/sign-in/", given, content_type="application/json").status_code, 400)

    def test_the_signal_of_a_sign_in_is_sent_once(self):
        seen = []
        user_logged_in.connect(lambda user, **kwargs: seen.append(user), weak=False, dispatch_uid="seen")

        self.client.login(username="harry", password="magic-theatre")

        self.assertEqual(seen, [self.reader])
        user_logged_in.disconnect(dispatch_uid="seen")

    def test_lending_costs_six_queries(self):
        self.client.force_login(self.reader)

        with self.assertNumQueries(6):  # session, user, savepoint, update, insert, release
            response = self.client.post(f"/books/{self.book.pk}/lend/")

        self.assertEqual(response.status_code, 201)

    def test_what_waits_for_the_commit_can_be_executed(self):
        self.client.force_login(self.reader)
        lent = listen(self)

        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            self.client.post(f"/books/{self.book.pk}/lend/")

        self.assertEqual(len(callbacks), 1)
        self.assertEqual([loan.book.title for loan in lent], ["Steppenwolf"])

    def test_the_last_copy_is_lent_once(self):
        self.client.force_login(self.reader)
        self.client.post(f"/books/{self.book.pk}/lend/")

        self.assertEqual(self.client.post(f"/books/{self.book.pk}/lend/").status_code, 409)

    def test_the_admin_shows_the_books(self):
        self.client.force_login(get_user_model().objects.create_superuser("thu"))

        self.assertContains(self.client.get("/admin/library/book/"), "Steppenwolf")


class CommittedLendingTests(TransactionTestCase):
    reset_sequences = True

    def test_a_loan_is_announced_after_the_commit(self):
        book = Book.objects.create(title="Demian")
        self.client.force_login(get_user_model().objects.create_user("emil", "emil@library.example"))
        lent = listen(self)

        self.client.post(f"/books/{book.pk}/lend/")

        self.assertEqual(lent, [Loan.objects.get(pk=1)])

    def test_the_tables_are_empty_again(self):
        self.assertFalse(Loan.objects.exists())


class TracingTests(TestCase):
    def test_the_spans_of_the_library_reach_its_own_provider(self):
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        book = Book.objects.create(title="Siddhartha")
        self.client.force_login(get_user_model().objects.create_user("govinda"))

        trace.set_tracer_provider(provider)
        self.client.post(f"/books/{book.pk}/lend/")

        self.assertIn("lend", [span.name for span in exporter.get_finished_spans()])
