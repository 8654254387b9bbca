"""Async views and clients."""

from django.test import TestCase

from library.models import Book


class AsyncTests(TestCase):
    async def test_an_async_client_reads_an_async_view(self):
        book = await Book.objects.acreate(title="Gertrude")

        response = await self.async_client.get(f"/books/{book.pk}/availability/")

        self.assertEqual(response.json(), {"available": True})

    async def test_an_async_client_reads_a_sync_view(self):
        self.assertEqual((await self.async_client.get("/books/")).json(), {"titles": []})

    def test_a_sync_client_reads_an_async_view(self):
        self.assertEqual(self.client.get("/books/1/availability/").json(), {"available": False})
