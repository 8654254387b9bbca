"""Books and who has them."""

from django.conf import settings
from django.db import models


class Book(models.Model):
    """A title, and how many copies of it stand on the shelf."""

    title = models.CharField(max_length=200)
    copies = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["title"]

    def __str__(self) -> str:
        return self.title


class Loan(models.Model):
    """A copy that somebody took home."""

    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="loans")
    reader = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    lent_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.book} → {self.reader}"
