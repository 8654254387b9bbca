"""The catalogue and the sign-out: an ordinary DRF site. Nothing here knows that it is audited."""

import csv
import io
from collections.abc import Iterator

from django.contrib.auth import logout
from django.db import connection
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from rest_framework import mixins, viewsets
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from shop.models import Product
from shop.serializers import ProductSerializer


class ProductViewSet(
    mixins.CreateModelMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet
):
    """The catalogue: everybody reads, who is signed in adds products."""

    queryset = Product.objects.all()
    serializer_class = ProductSerializer


class SignOutView(APIView):
    """Ends the session of the browser. Bearer tokens are signed out by ``/api/token/blacklist/``."""

    def post(self, request: Request) -> Response:
        """Sign out."""
        logout(request)
        return Response(status=204)


class CrashView(APIView):
    """Fails as real views do: with an exception that nobody expected."""

    def get(self, request: Request) -> Response:
        """Divide the day's sales by the number of shops open on the moon."""
        shops_on_the_moon = 0
        return Response({"sales_per_shop": 1250 / shops_on_the_moon})


def price_list(request: HttpRequest) -> StreamingHttpResponse:
    """Stream the catalogue as CSV, row by row."""
    response = StreamingHttpResponse(_price_list_rows(), content_type="text/csv")
    response["Content-Disposition"] = 'attachment; filename="prices.csv"'
    return response


async def stock(request: HttpRequest, sku: str) -> JsonResponse:
    """Say how many of a product are left: an async view."""
    product = await Product.objects.filter(sku=sku).afirst()
    if product is None:
        return JsonResponse({"detail": f"There is no product {sku!r}."}, status=404)
    return JsonResponse({"sku": product.sku, "stock": product.stock})


def health(request: HttpRequest) -> JsonResponse:
    """Say that the shop is up and reaches its own database."""
    connection.ensure_connection()
    return JsonResponse({"status": "ok"})


def _price_list_rows() -> Iterator[str]:
    yield _csv_line("sku", "name", "price")
    for product in Product.objects.iterator():
        yield _csv_line(product.sku, product.name, product.price)


def _csv_line(*cells: object) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
