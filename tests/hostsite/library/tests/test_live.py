"""The library behind a real socket, with `LiveServerTestCase`."""

import json
import urllib.request

from django.test import LiveServerTestCase

from library.models import Book


class LiveTests(LiveServerTestCase):
    def setUp(self):
        self.book = Book.objects.create(title="Narcissus and Goldmund", copies=3)

    def read(self, path):
        with urllib.request.urlopen(self.live_server_url + path) as response:
            return response.read()

    def test_serves_the_catalogue(self):
        self.assertEqual(json.loads(self.read("/books/")), {"titles": ["Narcissus and Goldmund"]})

    def test_streams_the_export(self):
        self.assertEqual(self.read("/books/export/"), b"Narcissus and Goldmund\n")

    def test_serves_reader_after_reader(self):
        pages = [self.read(f"/books/{self.book.pk}/") for _ in range(12)]

        self.assertEqual(len(set(pages)), 1)
