"""The pages of the library."""

import json

from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import F
from django.dispatch import Signal
from django.http import JsonResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST
from opentelemetry import trace

from library.models import Book, Loan

tracer = trace.get_tracer("library")
book_lent = Signal()


def catalogue(request):
    """List all titles."""
    return JsonResponse({"titles": list(Book.objects.values_list("title", flat=True))})


def book(request, pk):
    """Show one book."""
    found = get_object_or_404(Book, pk=pk)
    return JsonResponse({"title": found.title, "copies": found.copies})


async def availability(request, pk):
    """Say whether a copy stands on the shelf: an async view."""
    found = await Book.objects.filter(pk=pk).afirst()
    return JsonResponse({"available": found is not None and found.copies > 0})


def export(request):
    """Stream the catalogue."""
    return StreamingHttpResponse((f"{found.title}\n" for found in Book.objects.iterator()), content_type="text/plain")


@require_POST
def sign_in(request):
    """Begin a session."""
    given = json.loads(request.body)
    user = authenticate(request, username=given["username"], password=given["password"])
    if user is None:
        return JsonResponse({"detail": "Unknown reader."}, status=400)
    login(request, user)
    return JsonResponse({"reader": user.get_username()})


@require_POST
def sign_out(request):
    """End the session."""
    logout(request)
    return JsonResponse({}, status=205)


@require_POST
@login_required(login_url="/sign-in/")
def lend(request, pk):
    """Lend a copy to the reader, and say so once that is certain."""
    with tracer.start_as_current_span("lend"), transaction.atomic():
        if not Book.objects.filter(pk=pk, copies__gt=0).update(copies=F("copies") - 1):
            return JsonResponse({"detail": "No copy is left."}, status=409)
        loan = Loan.objects.create(book_id=pk, reader=request.user)
        transaction.on_commit(lambda: book_lent.send(Loan, loan=loan))
    return JsonResponse({"loan": loan.pk}, status=201)


def closed_reading_room(request):
    """Fail."""
    raise RuntimeError("The reading room is closed.")
